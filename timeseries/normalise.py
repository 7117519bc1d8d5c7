"""Each look-back by its own level and spread, and forecasts back: what makes a window's height irrelevant.

B windows, L rows of look-back, H rows of horizon, V variates, Q quantile levels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

EPS = 1e-5  # added to the variance, so that a constant series has a spread


class Level(NamedTuple):
    """What a window was normalised by, [B, V, 1] each; the mean carries no gradient."""

    mean: Tensor
    std: Tensor


def standardise(x_BVL: Tensor, *, fixed: bool = False) -> tuple[Tensor, Level]:
    """(x - mean) / std of each series, std = sqrt(variance over the L rows + EPS); a constant series becomes 0.

    The mean is held fixed in the gradient and the standard deviation is not, as in Liu et al. 2024 (iTransformer),
    unless `fixed`.
    """
    mean = x_BVL.mean(-1, keepdim=True).detach()
    centred = x_BVL - mean
    # The variance by its definition: `var` takes one number after the other, which is eight times as long.
    std = (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    std = std.detach() if fixed else std
    return centred / std, Level(mean, std)


class Normalise(nn.Module):
    """No normalisation: the base of the others, and what model.normalise = "none" means."""

    def forward(self, context_BLV: Tensor) -> tuple[Tensor, Level | None]:
        """[B, L, V] -> [B, V, L], a series a row, and what `restore` needs."""
        return context_BLV.transpose(1, 2), None

    def restore(self, point_BVH: Tensor, offset_BVHQ: Tensor | None, level: Level | None) -> Tensor:
        """[B, H, V, 1 + Q] in the data's own height: the point forecast, then the quantiles as offsets from it.

        Offsets are lengths, in window spreads: they are stretched by the spread alone, whatever is done to the point,
        so that ascending ones stay ascending. They start from the point, which takes no gradient from the quantiles.
        """
        point = self.raise_(point_BVH, level)[..., None]
        if offset_BVHQ is not None:
            offset = offset_BVHQ if level is None else offset_BVHQ * level.std[..., None]
            point = torch.cat([point, point.detach() + offset], dim=-1)
        return point.transpose(1, 2)

    def raise_(self, point_BVH: Tensor, level: Level | None) -> Tensor:
        """The point forecast from the window's scale to the data's."""
        return point_BVH


class WindowNormalise(Normalise):
    """Each look-back by its mean and standard deviation (`use_norm`; Liu et al. 2022, non-stationary transformers)."""

    def forward(self, context_BLV: Tensor) -> tuple[Tensor, Level | None]:
        """See Normalise.forward."""
        return standardise(context_BLV.transpose(1, 2).contiguous())

    def raise_(self, point_BVH: Tensor, level: Level | None) -> Tensor:
        """point * std + mean."""
        assert level is not None
        return point_BVH * level.std + level.mean


class RevIN(WindowNormalise):
    """Reversible instance normalisation (Kim et al. 2022): the same with a learned scale and shift for each variate.

    Mean and standard deviation are both held fixed in the gradient. On the way back the scale's divisor gets EPS ** 2,
    as in the authors' code. Raises ValueError for another number of variates than the parameters'.
    """

    def __init__(self, variates: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(variates))
        self.bias = nn.Parameter(torch.zeros(variates))

    def forward(self, context_BLV: Tensor) -> tuple[Tensor, Level | None]:
        """See Normalise.forward."""
        known, given = len(self.weight), context_BLV.shape[2]
        if given != known:
            raise ValueError(
                f'model.normalise = "revin" learned a scale for each of {known} variates, and these are {given}: use '
                '"window" for a model of any variates'
            )
        x, level = standardise(context_BLV.transpose(1, 2).contiguous(), fixed=True)
        return x * self.weight[:, None] + self.bias[:, None], level

    def raise_(self, point_BVH: Tensor, level: Level | None) -> Tensor:
        """((point - bias) / (weight + EPS ** 2)) * std + mean."""
        return super().raise_(
            (point_BVH - self.bias[:, None]) / (self.weight[:, None] + EPS**2), level
        )


def make_normalise(kind: str, variates: int) -> Normalise:
    """The module of model.normalise. Raises ValueError for RevIN without a number of variates."""
    if kind == "revin" and variates < 1:
        raise ValueError(
            'model.normalise = "revin" has a scale for each variate and needs to know how many there are'
        )
    return (
        {"none": Normalise, "window": WindowNormalise}[kind]()
        if kind != "revin"
        else RevIN(variates)
    )
