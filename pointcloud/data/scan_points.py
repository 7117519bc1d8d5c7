"""A scan as a model is shown it: which of its points are drawn from, in which tiles, and with which features.

N points of a scan, n points of a tile, C channels, P classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.features import FeatureReader
from isoform.pointcloud.data.records import digest_of, taken
from isoform.pointcloud.data.thinning import Thinned, thin
from isoform.pointcloud.data.tiles import Tile, cover, cut_into_tiles
from isoform.pointcloud.data.transforms import upright
from isoform.pointcloud.files import Cloud

FEW = 16  # share of data.points with which a tile is left out where others cover its points


@dataclass(frozen=True)
class ScanPoints:
    """Points that have coordinates.

    xyz       float64 [N, 3] in the file's frame, turned upright where data.up says so
    features  float32 [N, F] of the points that are drawn from; 0 of others
    thinned   which these are; None: all
    digest    of what the file says of the points
    """

    xyz: np.ndarray
    features: np.ndarray
    thinned: Thinned | None
    digest: int

    @classmethod
    def of(cls, cloud: Cloud, data: DataConfig, reader: FeatureReader, where: str) -> ScanPoints:
        """Of points that all have coordinates; see data.voxel and data.features. Raises UserError."""
        # Half the distance at which data.points lie apart on a tile's floor: a draw shows no more.
        spacing = data.tile / np.sqrt(data.points)
        thinned = thin(cloud.xyz, data.voxel, edge=float(spacing / 2))
        part = cloud if thinned is None else taken(cloud, thinned.kept)
        found = features = reader.read(part, where)
        if thinned is not None:
            features = np.zeros((len(cloud), found.shape[1]), np.float32)
            features[thinned.kept] = found
        xyz = cloud.xyz if data.up == "z" else upright(cloud.xyz, data.up)
        return cls(xyz, features, thinned, digest_of(xyz, found[:, reader.own]))

    def tiles(self, data: DataConfig) -> list[Tile]:
        """The overlapping tiles of the points that are drawn from."""
        least = max(1, data.points // FEW)
        if self.thinned is None:
            return cut_into_tiles(self.xyz, data.tile, data.overlap, least)
        kept = self.thinned.kept
        tiles = cut_into_tiles(self.xyz[kept], data.tile, data.overlap, least)
        return [Tile(kept[tile.index], tile.middle) for tile in tiles]

    def framed(self, chosen: np.ndarray, tile: Tile, size: float) -> np.ndarray:
        """float32 [n, C] of the points `chosen`: around the tile's middle, in units of half its edge, and features.

        The difference of coordinates is taken in float64.
        """
        own = ((self.xyz[chosen] - tile.middle) / (size / 2)).astype(np.float32)
        return np.concatenate([own, self.features[chosen]], 1)

    def answered(self, probability: np.ndarray) -> np.ndarray:
        """[N, P] from probabilities [N, P] of the points that were drawn: the others have those of the nearest."""
        if self.thinned is None:
            return probability
        answered: np.ndarray = probability[self.thinned.answers(self.xyz)]
        return answered


def chosen_points(tile: Tile, number: int, turn: int, points: int) -> np.ndarray:
    """int64 [points]: what an evaluation sees of a scan's tile in that turn; all turns show all of its points."""
    turns = cover(len(tile.index), points, np.random.default_rng(number))
    chosen: np.ndarray = tile.index[next(itertools.islice(turns, turn, None))]
    return chosen


def turns_of(tiles: Sequence[Tile], points: int) -> list[tuple[int, int]]:
    """(tile, turn) of the draws of `points` that together show every point of every tile."""
    return [
        (number, turn)
        for number, tile in enumerate(tiles)
        for turn in range(-(-len(tile.index) // points))
    ]
