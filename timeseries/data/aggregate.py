"""All rows of a step as one value: their mean, sum or last, missing ones left aside.

n rows sorted by instant, U instants, C columns.
"""

from __future__ import annotations

import numpy as np


def differ(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """bool [U]: instants whose rows [n, C] aren't all equal; `first` [U + 1] says where each one's rows begin."""
    sizes = np.diff(first)
    several = sizes > 1
    differing = np.zeros(len(sizes), bool)
    if several.any():
        counts = sizes[several]
        block = values[np.repeat(several, sizes)]
        lead = np.repeat(values[first[:-1][several]], counts, axis=0)
        equal = (block == lead) | (np.isnan(block) & np.isnan(lead))
        starts = np.cumsum(counts) - counts
        differing[several] = ~np.logical_and.reduceat(equal.all(1), starts)
    return differing


def bins(
    values: np.ndarray,
    place: np.ndarray,
    steps: int,
    how: str,
    needed: np.ndarray | None = None,
    first: np.ndarray | None = None,
) -> np.ndarray:
    """[steps, C] with values [n, C] of instants at the ascending places [U]; all rows of a step are aggregated.

    `first` [U + 1] says where each instant's rows begin, None where each has one. A step without rows is NaN. With
    `needed` [steps], a sum of fewer instants, or of one without a value, is missing.
    """
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    if len(starts) == steps == len(values) and needed is None:
        return values
    found = np.full((steps, *values.shape[1:]), np.nan, values.dtype)
    if not len(starts):
        return found
    at = place[starts]
    runs = starts if first is None else first[starts]
    sums = _aggregate(values, runs, how)
    if (
        how == "mean" and first is not None
    ):  # the mean of equal rows is their value to the last digit
        sums = np.clip(sums, np.fmin.reduceat(values, runs), np.fmax.reduceat(values, runs))
    if needed is not None:
        there = ~np.isnan(values)
        if first is not None:
            there = np.logical_or.reduceat(there, first[:-1], axis=0)
        whole = np.logical_and.reduceat(there, starts, axis=0)
        enough = np.diff(starts, append=len(place)) >= needed[at]
        sums = np.where(whole & enough[:, None], sums, np.nan).astype(values.dtype)
    found[at] = sums
    return found


def _aggregate(values: np.ndarray, runs: np.ndarray, how: str) -> np.ndarray:
    """[runs, C]: each run of rows as one; `runs` says where they begin. A run of one row stays as it is."""
    sizes = np.diff(runs, append=len(values))
    several = sizes > 1
    if not several.any():
        return values
    found = values[runs]
    block = values if several.all() else values[np.repeat(several, sizes)]
    starts = np.cumsum(sizes[several]) - sizes[several]
    found[several] = _reduce(block, starts, how)
    return found


def _reduce(values: np.ndarray, starts: np.ndarray, how: str) -> np.ndarray:
    """Mean, sum or last of each run of rows, over what isn't NaN; NaN where all is."""
    there = ~np.isnan(values)
    if how == "last":
        rows = np.where(there, np.arange(len(values))[:, None], -1)
        last = np.maximum.reduceat(rows, starts, axis=0)
        return np.where(
            last < 0, np.nan, np.take_along_axis(values, np.maximum(last, 0), axis=0)
        ).astype(values.dtype)
    total = np.add.reduceat(np.where(there, values, 0).astype(np.float64), starts, axis=0)
    count = np.add.reduceat(there.astype(np.int64), starts, axis=0)
    if how == "mean":
        total = total / np.maximum(count, 1)
    return np.where(count == 0, np.nan, total).astype(values.dtype)
