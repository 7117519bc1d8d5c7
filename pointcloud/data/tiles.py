"""A large scan cut into overlapping tiles, and what was said of the tiles put together again point by point.

N points, T tiles, n points of a tile, P classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tile:
    """A square column of a scan: the points in it, and where its middle lies (x and y of the file, z of its lowest)."""

    index: np.ndarray  # int64 [n]
    middle: np.ndarray  # float64 [3]


def cut_into_tiles(
    xyz: np.ndarray, size: float, overlap: float = 0.5, least: int = 1
) -> list[Tile]:
    """Tiles of edge `size` whose neighbours share `overlap` of it; every point lies in one at least.

    xyz [N, 3] in float64. A tile with fewer than `least` points is left out where all of its points lie in others too.
    Raises ValueError for a size that isn't positive and an overlap outside [0, 1).
    """
    if not size > 0 or not 0 <= overlap < 1:
        raise ValueError(f"size: above 0, overlap: from 0 to below 1; got {size} and {overlap}")
    if not len(xyz):
        return []
    step = size * (1 - overlap)
    low = xyz[:, :2].min(0)
    first = np.floor((xyz[:, :2] - low - size) / step).astype(np.int64) + 1
    last = np.floor((xyz[:, :2] - low) / step).astype(np.int64)
    first, last = first.clip(min=0), np.maximum(last, 0)
    spans = int((last - first).max()) + 1
    rows, keys = [], []
    for dx in range(spans):
        for dy in range(spans):
            place = first + np.array([dx, dy])
            inside = (place <= last).all(1)
            rows.append(np.flatnonzero(inside))
            keys.append(place[inside])
    point, key = np.concatenate(rows), np.concatenate(keys)
    width = int(key[:, 1].max()) + 1
    code = key[:, 0] * width + key[:, 1]
    order = np.lexsort((point, code))
    bounds = np.flatnonzero(np.diff(code[order], prepend=-1))
    parts = np.split(order, bounds[1:])
    times = np.bincount(point, minlength=len(xyz))
    tiles = []
    for part in sorted(parts, key=len):  # the smallest are left out first
        inside = point[part]
        if len(inside) < least and (times[inside] > 1).all():
            times[inside] -= 1
            continue
        corner = low + key[part[0]] * step
        tiles.append(
            (code[part[0]], Tile(inside, np.array([*(corner + size / 2), xyz[inside, 2].min()])))
        )
    return [tile for _, tile in sorted(tiles, key=lambda pair: pair[0])]


def cover(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draws of `size` of `count` points until every one was drawn: int64 [size] each, some again in the last one."""
    order = rng.permutation(count)
    for at in range(0, count, size):
        part = order[at : at + size]
        missing = size - len(part)
        yield np.concatenate([part, rng.integers(count, size=missing)]) if missing else part


class Votes:
    """Probabilities of points, averaged over all tiles that said something of them."""

    def __init__(self, points: int, classes: int) -> None:
        self.sum_NP = np.zeros((points, classes), np.float32)
        self.count_N = np.zeros(points, np.int32)

    def add(self, index: np.ndarray, probability_nP: np.ndarray) -> None:
        """What one tile says of its points, of which some may come twice."""
        np.add.at(self.sum_NP, index, probability_nP.astype(np.float32))
        np.add.at(self.count_N, index, 1)

    def mean(self) -> np.ndarray:
        """float32 [N, P]; rows of zeros where nobody said anything."""
        return self.sum_NP / np.maximum(self.count_N, 1)[:, None]
