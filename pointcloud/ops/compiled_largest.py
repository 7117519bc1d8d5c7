"""numba kernels of largest.py; letters as there."""

from __future__ import annotations

import numpy as np

from isoform.pointcloud.ops.kernel import kernel

BLOCK = 64  # rows of the weight's gradient that stay in the cache


@kernel()
def largest(value_PKN: np.ndarray, found_PN: np.ndarray, chosen_PN: np.ndarray) -> None:
    """The largest value over the points, and the first point that has it; NaN where there is one."""
    sets, points, width = value_PKN.shape
    for p in range(sets):
        found, chosen = found_PN[p], chosen_PN[p]
        found[:] = value_PKN[p, 0]
        chosen[:] = 0
        for k in range(1, points):
            value = value_PKN[p, k]
            for n in range(width):  # becomes vector instructions
                better = not (value[n] <= found[n]) and found[n] == found[n]
                found[n] = value[n] if better else found[n]
                chosen[n] = np.int32(k) if better else chosen[n]


@kernel(fastmath={"contract"})
def spread_to_weight(
    d_PN: np.ndarray, chosen_PN: np.ndarray, x_PKF: np.ndarray, d_weight_NF: np.ndarray
) -> None:
    """Adds the gradient times the chosen point's features to each row."""
    for start in range(0, len(d_weight_NF), BLOCK):
        end = min(start + BLOCK, len(d_weight_NF))
        for p in range(len(d_PN)):
            for n in range(start, end):
                d, x, row = d_PN[p, n], x_PKF[p, chosen_PN[p, n]], d_weight_NF[n]
                for f in range(len(row)):
                    row[f] += d * x[f]


@kernel(fastmath={"contract"})
def spread_to_points(
    d_PN: np.ndarray, chosen_PN: np.ndarray, weight_NF: np.ndarray, d_x_PKF: np.ndarray
) -> None:
    """Adds the gradient times each row of the weight to the chosen point."""
    for p in range(len(d_PN)):
        for n in range(len(weight_NF)):
            d, row, x = d_PN[p, n], weight_NF[n], d_x_PKF[p, chosen_PN[p, n]]
            for f in range(len(row)):
                x[f] += d * row[f]
