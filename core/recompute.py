"""Inputs of linear layers that are computed again in the backward pass instead of being kept for it.

A linear layer keeps its input, and what computed that input keeps more. Where this is a norm, or an MLP's first half,
computing it twice is cheap and most of a block's memory is saved (the idea of Chen et al. 2016, arXiv:1604.06174,
without computing attention twice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from isoform.core.products import linear, product


@dataclass(frozen=True)
class Deferred:
    """The tensor `function(*inputs)`, not computed yet; a Linear takes it in place of its input.

    `parameters` are what the function reads besides its inputs and wants gradients for; it may read no other tensor
    that does.
    """

    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    parameters: tuple[nn.Parameter, ...] = ()

    def then(self, function: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter]) -> Deferred:
        """`function` of this tensor, not computed either."""
        before = self.function
        return Deferred(lambda *inputs: function(before(*inputs)), self.inputs, (*self.parameters, *parameters))

    def into(self, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        """This tensor's linear(weight, bias), keeping only `inputs` for the backward pass; once differentiable."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return linear(self.function(*self.inputs), weight_NK, bias_N)
        return _Into.apply(self.function, len(self.inputs), weight_NK, bias_N, *self.inputs, *self.parameters)


class _Surroundings:
    """What a function's result depends on besides tensors: autocast and the random state, to be set up again."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.enabled, self.dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        self.random = torch.get_rng_state()
        self.random_cuda = torch.cuda.get_rng_state() if device == "cuda" else None

    def autocast(self) -> torch.autocast:
        """The same autocast, without its cache: casts made without a gradient must not serve where one is needed."""
        return torch.autocast(self.device, self.dtype, self.enabled, cache_enabled=False)

    def again(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """function(*inputs) as it came out the first time; leaves the random state as it was."""
        devices = [] if self.random_cuda is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices), self.autocast():
            torch.set_rng_state(self.random)
            if self.random_cuda is not None:
                torch.cuda.set_rng_state(self.random_cuda)
            return function(*inputs)


class _Into(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], n_inputs: int, weight: Tensor, bias: Tensor | None,
                *tensors: Tensor) -> Tensor:  # fmt: skip
        ctx.function, ctx.around = function, _Surroundings(weight.device.type)
        ctx.save_for_backward(weight, *tensors[:n_inputs])
        ctx.parameters = tensors[n_inputs:]
        with ctx.around.autocast():
            return product(function(*tensors[:n_inputs]), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        _, _, wants_weight, wants_bias, *wanted = ctx.needs_input_grad
        sources = [*(x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=False)), *ctx.parameters]
        with torch.enable_grad():
            x = ctx.around.again(ctx.function, *sources[: len(inputs)])
        d_out_MN = d_out.reshape(-1, d_out.shape[-1])
        d_weight = d_bias = None
        if wants_weight:
            d_weight = (d_out_MN.mT @ x.detach().to(d_out.dtype).reshape(-1, x.shape[-1])).to(weight.dtype)
        if wants_bias:
            d_bias = d_out_MN.sum(0, dtype=weight.dtype)
        chosen = [source for source, want in zip(sources, wanted, strict=True) if want]
        grads: Iterable[Tensor | None] = ()
        if chosen:
            d_x = product(d_out_MN, weight.to(d_out.dtype).mT).view(x.shape).to(x.dtype)
            grads = torch.autograd.grad(x, chosen, d_x, allow_unused=True)
        found = iter(grads)
        return None, None, d_weight, d_bias, *(next(found) if want else None for want in wanted)
