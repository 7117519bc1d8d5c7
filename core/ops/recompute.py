"""Tensors that are computed again in the backward pass instead of being kept for it.

A linear layer keeps its input, what computed that input keeps more, and attention keeps queries, keys and values. Where
these come from a norm and one product, computing them twice is cheap and most of a block's memory is saved (the idea of
Chen et al. 2016, arXiv:1604.06174, without computing attention twice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from isoform.core.ops.matmul import linear, product

Result = TypeVar("Result")

# What is computed twice is computed in parts of this size, so that it takes little memory at any time.
PART_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Deferred:
    """The tensor `function(*inputs)`, not computed yet; a Linear takes it in place of its input.

    `parameters` are what the function reads besides its inputs and wants gradients for; it may read no other tensor
    that does.
    """

    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    parameters: tuple[nn.Parameter, ...] = ()

    def then(
        self, function: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter]
    ) -> Deferred:
        """`function` of this tensor, not computed either."""
        before = self.function
        return Deferred(
            lambda *inputs: function(before(*inputs)), self.inputs, (*self.parameters, *parameters)
        )

    def linear(self, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        """This tensor's linear(weight, bias), keeping only `inputs` for the backward pass; once differentiable."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return linear(self.function(*self.inputs), weight_NK, bias_N)
        return _DeferredLinear.apply(
            self.function, len(self.inputs), weight_NK, bias_N, *self.inputs, *self.parameters
        )


@contextmanager
def recompute_in_backward(
    tensors: Sequence[Tensor], compute: Callable[[], Sequence[Tensor]]
) -> Iterator[None]:
    """Inside, operators don't keep `tensors` for the backward pass, which gets equal ones from `compute`.

    Copies that an operator makes of them are kept as ever. `compute` is called once a backward pass, without gradients.
    """
    surroundings = _Surroundings(tensors[0].device.type)
    numbers = {_identity(t): i for i, t in enumerate(tensors)}
    ready: dict[int, Tensor] = {}

    def pack(t: Tensor) -> Tensor | int:
        return numbers.get(_identity(t), t)

    def unpack(saved: Tensor | int) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        if saved not in ready:
            with torch.no_grad():
                ready.update(enumerate(surroundings.replay(compute)))
        return ready.pop(saved)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _identity(t: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return t.data_ptr(), t.shape, t.stride()


class _Surroundings:
    """What a function's result depends on besides tensors: autocast and the random state, to be set up again."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.enabled, self.dtype = (
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
        )
        self.random = torch.get_rng_state()
        self.random_cuda = torch.cuda.get_rng_state() if device == "cuda" else None

    def autocast(self) -> torch.autocast:
        """The same autocast, without its cache: casts made without a gradient must not serve where one is needed."""
        return torch.autocast(self.device, self.dtype, self.enabled, cache_enabled=False)

    def replay(self, function: Callable[..., Result], *inputs: Tensor) -> Result:
        """function(*inputs) as it came out the first time; leaves the random state as it was."""
        devices = [] if self.random_cuda is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices), self.autocast():
            torch.set_rng_state(self.random)
            if self.random_cuda is not None:
                torch.cuda.set_rng_state(self.random_cuda)
            return function(*inputs)


class _DeferredLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        n_inputs: int,
        weight: Tensor,
        bias: Tensor | None,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.function, ctx.surroundings = function, _Surroundings(weight.device.type)
        inputs, ctx.parameters = tensors[:n_inputs], tensors[n_inputs:]
        ctx.save_for_backward(weight, *inputs)
        with ctx.surroundings.autocast():
            outputs = [
                product(function(*part), weight, bias) for part in _parts(inputs, weight.shape[1])
            ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        _, _, wants_weight, wants_bias, *wanted = ctx.needs_input_grad
        d_weight = torch.zeros_like(weight, dtype=d_out.dtype) if wants_weight else None
        by_part: list[list[Tensor | None]] = []

        def backward_by_part() -> None:
            for *part, d_part in _parts((*inputs, d_out), weight.shape[1]):
                by_part.append(
                    _gradients(ctx.function, part, ctx.parameters, wanted, d_part, weight, d_weight)
                )

        ctx.surroundings.replay(backward_by_part)
        d_tensors = [
            _joined(grads, rows=i < len(inputs))
            for i, grads in enumerate(zip(*by_part, strict=True))
        ]
        d_bias = None
        if wants_bias:
            d_bias = d_out.reshape(-1, d_out.shape[-1]).sum(0, dtype=weight.dtype)
        if d_weight is not None:
            d_weight = d_weight.to(weight.dtype)
        return None, None, d_weight, d_bias, *d_tensors


def _joined(grads: Sequence[Tensor | None], rows: bool) -> Tensor | None:
    """The parts' gradients of an input, whose rows they share, or of a parameter, which every part reads."""
    given = [grad for grad in grads if grad is not None]
    if len(given) <= 1:
        return given[0] if given else None
    return torch.cat(given) if rows else reduce(add, given)


def _parts(tensors: Sequence[Tensor], width: int) -> Iterator[Sequence[Tensor]]:
    """The tensors, or parts along their first axis in which `width` numbers a row take no more than `PART_BYTES`.

    The first tensor's shape and type decide, so that the parts are the same whenever it comes first.
    """
    first = tensors[0]
    size = first.shape[0]
    row_bytes = first.numel() // max(1, size * first.shape[-1]) * width * first.element_size()
    step = max(1, PART_BYTES // max(1, row_bytes))
    unlike = any(t.dim() != first.dim() or t.shape[0] != size for t in tensors)
    if step >= size or unlike:
        yield tensors
        return
    for start in range(0, size, step):
        yield [t[start : start + step] for t in tensors]


def _gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    wanted: Sequence[bool],
    d_out: Tensor,
    weight: Tensor,
    d_weight: Tensor | None,
) -> list[Tensor | None]:
    """Those of the inputs and the parameters; that of the weight is added to `d_weight`."""
    leaves = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=False)]
    sources = [*leaves, *parameters]
    with torch.enable_grad():
        x = function(*leaves)
    d_out_MN = d_out.reshape(-1, d_out.shape[-1])
    if d_weight is not None:
        d_weight.addmm_(d_out_MN.mT, x.detach().to(d_out.dtype).reshape(-1, x.shape[-1]))
    chosen = [source for source, want in zip(sources, wanted, strict=True) if want]
    if not chosen:
        return [None] * len(sources)
    with torch.autocast(x.device.type, enabled=False):
        d_x = product(d_out_MN, weight.to(d_out.dtype).mT).view(x.shape).to(x.dtype)
    grads = iter(torch.autograd.grad(x, chosen, d_x, allow_unused=True))
    return [next(grads) if want else None for want in wanted]
