"""Dropout whose random numbers cost a seventh of PyTorch's on a CPU, and whose masks a quarter of the memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16  # a probability is rounded to one of these


class Dropout(nn.Module):
    """nn.Dropout (Srivastava et al. 2014): zero with probability `p` in training, what stays scaled by 1 / (1 - p).

    On a CPU four elements share one draw of torch's global generator, so which are dropped isn't what PyTorch would
    drop; p is rounded to 1 / 65536.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is a probability below 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return dropout(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        """What a printed model shows."""
        return f"p={self.p}"


def dropout(x: Tensor, p: float) -> Tensor:
    """`x` with a random share `p` of its elements zero and the others scaled by 1 / (1 - p); see Dropout."""
    if p == 0:
        return x
    if not _is_ours(x):
        return F.dropout(x, p)
    if not torch.is_grad_enabled():
        return _scaled(x, *_draw(x, p))
    return _Dropout.apply(x, p)


def add_dropout(stream: Tensor, y: Tensor, p: float) -> Tensor:
    """stream + dropout(y, p), of one shape, in one pass less over memory; the same numbers are drawn."""
    alike = stream.shape == y.shape and stream.dtype == y.dtype
    if p == 0 or not alike or not _is_ours(y) or not torch.is_grad_enabled():
        return stream + dropout(y, p)
    return _AddDropout.apply(stream, y, p)


def keep_mask(words: Tensor, dropped: int) -> Tensor:
    """[..., 4 n] int16 of 1 and 0 from [..., n] random 64-bit numbers; `dropped` of 65536 values mean 0.

    By arithmetic alone: PyTorch doesn't vectorise what turns comparisons into numbers.
    """
    bits = words.view(torch.int16)
    if dropped == 0:
        return torch.ones_like(bits)
    last = dropped - LEVELS // 2 - 1  # the largest that means 0
    return bits.clamp(last, last + 1).sub_(last)


def _is_ours(x: Tensor) -> bool:
    busy = (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )
    return x.device.type == "cpu" and not busy


def _draw(x: Tensor, p: float) -> tuple[Tensor, float]:
    dropped = min(round(p * LEVELS), LEVELS - 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    mask = keep_mask(words, dropped).to(torch.int8)[: x.numel()].view(x.shape)
    return mask, LEVELS / (LEVELS - dropped)


def _scaled(x: Tensor, mask: Tensor, factor: float) -> Tensor:
    # In place where a second derivative can't want the mask: fresh memory costs more than the product.
    factors = mask.to(x.dtype).mul_(factor)
    return factors * x if torch.is_grad_enabled() else factors.mul_(x)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask, ctx.factor = _draw(x, p)
        ctx.save_for_backward(mask)
        return _scaled(x, mask, ctx.factor)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _scaled(d_out, mask, ctx.factor), None


class _AddDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stream: Tensor, y: Tensor, p: float) -> Tensor:
        mask, ctx.factor = _draw(y, p)
        ctx.save_for_backward(mask)
        return _scaled(y, mask, ctx.factor).add_(stream)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (mask,) = ctx.saved_tensors
        d_y = _scaled(d_out, mask, ctx.factor) if ctx.needs_input_grad[1] else None
        return d_out, d_y, None
