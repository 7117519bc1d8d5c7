"""Attention: one operation above implementations that can be exchanged.

B samples, H query heads, G key/value heads (H / G query heads share one), N queries, M keys, R chosen rows, D features
a head, E features of a value (usually D); T and S are the queries and keys of a whole packed batch.

    reference   eager, any floating-point type, the meaning, and the only one with second derivatives
    sdpa        PyTorch's fused kernels, and isoform's own operators where these can't serve: compiled C among them
    triton      isoform's GPU kernels
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from isoform.core.attention.bias import (
    Bias,
    Dense,
    Distance,
    Gaussians,
    PathTable,
    RelativeGrid,
    Slope,
    Sum,
    Table,
    kinds,
    materialise,
)
from isoform.core.attention.dispatch import (
    Request,
    explain_choice,
    sdpa_path,
    select_impl,
    unsupported_reason,
)
from isoform.core.attention.mask import Visible, Window, visible
from isoform.core.attention.reference import attention_reference, probabilities
from isoform.core.attention.sdpa import attention_sdpa
from isoform.core.attention.varlen import attention_varlen

PLAIN = nullcontext()

Impl = Literal["auto", "reference", "sdpa", "triton"]


def attention(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGME: Tensor,
    *,
    bias: Bias | Tensor | None = None,
    valid_q: Tensor | None = None,
    valid_kv: Tensor | None = None,
    offsets_q: Tensor | None = None,
    offsets_kv: Tensor | None = None,
    causal: bool = False,
    window: Window | None = None,
    dropout: float = 0.0,
    seed: int | None = None,
    scale: float | None = None,
    impl: Impl | str = "auto",
) -> Tensor:
    """softmax(scale q k^T + bias) v over the keys that each query sees, [B, H, N, E] (Vaswani et al. 2017, 3.2.1).

    bias      a value of `isoform.core.attention.bias`, or a tensor that broadcasts to [B, H, N, M]
    valid_q   [B, N] bool; rows that are False give 0 and no gradients
    valid_kv  [B, M] bool; keys that are False are seen by no query
    offsets_q, offsets_kv
              [B + 1] integers: the packed layout. q is [T, H, D], k is [S, G, D], v [S, G, E], the result [T, H, E];
              sample b owns rows offsets[b] to offsets[b + 1]; offsets_kv is offsets_q unless given. A bias is laid
              out as in the padded layout, [B, H, longest N, longest M]
    causal    no query sees later keys; the last query is aligned with the last key
    window    (left, right): how many keys before and after its place a query sees, None: no limit; an integer is both
    dropout   probability of dropping each attention probability; kept ones are scaled by 1 / (1 - dropout)
    seed      makes dropout a function of it, the same in every implementation but triton, which counts through numbers
              of its own; None: torch's global generator decides
    scale     1 / sqrt(D) if None
    impl      "auto" goes by `select_impl`; any other is used or, where it can't serve, refused

    What padding holds changes nothing, as long as it is finite. Places for `causal` and `window` are counted from the
    ends of N and M; where valid_q and valid_kv are both given, among each sample's real tokens and from their end.
    Scores, bias and softmax are float32 (float64 for float64 inputs); the result has q's type (autocast's, under
    autocast). A query that sees no key gives exactly 0 and zero gradients. Raises ValueError for shapes, types or
    settings that don't fit.
    """
    if offsets_q is not None or offsets_kv is not None:
        if valid_q is not None or valid_kv is not None:
            raise ValueError(
                "packed tokens are all real: give offsets or valid_q and valid_kv, not both"
            )
        packed = (q_BHND, k_BGMD, v_BGME, offsets_q, offsets_kv)
        seen = visible(0, 0, None, None, causal, window)
        request = _packed_request(q_BHND, v_BGME, bias, seen, dropout)
        if _is_for_packed_kernels(request, impl):
            from isoform.core.attention.triton_op import attention_triton_packed

            return attention_triton_packed(
                *packed,
                bias=Dense(bias) if isinstance(bias, Tensor) else bias,
                visible=seen,
                scale=scale,
                dropout=dropout,
                seed=seed,
            )
        return attention_varlen(
            attention,
            *packed,
            request=request,
            bias=bias,
            causal=causal,
            window=window,
            dropout=dropout,
            seed=seed,
            scale=scale,
            impl=impl,
        )
    bias = Dense(bias) if isinstance(bias, Tensor) else bias
    _check(q_BHND, k_BGMD, v_BGME, bias, valid_q, valid_kv, dropout)
    scale = 1 / math.sqrt(q_BHND.shape[3]) if scale is None else scale
    seen = visible(q_BHND.shape[2], k_BGMD.shape[2], valid_q, valid_kv, causal, window)
    device = q_BHND.device.type
    autocast: AbstractContextManager[object] = PLAIN
    if torch.is_autocast_enabled(device) and q_BHND.dtype != torch.float64:
        # What autocast would do, except that it would round the bias as well.
        low = _type_under_autocast(q_BHND)
        q_BHND, k_BGMD, v_BGME = (x.to(low) for x in (q_BHND, k_BGMD, v_BGME))
        autocast = torch.autocast(device, enabled=False)
    if not q_BHND.dtype == k_BGMD.dtype == v_BGME.dtype:
        raise ValueError(
            f"q, k and v must be of one type, got {q_BHND.dtype}, {k_BGMD.dtype} and {v_BGME.dtype}"
        )

    backward = torch.is_grad_enabled() and (
        q_BHND.requires_grad or k_BGMD.requires_grad or v_BGME.requires_grad
    )
    score_bytes = math.prod(q_BHND.shape[:3]) * k_BGMD.shape[2] * q_BHND.element_size()
    request = _request(q_BHND, bias, seen, dropout)
    request = request._replace(backward=backward, keys=k_BGMD.shape[2], score_bytes=score_bytes)
    if v_BGME.shape[3] != q_BHND.shape[3]:
        request = request._replace(value_dim=v_BGME.shape[3])
    if impl == "auto":
        impl = select_impl(request).name
    elif (
        impl in ("reference", "sdpa", "triton")
        and (why_not := unsupported_reason(impl, request)) is not None
    ):
        raise ValueError(
            f"attention impl={impl!r} can't serve this: {why_not}; ask for impl='auto' to have one chosen"
        )
    qkv = (q_BHND, k_BGMD, v_BGME)
    with autocast:
        match impl:
            case "reference":
                out = attention_reference(
                    *qkv, bias=bias, visible=seen, scale=scale, dropout=dropout, seed=seed
                )
            case "sdpa":
                path = sdpa_path(request).name
                out = attention_sdpa(
                    *qkv,
                    path=path,
                    bias=bias,
                    visible=seen,
                    scale=scale,
                    dropout=dropout,
                    seed=seed,
                )
            case "triton":
                from isoform.core.attention.triton_op import attention_triton

                out = attention_triton(
                    *qkv,
                    bias=bias,
                    visible=seen,
                    scale=scale,
                    dropout=dropout,
                    seed=seed,
                )
            case _:
                raise ValueError(
                    f"attention impl={impl!r} is unknown: choose auto, reference, sdpa or triton"
                )
    return out if valid_q is None else out.masked_fill(~valid_q[:, None, :, None], 0.0)


def attention_rows(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    rows: slice | Sequence[int] | Tensor,
    *,
    bias: Bias | Tensor | None = None,
    valid_q: Tensor | None = None,
    valid_kv: Tensor | None = None,
    causal: bool = False,
    window: Window | None = None,
    scale: float | None = None,
) -> Tensor:
    """[B, H, R, M] the attention probabilities of the chosen query rows alone, float32 (float64 for float64 inputs).

    rows is a slice or [R] indices into the N queries, negative ones counting from the end. The other arguments are
    `attention`'s; a row of a query that isn't real, or that sees no key, is 0. Differentiable twice.
    """
    bias = Dense(bias) if isinstance(bias, Tensor) else bias
    _check(q_BHND, k_BGMD, k_BGMD, bias, valid_q, valid_kv, 0.0)
    if not isinstance(rows, slice):
        rows = torch.as_tensor(rows, dtype=torch.long, device=q_BHND.device)
    scale = 1 / math.sqrt(q_BHND.shape[3]) if scale is None else scale
    seen = visible(q_BHND.shape[2], k_BGMD.shape[2], valid_q, valid_kv, causal, window)
    p_BHRM = probabilities(
        q_BHND[:, :, rows], k_BGMD, bias=bias, visible=seen, scale=scale, rows=rows
    )
    return p_BHRM if valid_q is None else p_BHRM.masked_fill(~valid_q[:, None, rows, None], 0.0)


def _packed_request(
    q_THD: Tensor, v_SGE: Tensor, bias: Bias | Tensor | None, seen: Visible, dropout: float
) -> Request:
    return Request(
        q_THD.device.type,
        _type_under_autocast(q_THD),
        q_THD.shape[-1],
        value_dim=0 if v_SGE.shape[-1] == q_THD.shape[-1] else v_SGE.shape[-1],
        bias=bias is not None,
        kinds=kinds(bias),
        coords_gradient=_wants_coords(bias),
        packed=True,
        dropout=dropout != 0,
        limited=seen.limited,
        traced=_traced(q_THD),
    )


def _is_for_packed_kernels(request: Request, impl: str) -> bool:
    """Whether the Triton kernels take these packed tokens as they are; others pad them, or go size by size."""
    if impl == "auto":
        return select_impl(request).name == "triton"
    return impl == "triton" and unsupported_reason("triton", request) is None


def _type_under_autocast(q: Tensor) -> torch.dtype:
    if torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        return torch.get_autocast_dtype(q.device.type)
    return q.dtype


def _wants_coords(bias: Bias | Tensor | None) -> bool:
    """Whether a distance's coordinates want a gradient."""
    if isinstance(bias, Sum):
        return any(_wants_coords(part) for part in bias.parts)
    if not isinstance(bias, Distance) or not torch.is_grad_enabled():
        return False
    return bias.coords_q_BNC.requires_grad or bias.coords_kv_BMC.requires_grad


def _request(q_BHND: Tensor, bias: Bias | None, seen: Visible, dropout: float) -> Request:
    mask_bytes = 0
    if seen.limited and not (bias is None and seen.plainly_causal):
        shape = [
            1 if seen.valid_kv_BM is None else seen.valid_kv_BM.shape[0],
            1,
            seen.n_q,
            seen.n_kv,
        ]
        if bias is not None:
            shape = [max(own, other) for own, other in zip(shape, bias.shape, strict=True)]
        mask_bytes = math.prod(shape) * q_BHND.element_size()
    uneven, limited = seen.place_q_BN is not None, seen.limited
    window = seen.left is not None or (seen.right is not None and seen.right > 0)
    facts = (q_BHND.device.type, q_BHND.dtype, q_BHND.shape[3])
    if bias is None:
        return Request(
            *facts,
            dropout=dropout > 0,
            window=window,
            uneven=uneven,
            limited=limited,
            mask_bytes=mask_bytes,
            traced=_traced(q_BHND),
        )
    b, _, n, m = bias.shape
    return Request(
        *facts,
        bias=True,
        kinds=kinds(bias),
        coords_gradient=_wants_coords(bias),
        bias_gradient=torch.is_grad_enabled() and any(x.requires_grad for x in tree_leaves(bias)),
        bias_bytes=0 if isinstance(bias, Dense) else 4 * b * n * m * bias.width,
        mask_bytes=mask_bytes,
        dropout=dropout > 0,
        window=window,
        uneven=uneven,
        limited=limited,
        traced=_traced(q_BHND),
    )


def _traced(q: Tensor) -> bool:
    """Whether the call is followed by a tracer instead of computed: such tensors have no memory to read."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return type(q) not in (Tensor, torch.nn.Parameter) or q.is_meta


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
    valid_q: Tensor | None,
    valid_kv: Tensor | None,
    dropout: float,
) -> None:
    if q.dim() != 4 or k.dim() != 4 or v.dim() != 4 or k.shape[:3] != v.shape[:3]:
        raise ValueError(
            "attention takes q [B, H, N, D], k [B, G, M, D] and v [B, G, M, E] (or [T, H, D], [S, G, D] and [S, G, E] "
            "with offsets), got "
            f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
        )
    n_batch, n_heads, n_q, n_dims = q.shape
    n_groups, n_kv = k.shape[1], k.shape[2]
    if k.shape[0] != n_batch or k.shape[3] != n_dims:
        raise ValueError(
            f"q {list(q.shape)} and k {list(k.shape)} differ in their number of samples or features"
        )
    if n_groups == 0 or n_heads % n_groups:
        raise ValueError(f"the {n_groups} key heads must divide the {n_heads} query heads")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability below 1, got {dropout}")
    for name, valid, n in (("valid_q", valid_q, n_q), ("valid_kv", valid_kv, n_kv)):
        if valid is not None and (valid.dtype != torch.bool or valid.shape != (n_batch, n)):
            raise ValueError(
                f"{name} is bool [{n_batch}, {n}], got {valid.dtype} {list(valid.shape)}"
            )
    if bias is not None:
        full = (n_batch, n_heads, n_q, n_kv)
        if any(own not in (1, all_) for own, all_ in zip(bias.shape, full, strict=True)):
            raise ValueError(
                f"a bias {list(bias.shape)} does not broadcast to [B, H, N, M] = {list(full)}"
            )


__all__ = [
    "Bias",
    "Dense",
    "Distance",
    "Gaussians",
    "Impl",
    "PathTable",
    "RelativeGrid",
    "Request",
    "Slope",
    "Sum",
    "Table",
    "Window",
    "attention",
    "attention_rows",
    "explain_choice",
    "materialise",
    "sdpa_path",
    "select_impl",
    "unsupported_reason",
]


class _Operation(ModuleType):
    """This package, callable: `from isoform.core import attention` is the operation whatever was imported before."""

    __call__ = staticmethod(attention)


sys.modules[__name__].__class__ = _Operation
