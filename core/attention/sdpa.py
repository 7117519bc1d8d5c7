"""Attention through PyTorch's fused operators, and block by block where these can't serve.

B samples, H query heads, G key/value heads, N queries, M keys, R rows of a block, D features a head.

Fused: one call of `scaled_dot_product_attention` under conditions in which it runs a fused kernel. In blocks: where the bias
needs a gradient, where it is too large to build at once, or where probabilities are dropped; each of these sends PyTorch's
operator on a CPU to its eager path, several times slower. A block is some samples, or some rows of one sample, with at
most 64 MiB of scores. The backward pass computes the probabilities again and hands each block's bias gradient straight to
the bias value's own graph.
"""

from __future__ import annotations




import torch
import torch.nn.functional as F
from torch import Tensor

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten

from isoform.core.attention import bias as biases
from isoform.core.attention.bias import Bias
from isoform.core.attention.blocks import attention_blocks, mask_of
from isoform.core.attention.reference import attention_reference, working_dtype
from isoform.core.attention.visible import Visible

FUSED_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def attention_sdpa(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGMD: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """[B, H, N, D]; see `isoform.core.attention.attention`."""
    if q_BHND.numel() == 0 or k_BGMD.numel() == 0:
        return attention_reference(q_BHND, k_BGMD, v_BGMD, bias=bias, visible=visible, scale=scale)
    # PyTorch's operator leaves its fused kernels where features aren't adjacent.
    q_BHND, k_BGMD, v_BGMD = (x if x.stride(-1) == 1 else x.contiguous() for x in (q_BHND, k_BGMD, v_BGMD))
    if bias is None and dropout == 0 and visible.everything:
        return _fused(q_BHND, k_BGMD, v_BGMD, None, False, scale)
    if dropout == 0 and bias is None and visible.plainly_causal:
        return _fused(q_BHND, k_BGMD, v_BGMD, None, True, scale)
    bias = biases.materialise(bias)
    if dropout == 0 and fits_at_once(bias, visible, q_BHND) and not needs_gradient(bias):
        return _fused(q_BHND, k_BGMD, v_BGMD, mask_of(bias, visible, q_BHND), False, scale)
    n_shared = q_BHND.shape[1] // k_BGMD.shape[1]
    if n_shared > 1:
        k_BGMD, v_BGMD = (x.repeat_interleave(n_shared, 1) for x in (k_BGMD, v_BGMD))
    return attention_blocks(
        q_BHND, k_BGMD, v_BGMD, bias=bias, visible=visible, scale=scale, dropout=dropout, seed=seed
    )


def needs_gradient(bias: Bias | None) -> bool:
    """Whether a gradient of the bias may be asked for."""
    return bias is not None and torch.is_grad_enabled() and any(x.requires_grad for x in tree_flatten(bias)[0])


def fits_at_once(bias: Bias | None, visible: Visible, q_BHND: Tensor) -> bool:
    """Whether the bias and mask of all rows take no more than the limit."""
    b, h, n, m = (1, 1, 1, visible.n_kv) if bias is None else bias.shape
    if bias is not None and not isinstance(bias, biases.Dense):
        return False  # materialise has found it too large
    if visible.limited:
        n = visible.n_q
    if visible.valid_kv_BM is not None:
        b = max(b, visible.valid_kv_BM.shape[0])
    return working_dtype(q_BHND).itemsize * b * h * n * m <= biases.LIMIT_BYTES


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if q.is_cuda:
        with sdpa_kernel(FUSED_BACKENDS):
            return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped)
    return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped)
