"""data.voxel: large clouds thinned to one point a voxel before anything is drawn of them.

N points, V of them kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.ops import thin_to_voxels

LARGE = 1_000_000  # points of a cloud beyond which it is thinned where data.voxel is unset
FINEST = 20  # halvings of a cloud's extent that are tried
COUNTED = 8  # halvings up to which all voxels are held in a table


@dataclass(frozen=True)
class Thinned:
    """Which points of a cloud are drawn from: its own, not voxels' middles, so that fields and labels stay true."""

    kept: np.ndarray  # int64 [V], ascending
    points: int  # N
    edge: float  # of a voxel, in the file's unit

    def __str__(self) -> str:
        return f"{self.points:,} points thinned to {len(self.kept):,} by voxels of {self.edge:.4g}"

    def answers(self, xyz: np.ndarray) -> np.ndarray:
        """int64 [N]: for each point of xyz [N, 3] the nearest kept one, which answers for it; itself if it is kept."""
        from scipy.spatial import cKDTree

        low = xyz.min(0)
        tree = cKDTree(xyz[self.kept] - low)
        found: np.ndarray = self.kept[tree.query(xyz - low)[1]]
        found[self.kept] = self.kept
        return found


def thin(
    xyz: np.ndarray,
    voxel: float | None,
    *,
    edge: float = 0.0,
    least: int | None = None,
) -> Thinned | None:
    """What is kept of xyz [N, 3]; None: all.

    voxel  the edge that was asked for; 0 thins nothing, None only what has more than a million points
    edge   for these
    least  in its place: points that have to be left at least, for which the cloud's extent is halved, and halved again
    Raises UserError for voxels too small to be numbered.
    """
    if not len(xyz) or voxel == 0 or (voxel is None and len(xyz) <= LARGE):
        return None
    if voxel is not None:
        edge = voxel
    elif least is not None:
        edge = _coarsest(xyz, least)
    if not edge:
        return None
    try:
        kept, _ = thin_to_voxels(xyz, edge)
    except ValueError as error:
        raise UserError(f"data.voxel: {error}") from None
    return Thinned(np.sort(kept), len(xyz), edge)


def _coarsest(xyz: np.ndarray, least: int) -> float:
    """Of the extent's half, quarter, ... the first as edge of voxels that keep `least` points; 0: none does."""
    own = xyz - xyz.min(0)
    extent = float(own.max())
    if not extent > 0:
        return 0.0
    own /= extent
    for halvings in range(1, FINEST + 1):
        across = 1 << halvings
        cells = np.minimum((own * across).astype(np.int64), across - 1)
        code = (cells[:, 0] * across + cells[:, 1]) * across + cells[:, 2]
        if halvings <= COUNTED:
            table = np.zeros(across**3, bool)
            table[code] = True
            occupied = int(table.sum())
        else:
            occupied = len(np.unique(code))
        if occupied >= least:
            return extent / across
    return 0.0
