"""Tokens -> forecasts: one linear layer for the mean and, where quantiles are wanted, one for their offsets from it.

B windows, H rows of horizon, V variates, D features a token, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.ops.linear import Linear

SPREAD = 0.5  # of the forecast's errors in window spreads, where the quantiles start from


class ForecastHead(nn.Module):
    """A variate's token to its H forecasts, all steps at once.

    Quantile q_k is the forecast plus offset_k. The offset of the level nearest to 0.5 is the layer's own output; from
    there each further level adds, or below takes away, a softplus, so that no quantile crosses another for any input
    and any weights. Fresh offsets are a normal distribution's.

    Raises ValueError for levels that aren't ascending or not within (0, 1).
    """

    def __init__(self, dim: int, horizon: int, levels: Sequence[float] = ()) -> None:
        super().__init__()
        levels = tuple(levels)
        if any(not 0 < level < 1 for level in levels) or any(a >= b for a, b in pairwise(levels)):
            raise ValueError(
                f"head.quantiles = {list(levels)} should be different levels between 0 and 1, ascending"
            )
        self.horizon, self.levels = horizon, levels
        self.middle = min(range(len(levels)), key=lambda k: abs(levels[k] - 0.5)) if levels else 0
        self.point = Linear(dim, horizon)
        self.quantile = Linear(dim, horizon * len(levels)) if levels else None

    def start(self) -> None:
        """The quantile layer's start, whatever the other layers start from: steps of a normal distribution."""
        if self.quantile is None:
            return
        at = [SPREAD * NormalDist().inv_cdf(level) for level in self.levels]
        steps = torch.tensor(
            [
                at[k] - at[k - 1]
                if k > self.middle
                else at[k + 1] - at[k]
                if k < self.middle
                else 0.0
                for k in range(len(at))
            ]
        )
        inverse = steps + torch.log(-torch.expm1(-steps))  # of the softplus
        inverse[self.middle] = at[self.middle]
        with torch.no_grad():
            self.quantile.bias.copy_(inverse.repeat(self.horizon))

    def forward(self, x_BVD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, V, D] -> forecasts [B, V, H] and offsets [B, V, H, Q], ascending along Q; None without levels."""
        point = self.point(x_BVD)
        if self.quantile is None:
            return point, None
        raw = self.quantile(x_BVD).unflatten(-1, (self.horizon, len(self.levels))).unbind(-1)
        offsets = {self.middle: raw[self.middle]}
        # One addition after the other, not a cumulative sum: rounding can't put a later one before an earlier one.
        for k in range(self.middle + 1, len(raw)):
            offsets[k] = offsets[k - 1] + F.softplus(raw[k])
        for k in range(self.middle - 1, -1, -1):
            offsets[k] = offsets[k + 1] - F.softplus(raw[k])
        return point, torch.stack([offsets[k] for k in range(len(raw))], dim=-1)
