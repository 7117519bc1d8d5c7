"""By which rows a forecast window is known again: their stamps and values, whatever file and names they stand under.

R rows, V variates, n windows, D digests.
"""

from __future__ import annotations

import numpy as np

from isoform.core.data.digests import NOTHING
from isoform.timeseries.data.panel import Panel

BLOCK = 8  # rows whose values make a digest: one number alone is the same in many places
FEWEST = 5  # different values among them; a shop that is shut, or a lamp that is off, is known by nothing
MOST_VARIATES = 16  # that are known one by one; of more, all together
ROWS = 3  # of a horizon that are looked at: the first, the last, and one between
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64 (Steele et al. 2014)
_STEP = 0x9E3779B97F4A7C15


def digests_at(panel: Panel, pairs: np.ndarray, horizon: int) -> np.ndarray:
    """uint64 [n, D] of windows (series, row of the horizon's first step), D = rows looked at x variates known.

    A window is one that was trained on where any of them is: then a row that it forecasts was forecast in training.
    Rows behind the data's end are NOTHING.
    """
    ahead = np.unique(np.linspace(0, horizon - 1, ROWS).round().astype(np.int64))
    single = len(panel.variates) <= MOST_VARIATES
    shape = (len(pairs), len(ahead), len(panel.variates) if single else 1)
    found = np.full(shape, NOTHING, np.uint64)
    order = np.argsort(pairs[:, 0], kind="stable")
    numbers, starts = np.unique(pairs[order, 0], return_index=True)
    for number, mine in zip(numbers, np.split(order, starts[1:]), strict=True):
        rows = pairs[mine, 1][:, None] + ahead
        first, stop = max(0, int(rows.min()) - BLOCK + 1), int(rows.max()) + 1
        series = panel.series[number]
        held = np.asarray(series["target"].variable[first:stop].values, np.float64)
        behind = np.full((stop - first, shape[2]), NOTHING, np.uint64)
        behind[: len(held)] = row_digests(held, series.time.values[first:stop], single)
        found[mine] = behind[rows - first]
    return found.reshape(len(pairs), -1)


def find_known(
    panel: Panel, pairs: np.ndarray, horizon: int, seen: np.ndarray | None
) -> np.ndarray:
    """bool [n]: which windows forecast rows that are among `seen`; none of them where nothing is known."""
    if seen is None:
        return np.zeros(len(pairs), bool)
    return np.asarray(np.isin(digests_at(panel, pairs, horizon), seen).any(1))


def row_digests(value_RV: np.ndarray, time_R: np.ndarray, single: bool = True) -> np.ndarray:
    """uint64 [R, V] of a row's stamp and the values of the BLOCK rows that end with it; [R, 1] of all variates.

    All variates together are known in any order. NOTHING where the row's value is missing, where fewer rows came
    before it, and where these hardly change.
    """
    rows, variates = value_RV.shape
    found = np.full((rows, variates if single else 1), NOTHING, np.uint64)
    if rows < BLOCK:
        return found
    value = np.where(np.isfinite(value_RV), value_RV, np.nan) + 0.0  # of the two zeros, one
    bits = value.view(np.uint64)
    stamp = time_R.astype("datetime64[us]").astype(np.int64).view(np.uint64)[BLOCK - 1 :, None]
    last = rows - BLOCK + 1
    total = np.zeros((last, variates), np.uint64)
    different = np.zeros((last, variates), np.int8)
    for place in range(BLOCK):
        salt = np.uint64((place + 1) * _STEP % 2**64)
        total += _mixed(bits[place : place + last] + salt)
        new = np.isfinite(value[place : place + last])
        for before in range(place):
            new &= value[place : place + last] != value[before : before + last]
        different += new
    known = np.isfinite(value[BLOCK - 1 :]) & (different >= FEWEST)
    total = np.where(known, total, np.uint64(NOTHING))
    if not single:
        total = _mixed(total).sum(1, keepdims=True, dtype=np.uint64)
        known = np.asarray(known.any(1, keepdims=True))
    found[BLOCK - 1 :] = np.where(known, _mixed(total ^ _mixed(stamp)), np.uint64(NOTHING))
    return found


def _mixed(x: np.ndarray) -> np.ndarray:
    """uint64, each scattered over all of its bits."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
