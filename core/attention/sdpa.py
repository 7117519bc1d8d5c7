"""Attention through PyTorch's fused operators, and through isoform's own where these can't serve.

B samples, H query heads, G key/value heads, N queries, M keys, D features a head, E features of a value.

PyTorch's operator chooses its kernel itself, and on a CPU falls to an eager path, several times slower, without a
word: for dropout, for a mask that requires a gradient (even where gradients are off), for a mask of 3 axes, for
features that aren't adjacent in memory, for values of another width than keys. Here it is called only in ways in which
it runs a fused kernel. On a CPU a bias that learns goes to compiled C (native.py) where there is a compiler.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from isoform.core.attention.bias import Bias, Table, materialise
from isoform.core.attention.chunked import attention_chunked, mask_of
from isoform.core.attention.mask import Visible
from isoform.core.attention.native import attention_native
from isoform.core.attention.reference import attention_reference, working_dtype
from isoform.core.attention.stored_probs import attention_stored_probs

FUSED_BACKENDS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
]


def attention_sdpa(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGME: Tensor,
    *,
    path: str,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """[B, H, N, E]; see `isoform.core.attention.attention`.

    `path` is what `dispatch.sdpa_path` says: fused, native, chunked, stored or eager.
    """
    if path == "eager" or q_BHND.numel() == 0 or k_BGMD.numel() == 0:
        return attention_reference(
            q_BHND,
            k_BGMD,
            v_BGME,
            bias=bias,
            visible=visible,
            scale=scale,
            dropout=dropout,
            seed=seed,
        )
    if path == "native":
        # A table goes in as it is; other biases are dense once.
        return attention_native(q_BHND, k_BGMD, v_BGME, bias=bias, visible=visible, scale=scale)
    if path == "fused":
        return _fused(q_BHND, k_BGMD, v_BGME, bias, visible, scale)
    n_shared = q_BHND.shape[1] // k_BGMD.shape[1]
    if n_shared > 1:
        k_BGMD, v_BGME = (
            k_BGMD.repeat_interleave(n_shared, 1),
            v_BGME.repeat_interleave(n_shared, 1),
        )
    attend = attention_stored_probs if path == "stored" else attention_chunked
    # Looked up in parts, twice, a table costs less than carried through memory once.
    parts = path == "chunked" and isinstance(bias, Table)
    return attend(
        q_BHND,
        k_BGMD,
        v_BGME,
        bias=bias if parts else materialise(bias),
        visible=visible,
        scale=scale,
        dropout=dropout,
        seed=seed,
    )


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
    visible: Visible,
    scale: float,
) -> Tensor:
    q, k, v = _adjacent(q), _adjacent(k), _adjacent(v)
    causal = bias is None and visible.plainly_causal
    mask = None
    if not causal and not (bias is None and visible.everything):
        dense = None if bias is None else bias.to_dense()
        mask = mask_of(dense, visible.block(q.device), working_dtype(q))
    grouped = q.shape[1] != k.shape[1]
    if not q.is_cuda:
        return F.scaled_dot_product_attention(
            q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped
        )
    with sdpa_kernel(FUSED_BACKENDS):
        return F.scaled_dot_product_attention(
            q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped
        )


def _adjacent(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
