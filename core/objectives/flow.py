"""Flow matching along straight lines (Lipman et al. 2023; Liu et al. 2023), where the network predicts the clean end.

    x_t = (1 - t) x_0 + t x_1        x_0 noise, x_1 data
    loss = |network(x_t, t) - x_1|^2 / (1 - min(t, cap))^2

which is the squared error of the velocity (x_1 - x_t) / (1 - t), kept finite near t = 1. B samples, C kinds of labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """x_t; `t` broadcasts to both ends."""
    return (1 - t) * x_0 + t * x_1


def draw_times(
    count: int,
    low: float,
    high: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """[B] times, uniform between `low` and `high`, from the generator (torch's global one if None)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def time_weights(t_B: Tensor, cap: float = 0.9) -> Tensor:
    """[B] 1 / (1 - min(t, cap))^2."""
    return (1 - t_B.clamp(max=cap)) ** -2


def drop_labels(
    labels_BC: Tensor,
    share: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """[B, C] labels, each by itself replaced by 0, "not told", with probability `share` (Ho & Salimans 2022)."""
    dropped = torch.rand(labels_BC.shape, generator=generator) < share
    return labels_BC.masked_fill(dropped.to(labels_BC.device), 0)


def first_guess(
    predict: Callable[[], Tensor],
    share: float,
    generator: torch.Generator | None = None,
) -> Tensor | None:
    """What self-conditioning (Chen et al. 2023, arXiv:2208.04202) feeds back: for a share of the batches `predict()`.

    No gradient flows through it. None for the other batches, which learn to go without.
    """
    if torch.rand((), generator=generator) >= share:
        return None
    with torch.no_grad():
        return predict()
