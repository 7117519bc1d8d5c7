"""Attention in chunks: its own forward and backward pass over some samples, or some rows of one sample, at a time.

B samples, H heads (each with its own keys), N queries, M keys, R rows of a chunk, D features a head, E features of a
value, Z = samples x heads.

For what PyTorch's fused operators can't do: hand a gradient to the bias, hold a bias that is too large to build at
once, drop probabilities, or mix values of another width than the keys. The forward pass keeps a row's log-sum-exp; the
backward pass computes the probabilities again (Dao et al., "FlashAttention", 2022, arXiv:2205.14135, algorithm 4) and
hands each chunk's bias gradient to the bias value's graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

import isoform.core.attention.bias as biases
from isoform.core.attention.bias import ALL, Bias
from isoform.core.attention.bias_gradient import BiasGradient
from isoform.core.attention.mask import Visible
from isoform.core.attention.reference import Dropout, working_dtype

# A chunk's scores are read and written half a dozen times, which is fastest near a core: samples are taken together up
# to what its own cache holds, and a single one is cut where its scores are larger than this.
NEAR_BYTES = 2**20
CHUNK_BYTES = 4 * 2**20


def attention_chunked(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHME: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """[B, H, N, E]; see `isoform.core.attention.attention`."""
    leaves, spec = tree_flatten(bias)
    seed = Dropout(dropout, seed, q_BHND.device).seed if dropout > 0 else None
    return _Chunked.apply(q_BHND, k_BHMD, v_BHME, scale, visible, dropout, seed, spec, *leaves)


def plan(q_BHND: Tensor, n_kv: int, bias: Bias | None) -> Iterator[tuple[slice, list[slice]]]:
    """Samples and the chunks of rows that they are cut into, in order; within the limit if one row of a sample is."""
    n_batch, n_heads, n_rows, _ = q_BHND.shape
    width = n_heads if bias is None else max(n_heads, bias.width)
    row_bytes = working_dtype(q_BHND).itemsize * width * n_kv
    # With 16-bit inputs a chunk's scores are held in both types.
    limit = min(CHUNK_BYTES if q_BHND.element_size() > 2 else CHUNK_BYTES // 2, biases.LIMIT_BYTES)
    samples = max(1, min(limit, NEAR_BYTES) // (row_bytes * n_rows))
    rows = max(1, min(n_rows, limit // row_bytes))
    for b in range(0, n_batch, samples):
        yield slice(b, b + samples), [slice(r, r + rows) for r in range(0, n_rows, rows)]


def mask_of(dense: Tensor | None, seen: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What is added to scores: broadcasts to [B, H, R, M]; bool (True = seen) where there is no bias."""
    if dense is None:
        return seen
    # Detached, since PyTorch's operator leaves its fused kernel at the sight of a mask that could have a gradient;
    # contiguous, since the kernel reads heads that stand innermost a third slower.
    dense = dense.detach().to(dtype).contiguous()
    return dense if seen is None else torch.where(seen, dense, -torch.inf)


class _Chunked(torch.autograd.Function):
    """`leaves` and `spec` are the bias value, flattened."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        visible: Visible,
        dropout: float,
        seed: int | None,
        spec: Any,
        *leaves: Tensor | None,
    ) -> Tensor:
        bias = tree_unflatten(leaves, spec)
        keep = Dropout(dropout, seed, q.device) if dropout > 0 else None
        # The fused operator's own layout: heads inside rows, so that joining the heads afterwards needs no copy.
        n_batch, n_heads, n_q, _ = q.shape
        out = q.new_empty(n_batch, n_q, n_heads, v.shape[3]).transpose(1, 2)
        lse = q.new_empty(q.shape[:3], dtype=working_dtype(q))
        if bias is None and keep is None and visible.everything and _is_fused(q, v):
            out, lse = _forward(
                q, k, v, None, scale, None
            )  # the fused kernel builds nothing large here
        else:
            for batch, chunks in plan(q, k.shape[2], bias):
                for rows in chunks:
                    dense = None if bias is None else bias.slice(rows, batch).to_dense()
                    mask = mask_of(dense, visible.block(q.device, batch, rows), lse.dtype)
                    part = _forward(q[batch, :, rows], k[batch], v[batch], mask, scale, keep)
                    out[batch, :, rows], lse[batch, :, rows] = part
        ctx.save_for_backward(q, k, v, lse, *leaves)
        ctx.settings = scale, visible, dropout, seed, spec, _all_see(lse)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if (
            torch.is_grad_enabled()
        ):  # `once_differentiable` would let a gradient's gradient with respect to q pass as 0
            raise RuntimeError(
                "attention in chunks has no second derivatives: ask for impl='reference'"
            )
        q, k, v, lse, *leaves = ctx.saved_tensors
        scale, visible, dropout, seed, spec, seen_all = ctx.settings
        bias = tree_unflatten([None if x is None else x.detach() for x in leaves], spec)
        d_bias = BiasGradient(bias, ctx.needs_input_grad[8:], q, k.shape[2])
        keep = Dropout(dropout, seed, q.device) if dropout > 0 else None
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        # As in PyTorch's kernel, scores are made in the working type and the other products of bfloat16 in bfloat16.
        working = lse.dtype
        low = q.dtype if q.dtype == torch.bfloat16 else working
        cuts = list(plan(q, k.shape[2], bias))
        # All chunks' scores, and their gradients, in the same two places: fresh memory is the slowest there is.
        most = q[cuts[0][0], :, cuts[0][1][0]].shape[:3].numel() * k.shape[2]
        places = [q.new_empty(most, dtype=working) for _ in range(2)]
        for batch, chunks in cuts:
            dk_b: Tensor | None = None
            dv_b: Tensor | None = None
            k_b, v_b = _stack(k[batch], low), _stack(v[batch], low)
            for rows in chunks:
                at = (batch, ALL, rows)
                shape = (*q[at].shape[:3], k.shape[2])
                part = d_bias.part(batch, rows)
                mask = mask_of(part.dense, visible.block(q.device, batch, rows), working)
                q_b, d_out_b = _stack(q[at], low), _stack(d_out[at], low)
                p, dp = (place[: math.prod(shape)].view(shape) for place in places)
                _score(p, q_b.to(working), k_b.to(working), mask, scale)
                torch.softmax(p, -1, out=p)
                if not seen_all:  # the softmax of nothing is NaN, and the log of its sum was 0
                    empty = (lse[at] == 0)[..., None] & p[..., :1].isnan()
                    p.masked_fill_(empty, 0.0)
                if low == working:
                    dp.flatten(0, 1).baddbmm_(d_out_b, v_b.mT, beta=0)
                else:
                    dp.copy_(torch.bmm(d_out_b, v_b.mT).view(shape))
                factor = None if keep is None else keep.next(shape, working)
                if factor is not None:
                    dp *= factor
                ds = torch._softmax_backward_data(dp, p, -1, working, grad_input=dp)
                if factor is not None:
                    p *= factor
                p_b, ds_b = p.flatten(0, 1).to(low), ds.flatten(0, 1).to(low)
                dv_b = _add(dv_b, torch.bmm(p_b.mT, d_out_b), working)
                dk_b = _add(dk_b, torch.bmm(ds_b.mT, q_b), working)
                dq[at] = torch.bmm(ds_b, k_b).mul_(scale).view(q[at].shape)
                part.add(ds)
            assert dk_b is not None and dv_b is not None
            dk[batch] = dk_b.mul_(scale).view(k[batch].shape)
            dv[batch] = dv_b.view(v[batch].shape)
        return dq, dk, dv, None, None, None, None, None, *d_bias.gradients()


def _stack(x_BHRD: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """[Z, R, D], in the type of scores unless told."""
    return x_BHRD.to(dtype or working_dtype(x_BHRD)).reshape(-1, *x_BHRD.shape[2:])


def _add(total: Tensor | None, part: Tensor, dtype: torch.dtype) -> Tensor:
    return part.to(dtype) if total is None else total.add_(part)


def _score(
    scores_BHRM: Tensor, q_ZRD: Tensor, k_ZMD: Tensor, mask: Tensor | None, scale: float
) -> None:
    """scale q k^T + mask, or -inf where a bool mask is False, into `scores_BHRM`."""
    added = None if mask is None or mask.dtype == torch.bool else mask
    if added is not None:
        scores_BHRM.copy_(added)
    beta = 0 if added is None else 1
    scores_BHRM.flatten(0, 1).baddbmm_(q_ZRD, k_ZMD.mT, beta=beta, alpha=scale)
    if mask is not None and added is None:
        scores_BHRM.masked_fill_(~mask, -torch.inf)


def _all_see(lse_BHN: Tensor) -> bool:
    """Whether surely every row has a key: in one without, the logarithm is 0."""
    if lse_BHN.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not bool((lse_BHN == 0).any())


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, keep: Dropout | None
) -> tuple[Tensor, Tensor]:
    """A chunk's output and the logarithm of its softmax's denominators (finite in a row without keys)."""
    if keep is None and _is_fused(q, v):
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=mask, scale=scale
        )
    shape = (*q.shape[:3], k.shape[2])
    scores = q.new_empty(shape, dtype=working_dtype(q))
    _score(scores, _stack(q), _stack(k), mask, scale)
    lse = scores.logsumexp(-1)
    lse = lse.masked_fill(lse == -torch.inf, 0.0)
    p = scores.sub_(lse[..., None]).exp_()
    if keep is not None:
        p *= keep.next(shape, p.dtype)
    return (p.flatten(0, 1) @ _stack(v)).view(*shape[:3], v.shape[3]), lse


def _is_fused(q: Tensor, v: Tensor) -> bool:
    """Whether PyTorch has one operator for a chunk's forward pass."""
    return q.device.type == "cpu" and q.shape[3] == v.shape[3]
