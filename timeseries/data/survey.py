"""Statistics of a panel's targets in one pass over blocks of rows, and what stands in them twice.

V variates, n rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from isoform.timeseries.data.panel import Panel

BLOCK_CELLS = 2**22  # of a block: 32 MiB as float64
BINS = 360  # of a picture, along time
MOST_PICTURES = 24


@dataclass
class Survey:
    """What the targets of all series hold; arrays [V] by variate.

    count, least, most, total, squares   of the values that are there; squares from `shift`, the first value
    stuck                                longest run of equal values, rows (within a block)
    outside                              values outside their bounds
    rows                                 rows with targets, over all series
    pictures                             (series, variate) -> (least, most, share missing) [BINS] along time
    """

    shift: np.ndarray
    count: np.ndarray
    least: np.ndarray
    most: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    stuck: np.ndarray
    outside: np.ndarray
    rows: int = 0
    pictures: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=dict
    )

    @classmethod
    def empty(cls, width: int) -> Survey:
        """Of nothing yet, for V = `width`."""
        counts = [np.zeros(width) for _ in range(5)]
        count, total, squares, stuck, outside = counts
        least, most = np.full(width, np.inf), np.full(width, -np.inf)
        return cls(np.full(width, np.nan), count, least, most, total, squares, stuck, outside)

    @property
    def missing(self) -> np.ndarray:
        """Share of missing values [V]."""
        return 1 - self.count / max(1, self.rows)

    @property
    def mean(self) -> np.ndarray:
        """[V], NaN for a variate without a value."""
        return np.where(self.count > 0, self.shift + self.total / np.maximum(self.count, 1), np.nan)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation [V], of the population."""
        count = np.maximum(self.count, 1)
        return np.sqrt(np.maximum(self.squares / count - (self.total / count) ** 2, 0))

    @property
    def constant(self) -> np.ndarray:
        """[V] True where every value is the same."""
        return (self.count > 0) & (self.least == self.most)


def blocks(series: xr.Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, values [rows, V] float64) of the rows with targets, block by block; whole chunks of a store."""
    variable = series.variables["target"]
    rows, width = int(series.attrs["rows"]), max(1, variable.shape[1])
    preferred = (variable.encoding.get("preferred_chunks") or {}).get("time", 1)
    step = max(1, BLOCK_CELLS // width // max(1, preferred)) * max(1, preferred)
    for start in range(0, rows, step):
        yield start, np.asarray(variable[start : min(start + step, rows)].values, np.float64)


def survey(panel: Panel, low: np.ndarray, high: np.ndarray) -> Survey:
    """One pass over the targets; low and high [V] are their bounds."""
    width = len(panel.variates)
    found = Survey.empty(width)
    shown = _choose_pictures(len(panel.series), width)
    for number, (series, rows) in enumerate(zip(panel, panel.rows, strict=True)):
        found.rows += rows
        mine = [variate for one, variate in shown if one == number]
        for variate in mine:
            found.pictures[number, variate] = (
                np.full(BINS, np.inf),
                np.full(BINS, -np.inf),
                np.zeros(BINS),
            )
        for start, values in blocks(series):
            _add(found, values, low, high)
            if mine:
                _draw(found, number, mine, values[:, mine], start, rows)
    return found


def _choose_pictures(series: int, width: int) -> list[tuple[int, int]]:
    """At most MOST_PICTURES (series, variate), spread over both."""
    if series == 1:
        return [(0, variate) for variate in _spread(width)]
    each = min(max(1, MOST_PICTURES // series), width)
    found = [(one, variate) for one in _spread(series) for variate in range(each)]
    return found[:MOST_PICTURES]


def _spread(count: int) -> list[int]:
    numbers = np.linspace(0, count - 1, min(count, MOST_PICTURES))
    return np.unique(numbers.astype(int)).tolist()


def _add(found: Survey, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    there = ~np.isnan(values)
    fresh = np.isnan(found.shift) & there.any(0)
    first = values[there.argmax(0), np.arange(values.shape[1])]
    found.shift = np.where(fresh, first, found.shift)
    shifted = np.where(there, values - np.nan_to_num(found.shift), 0)
    found.count += there.sum(0)
    found.total += shifted.sum(0)
    found.squares += (shifted**2).sum(0)
    found.least = np.fmin(found.least, np.where(there, values, np.inf).min(0))
    found.most = np.fmax(found.most, np.where(there, values, -np.inf).max(0))
    found.outside += ((values < low) | (values > high)).sum(0)
    found.stuck = np.maximum(found.stuck, _longest_runs(values, there))


def _longest_runs(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """[V] rows of the longest run of equal values."""
    changed = np.ones(values.shape, bool)
    changed[1:] = values[1:] != values[:-1]  # NaN always differs
    row = np.arange(len(values))[:, None]
    since = np.maximum.accumulate(np.where(changed, row, 0), axis=0)
    run = row - since + 1
    return np.asarray(np.where(there, run, 0).max(0))


def _draw(
    found: Survey, number: int, variates: list[int], values: np.ndarray, start: int, rows: int
) -> None:
    bins = (np.arange(start, start + len(values)) * BINS) // max(rows, 1)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    at = bins[starts]
    width: np.ndarray | float = rows / BINS
    if rows < 10 * BINS:
        width = np.bincount((np.arange(rows) * BINS) // rows, minlength=BINS)[at]
    there = ~np.isnan(values)
    least = np.minimum.reduceat(np.where(there, values, np.inf), starts, axis=0)
    most = np.maximum.reduceat(np.where(there, values, -np.inf), starts, axis=0)
    gone = np.add.reduceat((~there).astype(np.float64), starts, axis=0)
    for k, variate in enumerate(variates):
        low, high, missing = found.pictures[number, variate]
        low[at] = np.minimum(low[at], least[:, k])
        high[at] = np.maximum(high[at], most[:, k])
        missing[at] += gone[:, k] / width


def equal_variates(panel: Panel) -> list[list[str]]:
    """Sets of variates that have the same values in every row of the first series (in memory only)."""
    values = panel.first.variables["target"]
    if not values._in_memory:
        return []
    sums: dict[bytes, list[int]] = {}
    columns = np.ascontiguousarray(np.asarray(values.values, np.float64).T)
    for v, column in enumerate(columns):
        if not np.isnan(column).all():
            sums.setdefault(np.nan_to_num(column, nan=np.inf).tobytes()[:4096], []).append(v)
    found = []
    for members in sums.values():
        while len(members) > 1:
            first, *rest = members
            same = [first] + [
                v for v in rest if np.array_equal(columns[first], columns[v], equal_nan=True)
            ]
            members = [v for v in rest if v not in same]
            if len(same) > 1:
                found.append([panel.variates[v] for v in same])
    return found


def repeated_windows(
    panel: Panel, borders: list[dict[str, tuple[int, int]]], horizon: int
) -> tuple[int, int]:
    """(test horizons that stand word for word in the training rows of their series, test horizons); in memory only.

    Horizons that hardly change, or hold fewer than 24 values, repeat by chance and are not counted.
    """
    repeated, total = 0, 0
    for series, cut, rows in zip(panel, borders, panel.rows, strict=True):
        variable = series.variables["target"]
        if not variable._in_memory or horizon * variable.shape[1] < 24 or rows < horizon:
            continue
        values = np.ascontiguousarray(np.asarray(variable[:rows].values, np.float64))
        code = _hash_horizons(values, horizon)
        changes = np.concatenate([[0], np.cumsum((np.diff(values, axis=0) != 0).any(1))])
        lively = changes[horizon - 1 :] - changes[: len(code)] >= (horizon - 1) / 2
        train, test = (_starts(cut[split], horizon, len(code)) for split in ("train", "test"))
        total += len(test)
        repeated += int((np.isin(code[test], code[train]) & lively[test]).sum())
    return repeated, total


def _starts(border: tuple[int, int], horizon: int, count: int) -> np.ndarray:
    """Rows at which a horizon of the split begins."""
    rows = np.arange(border[0], border[1] - horizon + 1)
    return rows[(rows >= 0) & (rows < count)]


def _hash_horizons(values: np.ndarray, horizon: int) -> np.ndarray:
    """uint64 [rows - horizon + 1]: equal where all values of two horizons are, else different but for one in 10^19."""
    words = np.where(np.isnan(values), 0.5, values + 0.0).view(np.uint64)
    rng = np.random.default_rng(0)
    columns, steps = (
        rng.integers(0, 2**63, size, np.uint64) | np.uint64(1) for size in (words.shape[1], horizon)
    )
    with np.errstate(over="ignore"):
        row = (words * columns).sum(1, dtype=np.uint64)
        row ^= row >> np.uint64(29)
        code = np.zeros(len(row) - horizon + 1, np.uint64)
        for step in range(horizon):
            code += row[step : step + len(code)] * steps[step]
    return code
