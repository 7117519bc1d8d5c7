"""Forecasts that need no model: the last value, and the value a whole season before.

n windows, H steps, V variates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData


class Last:
    """Every step is the last value of the look-back; a missing one is mended as in every look-back."""

    def fit(self, data: WindowData) -> Last:
        """Nothing to learn."""
        return self

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled, of windows (series, row) [n, 2]."""
        last_nV = data.at(where)["context"][:, -1].numpy()
        return np.repeat(last_nV[:, None], data.horizon, axis=1)


class SeasonalNaive:
    """Every step is the value a season before it, or as many seasons as it takes to be known; where missing, `Last`.

    The season is the one of the data, in rows (see data/season.py).
    """

    def __init__(self, season: int) -> None:
        self.season = season

    def fit(self, data: WindowData) -> SeasonalNaive:
        """Nothing to learn."""
        return self

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled, of windows (series, row) [n, 2]."""
        found = np.empty((len(where), data.horizon, len(data.variates)), np.float32)
        for series in np.unique(where[:, 0]):
            mine = where[:, 0] == series
            rows_nH = last_known(where[mine, 1][:, None], data.horizon, self.season)
            found[mine] = rows_at(data, int(series), rows_nH)
        gaps = np.isnan(found)
        if gaps.any():
            found[gaps] = Last().predict(data, where)[gaps]
        return found


def last_known(row: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """For every step from `row` on, the newest row before `row` that lies whole seasons before the step."""
    step = np.arange(horizon)
    return row + step - season * (step // season + 1)


def rows_at(data: WindowData, series: int, rows: np.ndarray) -> np.ndarray:
    """[..., V] scaled float32 values at row numbers of any shape; NaN where missing or outside. Reads from the least to
    the greatest of them."""
    first, stop = max(0, int(rows.min())), max(1, int(rows.max()) + 1)
    held = data.reader.read(series, "target", min(first, stop - 1), stop)
    found: np.ndarray = held[np.clip(rows - min(first, stop - 1), 0, len(held) - 1)]
    found[rows < 0] = np.nan
    return found
