"""Ridge regression from look-back to horizon, one map that all variates share.

Both are taken less the look-back's last value, as NLinear does (Zeng et al., AAAI 2023), so that a level which training
never saw is no obstacle. The map is the exact minimum, from sums over the training windows; of four penalties the one
with the smallest error on validation is kept.

n windows, L look-back, H horizon, V variates; a row is one variate of one window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from isoform.timeseries.baselines.chunks import portions, spread

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

STRENGTHS = (1e-6, 1e-4, 1e-2, 1.0)  # penalty over the inputs' mean square
OPERATIONS = 2e11  # of the sums: ten seconds or so
CHOOSING = 100_000  # rows of validation that choose the penalty
ENOUGH = 20  # rows without a missing target, a number to learn


class Linear:
    """See the module.

    Rows with a missing target are left out. Where too few others remain, each step has sums of its own, over the rows
    where it was observed.
    """

    def __init__(self) -> None:
        self.map = torch.zeros(
            0
        )  # [L, H]; its last row is the constant, for the last input would always be 0
        self.strength = STRENGTHS[0]

    def fit(self, data: WindowData) -> Linear:
        """From all training windows, or evenly spread ones where those would take more than OPERATIONS."""
        maps, rows = _maps(data, by_step=False)
        if data.has_missing and rows < ENOUGH * data.context:
            maps, _ = _maps(data, by_step=True)
        errors = _errors(data, maps)
        best = int(np.argmin(errors))
        self.map, self.strength = maps[best], STRENGTHS[best]
        return self

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled, of windows (series, row) [n, 2]."""
        x, last = _inputs(data.at(where)["context"])
        found = (x @ self.map + last[:, None]).reshape(len(where), len(data.variates), data.horizon)
        return found.transpose(1, 2).contiguous().numpy()


def _maps(data: WindowData, by_step: bool) -> tuple[list[Tensor], int]:
    """([L, H] for each of STRENGTHS, rows that were used); sums in float64 of products in float32."""
    context, horizon = data.context, data.horizon
    systems = horizon if by_step else 1
    gram = torch.zeros(systems, context, context, dtype=torch.float64)
    cross = torch.zeros(horizon, context, dtype=torch.float64)
    most = int(OPERATIONS / (2 * context * (systems * context + horizon) * len(data.variates)))
    rows = 0
    for part in portions(data, spread(data.sizes().get("train", 0), most)):
        batch = data.batch("train", part)
        x, last = _inputs(batch["context"])
        y, seen = _targets(batch, last)
        if by_step and seen is not None:
            cross += (y * seen).T @ x
            for step, mine in enumerate(seen.T):
                gram[step] += x[mine].T @ x[mine]
            continue
        if seen is not None:
            x, y = x[seen.all(1)], y[seen.all(1)]
        gram += x.T @ x
        cross += y.T @ x
        rows += len(x)
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6)
    return [_solve(gram, cross, strength * size) for strength in STRENGTHS], rows


def _solve(gram: Tensor, cross: Tensor, penalty: Tensor) -> Tensor:
    """[L, H] float32: one system a step, or one for all of them."""
    systems = gram + penalty[:, None, None] * torch.eye(gram.shape[1], dtype=torch.float64)
    if len(systems) == 1:
        return torch.linalg.solve(systems[0], cross.T).float()
    return torch.linalg.solve(systems, cross[..., None])[..., 0].T.float()


def _errors(data: WindowData, maps: list[Tensor]) -> list[float]:
    """Squared error of each map on validation; the same for all where there is none."""
    errors = [0.0] * len(maps)
    for part in portions(data, spread(data.sizes().get("val", 0), CHOOSING // len(data.variates))):
        batch = data.batch("val", part)
        x, last = _inputs(batch["context"])
        y, seen = _targets(batch, last)
        for i, one in enumerate(maps):
            error = x @ one - y
            errors[i] += float(
                (error if seen is None else error * seen).square().sum(dtype=torch.float64)
            )
    return errors


def _inputs(context_nLV: Tensor) -> tuple[Tensor, Tensor]:
    """(Look-backs less their last values, and a constant in place of those [rows, L]; the last values [rows])."""
    x = context_nLV.transpose(1, 2).flatten(0, 1)
    last = x[:, -1].clone()
    x = x - last[:, None]
    x[:, -1] = 1
    return x, last


def _targets(batch: dict[str, Tensor], last: Tensor) -> tuple[Tensor, Tensor | None]:
    """(Horizons less the last values, which of them were observed or None for all), [rows, H]."""
    y = batch["target"].transpose(1, 2).flatten(0, 1) - last[:, None]
    return y, batch["observed"].transpose(1, 2).flatten(0, 1) if "observed" in batch else None
