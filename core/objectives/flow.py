"""Flow matching along straight lines (Lipman et al. 2023; Liu et al. 2023), where the network predicts the clean end.

    x_t = (1 - t) x_0 + t x_1        x_0 noise, x_1 data
    loss = |network(x_t, t) - x_1|^2 / (1 - min(t, cap))^2

which is the squared error of the velocity (x_1 - x_t) / (1 - t), kept finite near t = 1. B samples, C kinds of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """x_t; `t` broadcasts to both ends."""
    return (1 - t) * x_0 + t * x_1


@dataclass(frozen=True)
class Preconditioned:
    """The network's part of a prediction, after Karras et al. 2022 (arXiv:2206.00364, section 5), along these lines.

    Of data with standard deviation s, x_t has n^2 = (1 - t)^2 + (t s)^2, and

        prediction = (t s^2 / n^2) x_t + (s (1 - t) / n) network(x_t / n)

    The first term is the best linear guess; the network's is of order 1 at every time, and so is its target. Squared
    errors count by the inverse square of its factor.
    """

    t: Tensor
    spread: float

    @property
    def norm(self) -> Tensor:
        """n, of t's shape."""
        return ((1 - self.t) ** 2 + (self.spread * self.t) ** 2).sqrt()

    @property
    def out(self) -> Tensor:
        """The factor of the network, of t's shape; 0 at t = 1."""
        return self.spread * (1 - self.t) / self.norm

    def clean(self, x_t: Tensor, network: Tensor) -> Tensor:
        """The prediction; `t` broadcasts to both."""
        return self.t * (self.spread / self.norm) ** 2 * x_t + self.out * network

    def noise_level(self) -> Tensor:
        """What the network is told of the time: 100 ln(t / (1 - t)), finite at both ends."""
        t = self.t.clamp(1e-4, 1 - 1e-4)
        return 100 * (t / (1 - t)).log()


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
    *,
    evenly: bool = False,
) -> Tensor | None:
    """What self-conditioning (Chen et al. 2023, arXiv:2208.04202) feeds back: for a share of the batches `predict()`.

    No gradient flows through it. None for the other batches, which learn to go without; `evenly`: they predict too, and
    what comes out is dropped, so that every batch passes through the network as often.
    """
    wanted = bool(torch.rand((), generator=generator) < share)
    if not (wanted or evenly):
        return None
    # This process's own GPU alone: by default the generators of all that the machine has are kept.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.no_grad(), torch.random.fork_rng(devices, enabled=not wanted):
        guess = predict()
    return guess if wanted else None
