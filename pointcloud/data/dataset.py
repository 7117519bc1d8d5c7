"""The clouds of an app: read once, framed, and split.

N points, C channels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isoform.core.data import folds, splits
from isoform.core.errors import UserError
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.features import FeatureReader
from isoform.pointcloud.data.fewer import choose_learned
from isoform.pointcloud.data.near import Pair, join_pairs, near_pairs
from isoform.pointcloud.data.records import CODE, Records, digest_of, taken
from isoform.pointcloud.data.thinning import Thinned, thin
from isoform.pointcloud.data.transforms import dominated_by_one, draw_points, frame_of
from isoform.pointcloud.files import Cloud

NEAR = "near"  # as data.group
KEPT = 8  # times data.points that are kept of a larger cloud, for training to draw from


class CloudData:
    """Clouds in memory, float32 in their own frames, and which of them train, validate and test.

    clouds      [N, C] of each row; an unreadable one is None, and in no split
    targets     int64 [rows], -1 where no class is known
    digests_N   uint64 [rows] of their coordinates as read
    unreadable  name -> why
    thinned     name -> what was kept of a large cloud
    features    what was noticed of data.features
    unused      clouds that data.labels, or a few-shot episode, leaves out
    group       what must not be torn apart, a key a row, or None
    """

    def __init__(
        self, config: DataConfig, records: Records, own: splits.Rows | None = None
    ) -> None:
        """`own`: the rows of a run's splits, where they aren't to be drawn."""
        self.config, self.records = config, records
        self.classes: Sequence[str] = config.classes or records.classes
        known = {name: k for k, name in enumerate(self.classes)}
        unknown = sorted({label for label in records.labels if label is not None} - known.keys())
        if unknown:
            raise UserError(
                f"{records.origin}: class {unknown[0]!r} is none of the {len(known)} known ones (data.classes)"
            )
        self.targets = np.array(
            [known[label] if label is not None else -1 for label in records.labels], np.int64
        )
        self.clouds: list[np.ndarray | None] = []
        self.unreadable: dict[str, str] = {}
        self.dominated: dict[str, str] = {}
        self.thinned: dict[str, Thinned] = {}
        self.features = FeatureReader(config)
        digests = []
        for row in range(len(records)):
            cloud, digest = self._read(row)
            self.clouds.append(cloud)
            digests.append(digest)
        self.digests_N = np.array(digests, np.uint64)
        self.group = records.group if config.group != NEAR else None
        if config.group == NEAR and own is None:
            self.group = self._shapes()
        self.rows = self._readable(self._split() if own is None else own)
        readable = sum(map(len, self.rows.values()))
        if own is None:
            self.rows = choose_learned(self.rows, records.labels, config, records.origin)
        self.unused = readable - sum(map(len, self.rows.values()))

    def _read(self, row: int) -> tuple[np.ndarray | None, int]:
        name = self.records.clouds.names[row]
        try:
            cloud = self.records.clouds.read(row)
            found = frame_cloud(cloud, self.config, self.features, name)
        except UserError as error:
            if self.config.on_error == "fail":
                raise UserError(
                    f"{error}; mend or remove it, or set data.on_error = skip"
                ) from None
            self.unreadable[name] = str(error)
            return None, 0
        if found.thinned is not None:
            self.thinned[name] = found.thinned
        far = dominated_by_one(cloud.xyz)
        if far is not None:
            self.dominated[name] = (
                f"its point {far} lies so far away that the others shrink to nothing"
            )
        return found.points, found.digest

    def _split(self) -> splits.Rows:
        """As given, or drawn by data.split_seed, each class alike, or one fold."""
        strata = np.array([label or "" for label in self.records.labels], dtype=object)
        given = self.records.split
        if self.config.folds is not None and self.config.ways is None:
            seed, origin = self.config.split_seed, self.records.origin
            given = folds.given_by_fold(self.config, strata, self.group, seed=seed, origin=origin)
        return splits.split_rows(
            given,
            strata,
            self.group,
            seed=self.config.split_seed,
            test_fraction=self.config.test_fraction,
            val_fraction=self.config.val_fraction,
            torn_allowed=self.config.allow_leakage,
        )

    @functools.cached_property
    def near(self) -> list[Pair]:
        """Pairs of rows that show one shape; see near.py."""
        read = [row for row, cloud in enumerate(self.clouds) if cloud is not None]
        found = near_pairs([self.cloud(row) for row in read])
        return [Pair(read[first], read[second], distance) for first, second, distance in found]

    def _shapes(self) -> np.ndarray:
        """Of each row the name of the first cloud of its shape."""
        numbers = join_pairs(len(self.clouds), self.near)
        names = np.array(self.records.clouds.names, dtype=object)
        return names[np.unique(numbers, return_index=True)[1]][numbers]

    def _readable(self, rows: splits.Rows) -> splits.Rows:
        readable = np.array([cloud is not None for cloud in self.clouds])
        found = {split: part[readable[part]] for split, part in rows.items()}
        return {split: part for split, part in found.items() if len(part)}

    def cloud(self, row: int) -> np.ndarray:
        """float32 [N, C]."""
        found = self.clouds[row]
        assert found is not None
        return found

    def evaluated(self, row: int) -> np.ndarray:
        """float32 [at most data.points, C] as an evaluation sees it: the same points every time."""
        return choose_evaluated(self.cloud(row), self.config)

    @property
    def digest(self) -> str:
        """SHA-256 of the clouds' coordinates and classes, whatever their order."""
        pairs = zip(self.digests_N.tolist(), self.records.labels, strict=True)
        lines = sorted(f"{digest} {label}" for digest, label in pairs)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()


class Framed(NamedTuple):
    """A cloud float32 [N, C] in its own frame, the digest of what was read, and what was kept of its points."""

    points: np.ndarray
    digest: int
    thinned: Thinned | None


def frame_cloud(
    cloud: Cloud, config: DataConfig, features: FeatureReader, where: str, *, whole: bool = False
) -> Framed:
    """At most 8 times data.points: a large cloud is thinned by voxels, and of what is left an even choice is kept.

    whole  all points are
    """
    most = KEPT * config.points
    thinned = None if whole else thin(cloud.xyz, config.voxel, least=most)
    part = cloud if thinned is None else taken(cloud, thinned.kept)
    frame = frame_of(part.xyz, config.scale, config.up)
    beside = features.read(part, where)
    digest = digest_of(cloud.xyz, beside[:, features.own])
    own = np.concatenate([frame.into(part.xyz), beside], 1)
    if CODE in part.fields:
        own = np.column_stack([own, part.fields[CODE].astype(np.float32)])
    if len(own) > most and not whole:
        rng = np.random.default_rng(digest % 2**32)
        own = own[np.sort(rng.choice(len(own), most, replace=False))]
    return Framed(own, digest, thinned)


def describe_thinned(thinned: Mapping[str, Thinned]) -> list[str]:
    """What was kept of which clouds, as a line; none where all of them are whole."""
    if not thinned:
        return []
    name, first = next(iter(thinned.items()))
    if len(thinned) == 1:
        return [f"{name}: {first}"]
    return [f"{len(thinned):,} clouds thinned by voxels, such as {name}: {first}"]


def choose_evaluated(cloud: np.ndarray, config: DataConfig) -> np.ndarray:
    """float32 [at most data.points, C]: the points of a framed cloud that an evaluation sees."""
    if len(cloud) <= config.points:
        return cloud
    return cloud[draw_points(cloud, config.points, config.draw)]


def sizes_of(rows: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Number of clouds a split."""
    return {split: len(part) for split, part in rows.items()}
