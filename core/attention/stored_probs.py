"""Attention that keeps its probabilities for the backward pass: for few keys, where they take little memory.

B samples, H heads (each with its own keys), N queries, M keys, D features a head, E features of a value, Z = samples x
heads.

The chunked path computes probabilities twice and cuts them up, which pays where they are large; here every step is one
operation over all samples and heads. The softmax is spelled out: PyTorch's own takes up to four times as long for rows
that are shorter than a vector register, and sums of short rows are fastest as products with ones.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.attention.bias import Bias
from isoform.core.attention.mask import Visible
from isoform.core.attention.reference import Dropout, working_dtype

VECTOR = 8  # numbers in a vector register
FEW = 16  # keys up to which the layout of the heads makes no difference


def attention_stored_probs(
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
    dense = None if bias is None else bias.to_dense().to(working_dtype(q_BHND))
    seen = visible.block(q_BHND.device)
    if seen is not None:
        seen = torch.zeros_like(seen, dtype=working_dtype(q_BHND)).masked_fill_(~seen, -torch.inf)
    factor = None
    if dropout > 0:
        shape = (*q_BHND.shape[:3], k_BHMD.shape[2])
        factor = (
            Dropout(dropout, seed, q_BHND.device).next(shape, working_dtype(q_BHND)).flatten(0, 1)
        )
    return _StoredProbs.apply(q_BHND, k_BHMD, v_BHME, dense, seen, factor, scale)


class _StoredProbs(torch.autograd.Function):
    """bias and mask (0 or -inf) broadcast to [B, H, N, M]; factor [Z, N, M] is what dropout multiplies with."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        factor: Tensor | None,
        scale: float,
    ) -> Tensor:
        shape = (*q.shape[:3], k.shape[2])
        tall = shape[3] > FEW and q.shape[3] % VECTOR > 0
        q, k, v = (_laid(x, tall) for x in (q, k, v))
        scores = _scores(
            q, k, None if bias is None or bias.shape != shape else bias.flatten(0, 1), scale
        )
        scores = scores.unflatten(0, shape[:2])
        if bias is not None and bias.shape != shape:
            scores += bias
        if mask is not None:
            scores += mask
        p = _softmax_(scores).flatten(0, 1)
        ctx.save_for_backward(q, k, v, p, factor)
        ctx.shape, ctx.scale, ctx.bias_shape = shape, scale, None if bias is None else bias.shape
        out = _mixed(p if factor is None else p * factor, v).unflatten(0, shape[:2])
        # Heads inside rows, so that joining them afterwards needs no copy.
        return out.transpose(1, 2).contiguous().transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "attention that keeps probabilities has no second derivatives: ask for impl='reference'"
            )
        q, k, v, p, factor = ctx.saved_tensors
        d_out = _laid(d_out, not v.is_contiguous())
        dp = _scores(d_out, v)
        if factor is not None:
            dp *= factor
        dv = _mixed((p if factor is None else p * factor).mT, d_out)
        ds = dp.sub_(_row_sums(p * dp)).mul_(p)
        dq = _mixed(ds, k).mul_(ctx.scale)
        dk = _mixed(ds.mT, q).mul_(ctx.scale)
        by_sample = ctx.shape[:2]
        d_bias = None
        if ctx.needs_input_grad[3]:
            d_bias = ds.unflatten(0, by_sample).sum_to_size(ctx.bias_shape)
        dq, dk, dv = (x.unflatten(0, by_sample) for x in (dq, dk, dv))
        return dq, dk, dv, d_bias, None, None, None


def _laid(x_BHND: Tensor, tall: bool) -> Tensor:
    """[Z, N, D]; `tall`: in memory feature after feature, and so is what the functions below make of it.

    Products of small matrices take twice as long where the result has few columns that don't fill vector registers:
    then it is computed as its transpose, whose columns are tokens.
    """
    return x_BHND.mT.contiguous().flatten(0, 1).mT if tall else x_BHND.flatten(0, 1)


def _scores(
    a_ZND: Tensor, b_ZMD: Tensor, bias_ZNM: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """[Z, N, M] scale a b^T + bias."""
    turned = not a_ZND.is_contiguous()
    if turned:
        a_ZND, b_ZMD, bias_ZNM = b_ZMD, a_ZND, bias_ZNM if bias_ZNM is None else bias_ZNM.mT
    if bias_ZNM is None:
        scores = torch.bmm(a_ZND, b_ZMD.mT)
        scores = scores if scale == 1 else scores.mul_(scale)
    else:
        scores = torch.baddbmm(bias_ZNM, a_ZND, b_ZMD.mT, alpha=scale)
    return scores.mT if turned else scores


def _mixed(p_ZNM: Tensor, x_ZMD: Tensor) -> Tensor:
    """[Z, N, D] p x."""
    return torch.bmm(p_ZNM, x_ZMD) if x_ZMD.is_contiguous() else torch.bmm(x_ZMD.mT, p_ZNM.mT).mT


def _softmax_(scores: Tensor) -> Tensor:
    """The softmax of every row, in place; 0 in a row that is -inf throughout."""
    top = _row_tops(scores)
    empty = top == -torch.inf
    # exp takes up to 14 times as long for -inf and for results too small to be normal numbers: they are 0 without it.
    p = scores.sub_(top.masked_fill_(empty, 0.0)).clamp_(min=-80.0).exp_()
    F.threshold(p, 1e-34, 0.0, inplace=True)
    return p.div_(_row_sums(p).masked_fill_(empty, 1.0))


def _row_tops(x: Tensor) -> Tensor:
    """The largest of every row; by halves where rows are columns of memory, since amax doesn't vectorise them."""
    if x.is_contiguous():
        return x.amax(-1, keepdim=True)
    while (n := x.shape[-1]) > 1:
        half, odd = n // 2, x[..., n - 1 :]
        x = torch.maximum(x[..., :half], x[..., half : 2 * half])
        if n % 2:
            torch.maximum(x[..., :1], odd, out=x[..., :1])
    return x


def _row_sums(x: Tensor) -> Tensor:
    return x @ x.new_ones(x.shape[-1], 1) if x.is_contiguous() else x.sum(-1, keepdim=True)
