"""Forecasts that need no model: the last value, and the value a whole season before.

n windows, H steps, V variates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from isoform.timeseries.baselines.chunks import spread

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

TRIED = 200  # training windows that a season is chosen by


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
    """Every step is the value a season before it, or as many seasons as it takes to be known; where missing, `Last`."""

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


def choose_season(data: WindowData, season: int) -> int:
    """Of a day, a week and a year in rows (see `seasons`), the one that training windows repeat best.

    That is the smallest squared error of the seasonal naive forecast on 200 evenly spread training windows; `season`
    where data.season names it or there are none.
    """
    size = data.sizes().get("train", 0)
    if data.config.data.season is not None or not size:
        return season
    where = data.where("train", spread(size, TRIED))
    candidates = [one for one in seasons(data.panel.freq, season) if one]
    errors = {one: _season_error(data, where, one) for one in candidates}
    return min(errors, key=lambda one: errors[one])


def _season_error(data: WindowData, where: np.ndarray, season: int) -> float:
    """Mean squared error; infinite where fewer than half of the values had one a season before."""
    total, count, all_of_them = 0.0, 0, 0
    for series, row in where:
        wanted = row + np.arange(data.horizon)
        change = rows_at(data, int(series), wanted) - rows_at(
            data, int(series), last_known(row, data.horizon, season)
        )
        total += float(np.nansum(np.square(change)))
        count += int((~np.isnan(change)).sum())
        all_of_them += change.size
    return total / count if count > all_of_them / 2 else np.inf


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


def seasons(freq: str, season: int) -> tuple[int, int, int]:
    """(season, a longer one, a year) in rows, 0 where there is none of that kind.

    Those of the frequency, if `season` is one of them: a day, a week and a year of anything finer than a day, a week
    and a year of days, a year of the rest; else `season` and what is longer than it. A year of days or finer rows is 52
    weeks, so that days of the week agree.
    """
    natural = _natural(freq)
    if season in natural:
        return natural
    return (
        season,
        natural[1] if natural[1] > season else 0,
        natural[2] if natural[2] > season else 0,
    )


def _natural(freq: str) -> tuple[int, int, int]:
    offset = to_offset(freq)
    try:
        rows = pd.Timedelta("1D") / pd.Timedelta(
            offset
        )  # of "D" too, which is no fixed time where clocks change
    except (TypeError, ValueError):
        unit = freq.lstrip("0123456789").split("-")[0].rstrip("SE")
        return {"B": (5, 0, 260), "W": (52, 0, 0), "M": (12, 0, 0), "Q": (4, 0, 0)}.get(
            unit, (1, 0, 0)
        )
    if rows != int(rows):
        return 1, 0, 0
    day = int(rows)
    return (day, 7 * day, 364 * day) if day > 1 else (7, 0, 364)
