"""Attention through PyTorch's fused operators, and block by block where these can't serve.

B samples, H query heads, G key/value heads, N queries, M keys, R rows of a block, D features a head.

Fused: one call of `scaled_dot_product_attention` under conditions in which it runs a fused kernel. In blocks: where the bias
needs a gradient, where it is too large to build at once, or where probabilities are dropped; each of these sends PyTorch's
operator on a CPU to its eager path, several times slower. A block is some samples, or some rows of one sample, with at
most 64 MiB of scores. The backward pass computes the probabilities again and hands each block's bias gradient straight to
the bias value's own graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from isoform.core.attention import bias as biases
from isoform.core.attention.bias import Bias
from isoform.core.attention.reference import Dropout, attention_reference, working_dtype
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
        return _fused(q_BHND, k_BGMD, v_BGMD, _mask(bias, visible, q_BHND), False, scale)
    n_shared = q_BHND.shape[1] // k_BGMD.shape[1]
    if n_shared > 1:
        k_BGMD, v_BGMD = (x.repeat_interleave(n_shared, 1) for x in (k_BGMD, v_BGMD))
    keep = Dropout(dropout, seed, q_BHND.device).seed if dropout > 0 else None
    leaves, spec = tree_flatten(bias)
    return _Blocks.apply(q_BHND, k_BGMD, v_BGMD, scale, visible, dropout, keep, spec, *leaves)


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


def _mask(
    bias: Bias | None, visible: Visible, q: Tensor, batch: slice = biases.ALL, rows: slice = biases.ALL
) -> Tensor | None:
    """What is added to a block's scores: broadcasts to [B, H, R, M]; bool (True = seen) where there is no bias."""
    seen = visible.block(q.device, batch, rows)
    if bias is None:
        return seen
    dense = bias.dense(rows, batch).to(working_dtype(q))
    dense = dense[(None,) * (4 - dense.dim())]
    return dense if seen is None else torch.where(seen, dense, -torch.inf)


def blocks(q_BHND: Tensor, n_kv: int, width: int) -> Iterator[tuple[slice, slice]]:
    """(samples, rows) in order, each with at most LIMIT_BYTES of numbers, `width` for every pair (but at least one row)."""
    n_batch, _, n_rows, _ = q_BHND.shape
    row_bytes = working_dtype(q_BHND).itemsize * width * n_kv
    samples = biases.LIMIT_BYTES // (row_bytes * n_rows)
    if samples > 0:
        for b in range(0, n_batch, samples):
            yield slice(b, b + samples), biases.ALL
    else:
        rows = max(1, biases.LIMIT_BYTES // row_bytes)
        for b in range(n_batch):
            for r in range(0, n_rows, rows):
                yield slice(b, b + 1), slice(r, r + rows)


class _Blocks(torch.autograd.Function):
    """Attention in blocks; every head has its own keys. `leaves` and `spec` are the bias value, flattened."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, visible: Visible, dropout: float,
                seed: int | None, spec: Any, *leaves: Tensor | None) -> Tensor:  # fmt: skip
        bias = tree_unflatten(leaves, spec)
        width = q.shape[1] if bias is None else max(q.shape[1], bias.width)
        plan = list(blocks(q, k.shape[2], width))
        keep = Dropout(dropout, seed, q.device) if dropout > 0 else None
        # The operator's own layout: heads innermost, so that the heads are joined afterwards without a copy.
        out = q.new_empty(q.transpose(1, 2).shape).transpose(1, 2)
        lse = q.new_empty(q.shape[:3], dtype=working_dtype(q))
        for batch, rows in plan:
            at = (batch, biases.ALL, rows)
            mask = _mask(bias, visible, q, batch, rows)
            out[at], lse[at] = _block_forward(q[at], k[batch], v[batch], mask, scale, keep)
        ctx.save_for_backward(q, k, v, out, lse, *leaves)
        ctx.settings = scale, visible, dropout, seed, spec, plan
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *leaves = ctx.saved_tensors
        scale, visible, dropout, seed, spec, plan = ctx.settings
        dtype = lse.dtype
        keep = Dropout(dropout, seed, q.device) if dropout > 0 else None
        bias = tree_unflatten([x if x is None else x.detach() for x in leaves], spec)
        wanted = ctx.needs_input_grad[8:]
        d_leaves = [torch.zeros_like(x) if want else x for x, want in zip(leaves, wanted, strict=True)]
        d_bias = tree_unflatten(d_leaves, spec)
        dq, dk, dv = (torch.zeros_like(x, dtype=dtype) for x in (q, k, v))
        for batch, rows in plan:
            at = (batch, biases.ALL, rows)
            q_b, k_b, v_b, d_out_b = (x.to(dtype) for x in (q[at], k[batch], v[batch], d_out[at]))
            mask = _mask(bias, visible, q, batch, rows)
            p = _scores(q_b, k_b, mask, scale).sub_(lse[at][..., None]).exp_()
            dp = d_out_b @ v_b.mT
            kept = p
            if keep is not None:
                factor = keep.next(*p.shape, dtype=dtype)
                kept, dp = p * factor, dp.mul_(factor)
            dv[batch] += kept.mT @ d_out_b
            delta = (d_out_b * out[at]).sum(-1, keepdim=True)
            ds = dp.sub_(delta).mul_(p)
            dq[at] = ds @ k_b * scale
            dk[batch] += ds.mT @ q_b * scale
            if any(wanted):
                _pull(bias.cut(rows, batch), d_bias.cut(rows, batch), wanted, ds)
        grads = [x if want else None for x, want in zip(d_leaves, wanted, strict=True)]
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None, None, None, None, *grads


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = (q * scale) @ k.mT
    if mask is None:
        return scores
    return scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)


def _block_forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, keep: Dropout | None
) -> tuple[Tensor, Tensor]:
    """A block's output and the logarithm of its softmax's denominator (finite in a row without keys)."""
    if keep is None and q.device.type == "cpu":
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=mask, scale=scale)
    dtype = working_dtype(q)
    scores = _scores(q.to(dtype), k.to(dtype), mask, scale)
    lse = scores.logsumexp(-1)
    lse = lse.masked_fill(lse == -torch.inf, 0.0)
    p = scores.sub_(lse[..., None]).exp_()
    if keep is not None:
        p *= keep.next(*p.shape, dtype=dtype)
    return (p @ v.to(dtype)).to(q.dtype), lse


def _pull(bias: Bias, d_bias: Bias, wanted: tuple[bool, ...], ds: Tensor) -> None:
    """Adds the gradient of a block's bias to d_bias, whose tensors are views of the whole gradient's."""
    leaves, spec = tree_flatten(bias)
    leaves = [x.requires_grad_(want) if want else x for x, want in zip(leaves, wanted, strict=True)]
    with torch.enable_grad():
        dense = tree_unflatten(leaves, spec).whole()
    inputs = [x for x, want in zip(leaves, wanted, strict=True) if want]
    grads = torch.autograd.grad(dense, inputs, ds.sum_to_size(dense.shape))
    targets = [x for x, want in zip(tree_flatten(d_bias)[0], wanted, strict=True) if want]
    for target, grad in zip(targets, grads, strict=True):
        target += grad
