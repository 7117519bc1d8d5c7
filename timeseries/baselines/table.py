"""The table that lag_boosting learns from: a row a value to forecast, a column a thing known at the forecast's origin.

n rows of the table, each by its origin (the row of step 0), step and variate; T rows and V variates of data at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from isoform.timeseries.baselines.lags import CROWD, Lags, Rows, running_mean

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

COVARIATES = 30  # up to so many also where the lags lie, and as means
CATEGORIES = 1000  # series at most that are told apart by their number
BYTES = 256 << 20  # of lags at a time
_ARRAYS = 24  # that a Rows makes of its values, about
_LONGEST = 1 << 20  # rows at a time


class Table:
    """A stretch of one series, some of its variates: makes rows of the table."""

    def __init__(
        self,
        data: WindowData,
        lags: Lags,
        window: np.ndarray,
        start: int,
        values_TV: np.ndarray,
        variates: np.ndarray,
        common: tuple[np.ndarray, ...],
    ) -> None:
        series, stop = int(window[0]), start + len(values_TV)
        self.lags, self.start, self.variates, self.series = lags, start, variates, series
        self.rows = Rows(lags, start, values_TV[:, variates], common)
        self.clock = _clock(data.stamps(series, start, stop))
        self.known = (
            data.reader.read(series, "known", start, stop)
            if data.known
            else np.zeros((len(values_TV), 0))
        )
        self.past = np.zeros((len(values_TV), 0), np.float32)
        if data.past:
            past = data.reader.read(series, "past", start, stop)
            more = [running_mean(past, lags.season)] if len(data.past) <= COVARIATES else []
            self.past = np.concatenate([past, *more], axis=1)
        several = len(data.panel.series) > 1
        self.static = data.at(window[None])["static"][0].tolist() if several and data.static else []
        self.numbered = several and len(data.panel.series) <= CATEGORIES

    def target(self, row: np.ndarray, variate: np.ndarray) -> np.ndarray:
        """[n] scaled; NaN where missing."""
        found: np.ndarray = self.rows.y[row - self.start, variate - self.variates[0]]
        return found

    def columns(self, origin: np.ndarray, step: np.ndarray, variate: np.ndarray) -> np.ndarray:
        """[n, F] float32. The last column is the variate; before it stands the series where there are several."""
        row = origin + step - self.start
        found = self.rows.columns(origin, step, variate - self.variates[0])
        found += [*self.clock[row].T, *self.known[row].T]
        if self.known.shape[1] <= COVARIATES:
            for season in filter(None, (self.lags.season, self.lags.long)):
                before = row - season * (step // season + 1)
                found += list(
                    np.where(before[:, None] < 0, np.nan, self.known[np.maximum(before, 0)]).T
                )
        found += list(self.past[origin - 1 - self.start].T)
        for value in (*self.static, *([self.series] if self.numbered else [])):
            found.append(np.full(len(row), value, np.float32))
        found.append(variate)
        table = np.empty((len(row), len(found)), np.float32)
        for i, column in enumerate(found):
            table[:, i] = column
        return table

    def categories(self, columns: int) -> list[int]:
        """Numbers of the columns whose values have no order."""
        return [columns - 2, columns - 1] if self.numbered else [columns - 1]


def tables(data: WindowData, lags: Lags, where: np.ndarray) -> Iterator[tuple[np.ndarray, Table]]:
    """(numbers of the windows it serves, table) that together serve every variate of the windows (series, row) [n, 2].

    Memory is bounded by BYTES and 64 MiB of values, or by what one window and one variate need.
    """
    variates = len(data.variates)
    piece = where[:, 1] // max(2 * lags.reach, min(_LONGEST, (1 << 24) // variates))
    _, group = np.unique(np.stack([where[:, 0], piece], 1), axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    for chosen in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        window = where[chosen[0]]
        start = max(0, int(where[chosen, 1].min()) - lags.reach)
        stop = int(where[chosen, 1].max()) + data.horizon
        values = data.reader.read(int(window[0]), "target", start, stop)
        size = max(1, BYTES // (4 * _ARRAYS * len(values)))
        some = np.unique(
            np.linspace(0, variates - 1, min(variates, CROWD, size)).round().astype(np.int64)
        )
        common = Rows(lags, start, values[:, some]).common
        for first in range(0, variates, size):
            block = np.arange(first, min(variates, first + size))
            yield chosen, Table(data, lags, window, start, values, block, common)


def _clock(stamps: pd.DatetimeIndex) -> np.ndarray:
    """[T, 5] float32: minutes since midnight, day of the week, of the month, month, day of the year."""
    fields = (
        stamps.hour * 60 + stamps.minute,
        stamps.day_of_week,
        stamps.day,
        stamps.month,
        stamps.day_of_year,
    )
    return np.stack([np.asarray(field, np.float32) for field in fields], axis=1)
