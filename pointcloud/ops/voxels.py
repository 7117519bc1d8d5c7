"""One point a voxel: a cloud thinned to an even density.

N points, V voxels that hold some.
"""

from __future__ import annotations

import numpy as np


def thin_to_voxels(points: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """(kept int64 [V], voxel int64 [N]): the index of the point kept of each voxel, and the voxel that each lies in.

    points [N, D], voxels are cubes of edge `size` whose corner lies at the smallest coordinates; of each the point
    nearest to its middle is kept, of equally near ones the first. Voxels are numbered in the order of their first
    points, so `kept[voxel]` says who stands for whom. In float64, since a cloud may lie far from its origin. Raises
    ValueError for a size that isn't positive, points that aren't finite, and more than 2**62 voxels.
    """
    if not size > 0:
        raise ValueError(f"size: should be above 0, got {size}")
    points = np.asarray(points, np.float64)
    if not len(points):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if not np.isfinite(points).all():
        raise ValueError("points: some are not finite; leave them out first")
    scaled = (points - points.min(0)) / size
    cells = np.floor(scaled)
    code = _numbered(cells, size)
    scaled -= cells
    off_centre = np.square(scaled - 0.5).sum(1)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    off_centre = off_centre[order]
    nearest = np.flatnonzero(off_centre == np.minimum.reduceat(off_centre, starts)[group])
    best = order[nearest[np.flatnonzero(np.diff(group[nearest], prepend=-1))]]
    rank = np.argsort(order[starts])  # by the voxels' first points
    place = np.empty(len(starts), np.int64)
    place[rank] = np.arange(len(starts))
    voxel = np.empty(len(order), np.int64)
    voxel[order] = place[group]
    return best[rank], voxel


def _numbered(cells: np.ndarray, size: float) -> np.ndarray:
    """int64 [N], equal for points of one voxel alone. Raises ValueError for more than 2**62 of them."""
    shape = cells.max(0) + 1
    if np.prod(shape) > 2**62:
        # Layers that hold no point need no number: one point far away would make too many voxels to count.
        layers = [np.unique(along, return_inverse=True) for along in cells.T]
        cells = np.stack([place.reshape(-1) for _, place in layers], 1)
        shape = np.array([len(occupied) for occupied, _ in layers], float)
    if np.prod(shape) > 2**62:
        told = " x ".join(f"{along:.0f}" for along in shape)
        raise ValueError(f"size: {size:g} makes {told} voxels: too small")
    code = np.zeros(len(cells), np.int64)
    for along, width in zip(cells.T, shape, strict=True):
        code = code * int(width) + along.astype(np.int64)
    return code
