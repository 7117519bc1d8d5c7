"""Missing values of a window, mended from the window's own rows: no value from outside it is ever used."""

from __future__ import annotations

import numpy as np


def fill(values_NTC: np.ndarray, method: str, rest_C: np.ndarray) -> np.ndarray:
    """The same array without NaN, changed in place; N windows, T rows, C columns, float32.

    last    the last value before the gap, carried forward
    linear  a line between the neighbours of the gap; behind the last value that value, carried forward
    Before the first value, and in a column without any, `rest_C`.
    """
    lines_NCT = values_NTC.swapaxes(1, 2)
    touched = np.isnan(values_NTC).any(1)
    if not touched.any():
        return values_NTC
    lines = lines_NCT[touched]  # [gappy columns of windows, T]
    rest = np.broadcast_to(rest_C, touched.shape)[touched]
    rows = np.arange(lines.shape[1])
    missing = np.isnan(lines)
    before = np.maximum.accumulate(np.where(missing, -1, rows), axis=1)
    last = np.take_along_axis(lines, np.maximum(before, 0), axis=1)
    mended = np.where(before < 0, rest[:, None], last)
    if method == "linear":
        after = np.minimum.accumulate(np.where(missing, len(rows), rows)[:, ::-1], axis=1)[:, ::-1]
        between = (before >= 0) & (after < len(rows)) & missing
        following = np.take_along_axis(lines, np.minimum(after, len(rows) - 1), axis=1).astype(
            np.float64
        )
        share = (rows - before) / np.maximum(after - before, 1)
        mended = np.where(between, last + (following - last) * share, mended)
    lines_NCT[touched] = mended
    return values_NTC
