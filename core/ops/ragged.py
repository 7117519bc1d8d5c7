"""Sums and means over each sample of a packed batch. B samples, T rows in all."""

from __future__ import annotations

import torch
from torch import Tensor


def samples_of(offsets: Tensor) -> Tensor:
    """[T] the sample that each row belongs to, from offsets [B + 1]."""
    lengths = offsets.diff()
    numbers = torch.arange(len(lengths), device=offsets.device)
    return torch.repeat_interleave(numbers, lengths)


def mean_by_sample(values: Tensor, offsets: Tensor) -> Tensor:
    """[T, ...] -> [B, ...], the mean of each sample's rows; 0 of a sample without any."""
    lengths = offsets.diff().clamp(min=1).to(values.dtype)
    total = values.new_zeros(len(lengths), *values.shape[1:])
    total = total.index_add(0, samples_of(offsets), values)
    return total / lengths.view(-1, *[1] * (values.dim() - 1))


def centred(values: Tensor, offsets: Tensor) -> Tensor:
    """[T, ...], each sample's rows minus their own mean."""
    return values - mean_by_sample(values, offsets)[samples_of(offsets)]
