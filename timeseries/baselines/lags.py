"""What lag_boosting sees of a value to forecast: columns that are known at the forecast's origin, and nothing later.

T rows at hand, V variates, n values to forecast, each by its origin (the row of step 0), step and variate.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RECENT = 3  # single values before the origin
REPEATS, LONG_REPEATS = 7, 4  # seasons and longer seasons looked back at
CROWD = 64  # variates at most that a common deviation is the mean of


@dataclass(frozen=True)
class Lags:
    """How far the columns look back: `season` rows (a day of hours), `long` (its week; 0: none), `year` (0: none)."""

    season: int
    long: int
    year: int
    horizon: int

    @property
    def period(self) -> int:
        """The longest season whose repeats are averaged."""
        return self.long or self.season

    @property
    def reach(self) -> int:
        """Rows before an origin that any column looks at."""
        ahead = -(-self.horizon // self.period) * self.period
        near = ahead + (LONG_REPEATS + 1) * self.period + max(self.season, 3)
        far = -(-self.horizon // self.season) * self.season + REPEATS * self.season
        return max(near, far, -(-self.horizon // self.year) * self.year + 1 if self.year else 0)

    @property
    def windows(self) -> tuple[int, ...]:
        """Rows of the running means."""
        return tuple(
            sorted({3, max(2, self.season // 4), max(2, self.season), max(2, self.period)})
        )

    def names(self) -> list[str]:
        """Of the columns, in the order of `Rows.columns`."""
        found = [f"value {i} before" for i in range(1, RECENT + 1)]
        found += [f"mean of {w}" for w in self.windows] + [
            f"deviation of {w}" for w in self.windows[-2:]
        ]
        found += [f"off its season, {w}" for w in (1, *self.windows[:-1])]
        found += [f"all off their season, {w}" for w in self.windows[:-1]]
        found += [f"{i} seasons before" for i in range(1, REPEATS + 1)] + [
            "mean of the seasons before"
        ]
        if self.long:
            found += [f"{i} long seasons before" for i in range(1, LONG_REPEATS + 1)]
            found += ["mean of the long seasons before", "around one long season before"]
        if self.year:
            found += ["a year before", "around a year before", "the last mean less a year before's"]
        return [*found, "step"]


class Rows:
    """Rows [start, start + T) of one series, and all that is derived from them."""

    def __init__(
        self,
        lags: Lags,
        start: int,
        target_TV: np.ndarray,
        common: tuple[np.ndarray, ...] | None = None,
    ):
        self.lags, self.start, self.y = lags, start, np.ascontiguousarray(target_TV, np.float32)
        before = [_shifted(self.y, lags.period * i) for i in range(1, LONG_REPEATS + 1)]
        off = self.y - _mean(before)
        self.means = [running_mean(self.y, w) for w in lags.windows]
        squares = self.y * self.y
        self.spreads = [
            np.sqrt(np.maximum(running_mean(squares, w) - mean * mean, 0))
            for w, mean in list(zip(lags.windows, self.means, strict=True))[-2:]
        ]
        self.off = [off, *(running_mean(off, w) for w in lags.windows[:-1])]
        self.common = common or tuple(
            _mean([one[:, i] for i in range(one.shape[1])]) for one in self.off[1:]
        )

    def columns(
        self, origin: np.ndarray, step: np.ndarray, variate: np.ndarray
    ) -> list[np.ndarray]:
        """[n] float32 each; NaN where a value is missing or lies before the rows at hand."""
        lags = self.lags
        last = origin - 1 - self.start
        row = origin + step - self.start

        def at(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
            flat = np.take(values.reshape(-1), np.maximum(rows, 0) * values.shape[1] + variate)
            flat[rows < 0] = np.nan
            return flat

        found = [at(self.y, last - i) for i in range(RECENT)]
        found += [at(values, last) for values in (*self.means, *self.spreads, *self.off)]
        found += [
            np.where(last < 0, np.float32(np.nan), values[np.maximum(last, 0)])
            for values in self.common
        ]
        # Whole seasons back from the target's row to the newest value known at the origin, and on from there.
        newest = row - lags.season * (step // lags.season + 1)
        seasons = [at(self.y, newest - lags.season * i) for i in range(REPEATS)]
        found += [*seasons, _mean(seasons)]
        if lags.long:
            newest = row - lags.long * (step // lags.long + 1)
            longs = [at(self.y, newest - lags.long * i) for i in range(LONG_REPEATS)]
            sides = [
                at(self.y, newest - 1),
                np.where(newest + 1 <= last, at(self.y, np.minimum(newest + 1, last)), np.nan),
            ]
            found += [*longs, _mean(longs), _mean(sides)]
        if lags.year:
            newest = row - lags.year * (step // lags.year + 1)
            sides = [at(self.y, np.minimum(newest + i, last)) for i in (-1, 0, 1)]
            then = at(self.means[-2], last - lags.year)
            found += [sides[1], _mean(sides), at(self.means[-2], last) - then]
        return [
            *(column.astype(np.float32, copy=False) for column in found),
            step.astype(np.float32),
        ]


def running_mean(values_TV: np.ndarray, rows: int) -> np.ndarray:
    """[T, V] float32: mean of the last `rows` rows, this one included; of those that are there; NaN of none."""
    seen = ~np.isnan(values_TV)
    total = np.cumsum(np.where(seen, values_TV, 0), axis=0, dtype=np.float64)
    count = np.cumsum(seen, axis=0, dtype=np.int32)
    total[rows:], count[rows:] = total[rows:] - total[:-rows], count[rows:] - count[:-rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count).astype(np.float32)


def _shifted(values_TV: np.ndarray, rows: int) -> np.ndarray:
    found = np.full_like(values_TV, np.nan)
    if rows < len(values_TV):
        found[rows:] = values_TV[:-rows]
    return found


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of those that are there; NaN of none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(np.stack(values), axis=0, dtype=np.float32))
