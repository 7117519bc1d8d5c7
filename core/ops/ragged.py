"""What follows from a packed batch's offsets, and sums and means over each of its samples. B samples, T rows in all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

F = TypeVar("F")
_FACTS: Any = WeakTensorKeyDictionary()  # offsets -> (their version, {function: what it gives})


def fact_of(offsets: Tensor, function: Callable[[Tensor], F]) -> F:
    """`function(offsets)`, worked out once for as long as these offsets live and nobody writes to them.

    Every layer asks for the same, and on a GPU each answer that the CPU reads is a wait for all that was launched
    before.
    """
    if torch.compiler.is_compiling() or offsets.is_inference():
        return function(offsets)
    version, facts = _FACTS.get(offsets, (None, {}))
    if version != offsets._version:
        facts = {}
        _FACTS[offsets] = (offsets._version, facts)
    if function not in facts:
        facts[function] = function(offsets)
    found: F = facts[function]
    return found


def ends_of(offsets: Tensor) -> list[int]:
    """The offsets as integers."""
    return fact_of(offsets, Tensor.tolist)


def longest_of(offsets: Tensor) -> int:
    """Rows of the longest sample; 0 without any."""
    return max((b - a for a, b in pairwise(ends_of(offsets))), default=0)


def samples_of(offsets: Tensor) -> Tensor:
    """[T] the sample that each row belongs to, from offsets [B + 1]."""
    return fact_of(offsets, _samples)


def places_of(offsets: Tensor) -> Tensor:
    """[T] 0, 1, 2, ... of each sample's rows."""
    return fact_of(offsets, _places)


def _samples(offsets: Tensor) -> Tensor:
    lengths = offsets.diff()
    numbers = torch.arange(len(lengths), device=offsets.device)
    return torch.repeat_interleave(numbers, lengths)


def _places(offsets: Tensor) -> Tensor:
    samples = samples_of(offsets)
    return torch.arange(len(samples), device=offsets.device) - offsets[:-1][samples]


def mean_by_sample(values: Tensor, offsets: Tensor) -> Tensor:
    """[T, ...] -> [B, ...], the mean of each sample's rows; 0 of a sample without any."""
    lengths = offsets.diff().clamp(min=1).to(values.dtype)
    total = values.new_zeros(len(lengths), *values.shape[1:])
    total = total.index_add(0, samples_of(offsets), values)
    return total / lengths.view(-1, *[1] * (values.dim() - 1))


def centred(values: Tensor, offsets: Tensor) -> Tensor:
    """[T, ...], each sample's rows minus their own mean."""
    return values - mean_by_sample(values, offsets)[samples_of(offsets)]
