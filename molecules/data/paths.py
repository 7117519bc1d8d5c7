"""Shortest paths of many molecules at once, with the official choice among equally short ones.

B molecules, N atoms (padded), P hops.

Graphormer's edge encoding reads the bonds along ONE shortest path of every pair, and which one depends on the order of
the loops in Microsoft's algos.pyx: Floyd-Warshall over k, i, j, where only a strictly shorter way replaces the one
known. Within one k nothing that is read changes, so i, j and the batch are one array operation. The path of a pair is
then path(i, via) + path(via, j), and both halves are shorter: pairs are settled in the order of their distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

UNREACHABLE = 510  # hops, the official code's number for it


class Paths(NamedTuple):
    """All pairs of a padded batch.

    distance  [B, N, N] bonds between two atoms, UNREACHABLE where there is no way, 0 on the diagonal; int16
    via       [B, N, N] the last atom between the two that shortened their way, -1: none (bonded, or the same), and
              UNREACHABLE; int16
    codes     [B, N, N, P] the codes of the first P bonds from row atom to column atom, 0 where there are no more
    """

    distance: np.ndarray
    via: np.ndarray
    codes: np.ndarray


def shortest_paths(codes_BNN: np.ndarray, hops: int) -> Paths:
    """Shortest paths where codes_BNN, of any unsigned type, holds the code of the bond from row to column, 0 for none.

    Atoms without bonds, such as padding, are unreachable; the diagonal is ignored. Order of loops and ties as in
    microsoft/Graphormer's algos.pyx.
    """
    distance, via = _floyd_warshall(codes_BNN)
    far = distance == _far(distance.shape[1])
    along = _along(codes_BNN, distance, via, far, hops)
    wide, last = distance.astype(np.int16), via.astype(np.int16)
    last[via == _none(distance.shape[1])] = -1
    wide[far] = last[far] = UNREACHABLE
    return Paths(wide, last, along)


def _far(n: int) -> int:
    """A distance above all real ones whose double still fits: 8 bits do for up to 127 atoms."""
    return 127 if n <= 127 else UNREACHABLE


def _none(n: int) -> int:
    """What stands for no atom in between."""
    return 255 if n <= 127 else np.iinfo(np.uint16).max


def _floyd_warshall(codes_BNN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance and last improving atom; `_far` and `_none` where there is none."""
    batch, n, _ = codes_BNN.shape
    small = n <= 127
    # The innermost axis in memory is the longer one: many small molecules lie side by side, few large ones one by one.
    distance = _laid_out(batch, n, np.uint8 if small else np.uint16)
    via, sums, better = (
        np.empty_like(distance),
        np.empty_like(distance),
        np.empty_like(distance, dtype=bool),
    )
    distance[...] = np.where(codes_BNN > 0, 1, _far(n))
    distance[:, np.arange(n), np.arange(n)] = 0
    via[...] = _none(n)
    for k in range(n):
        np.add(distance[:, :, k, None], distance[:, None, k, :], out=sums)
        np.less(sums, distance, out=better)
        np.copyto(via, via.dtype.type(k), where=better)
        np.minimum(sums, distance, out=distance)
    return np.ascontiguousarray(distance), np.ascontiguousarray(via)


def _laid_out(batch: int, n: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """An empty [B, N, N] with the batch innermost in memory where it is the longest axis."""
    return (
        np.empty((n, n, batch), dtype).transpose(2, 0, 1)
        if batch > n
        else np.empty((batch, n, n), dtype)
    )


def _along(
    codes_BNN: np.ndarray, distance: np.ndarray, via: np.ndarray, far: np.ndarray, hops: int
) -> np.ndarray:
    batch, n, _ = codes_BNN.shape
    along = np.zeros((batch, n, n, hops), codes_BNN.dtype)
    along[..., 0] = np.where(distance == 1, codes_BNN, 0)
    flat, hop = along.reshape(-1), np.arange(hops)
    steps, between = distance.reshape(-1), via.reshape(-1)
    counts = np.bincount(steps, minlength=3)
    order = np.argsort(steps, kind="stable")  # of small integers: by counting
    stop = int(counts[:2].sum())
    for found in counts[2 : _far(n)].tolist():
        pairs = order[stop : (stop := stop + found)]
        if not found:
            continue
        row, column = np.divmod(pairs, n)
        middle = between[pairs].astype(np.int64)
        first, second = row * n + middle, (row // n * n + middle) * n + column
        length = steps[first].astype(np.int64)[:, None]
        source = (
            np.where(hop < length, first[:, None] * hops, second[:, None] * hops - length) + hop
        )
        flat[pairs[:, None] * hops + hop] = flat[source]
    return along
