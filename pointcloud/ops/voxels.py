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
    # Layers that hold no point need no number: one point far away would make too many voxels to count.
    layers = [np.unique(along, return_inverse=True) for along in cells.T]
    shape = tuple(len(occupied) for occupied, _ in layers)
    if np.prod(np.array(shape, float)) > 2**62:
        raise ValueError(f"size: {size:g} makes {' x '.join(map(str, shape))} voxels: too small")
    code = np.ravel_multi_index(tuple(place.reshape(-1) for _, place in layers), shape)
    off_centre = np.square(scaled - cells - 0.5).sum(1)
    order = np.lexsort((np.arange(len(code)), off_centre, code))
    first = np.concatenate([[True], np.diff(code[order]) != 0])
    best = order[first]  # by code
    _, voxel = np.unique(code, return_inverse=True)
    seen = np.full(len(best), len(code))
    np.minimum.at(seen, voxel, np.arange(len(code)))
    place = np.empty(len(best), np.int64)
    place[np.argsort(seen, kind="stable")] = np.arange(len(best))
    kept = np.empty(len(best), np.int64)
    kept[place] = best
    return kept, place[voxel.reshape(-1)]
