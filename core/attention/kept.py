"""Attention that keeps its probabilities for the backward pass: for few keys, where they take little memory.

B samples, H heads (each with its own keys), N queries, M keys, D features a head, E features of a value, Z = samples x
heads.

The blocks compute probabilities twice and cut them up, which pays where they are large; here every step is one
operation over all samples and heads. The softmax is spelled out: PyTorch's own takes up to four times as long for rows
that are shorter than a vector register, and sums of short rows are fastest as products with ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoform.core.attention.bias import Bias
from isoform.core.attention.reference import Dropout, working_dtype
from isoform.core.attention.visible import Visible


def attention_kept(
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
    """[B, H, N, E], of q's type, which is float32 or float64; see `isoform.core.attention.attention`."""
    dense = None if bias is None else bias.dense().to(working_dtype(q_BHND))
    seen = visible.block(q_BHND.device)
    if seen is not None:
        seen = torch.zeros_like(seen, dtype=working_dtype(q_BHND)).masked_fill_(~seen, -torch.inf)
    factor = None
    if dropout > 0:
        shape = (*q_BHND.shape[:3], k_BHMD.shape[2])
        factor = Dropout(dropout, seed, q_BHND.device).next(shape, working_dtype(q_BHND)).flatten(0, 1)
    return _Kept.apply(q_BHND, k_BHMD, v_BHME, dense, seen, factor, scale)


class _Kept(torch.autograd.Function):
    """bias and mask (0 or -inf) broadcast to [B, H, N, M]; factor [Z, N, M] is what dropout multiplies with."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None,
                factor: Tensor | None, scale: float) -> Tensor:  # fmt: skip
        shape = (*q.shape[:3], k.shape[2])
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        if bias is not None and bias.shape == shape:
            scores = torch.baddbmm(bias.flatten(0, 1), q, k.mT, alpha=scale).view(shape)
        else:
            scores = torch.bmm(q, k.mT).mul_(scale).view(shape)
            if bias is not None:
                scores += bias
        if mask is not None:
            scores += mask
        p = _softmax_(scores).flatten(0, 1)
        ctx.save_for_backward(q, k, v, p, factor)
        ctx.shape, ctx.scale, ctx.bias_shape = shape, scale, None if bias is None else bias.shape
        out = torch.bmm(p if factor is None else p * factor, v).unflatten(0, shape[:2])
        # Heads inside rows, so that joining them afterwards needs no copy.
        return out.transpose(1, 2).contiguous().transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("attention that keeps probabilities has no second derivatives: ask for impl='reference'")
        q, k, v, p, factor = ctx.saved_tensors
        d_out = d_out.flatten(0, 1)
        dp = torch.bmm(d_out, v.mT)
        if factor is not None:
            dp *= factor
        dv = torch.bmm((p if factor is None else p * factor).mT, d_out)
        ds = dp.sub_(_row_sums(p * dp)).mul_(p)
        dq, dk = torch.bmm(ds, k).mul_(ctx.scale), torch.bmm(ds.mT, q).mul_(ctx.scale)
        d_bias = ds.view(ctx.shape).sum_to_size(ctx.bias_shape) if ctx.needs_input_grad[3] else None
        return *(x.unflatten(0, ctx.shape[:2]) for x in (dq, dk, dv)), d_bias, None, None, None


def _softmax_(scores: Tensor) -> Tensor:
    """The softmax of every row, in place; 0 in a row that is -inf throughout."""
    top = scores.amax(-1, keepdim=True)
    empty = top == -torch.inf
    p = scores.sub_(top.masked_fill_(empty, 0.0)).exp_()
    return p.div_(_row_sums(p).masked_fill_(empty, 1.0))


def _row_sums(x: Tensor) -> Tensor:
    return x @ x.new_ones(x.shape[-1], 1)
