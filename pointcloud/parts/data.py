"""Clouds with a part for every point: the records of CloudData, what their codes mean, and the draws of points.

N points of a cloud, n points of a draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from isoform.core.data.digests import content_digest
from isoform.core.data.splits import Rows
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.coded import read_coded
from isoform.pointcloud.data.dataset import CloudData
from isoform.pointcloud.data.kept import keep_split
from isoform.pointcloud.data.official import read_shapenetpart
from isoform.pointcloud.data.records import Records
from isoform.pointcloud.data.tiles import cover
from isoform.pointcloud.parts.table import SHAPES, PartTable, shapenetpart


class Draw(NamedTuple):
    """One sample: the `turn`-th draw of points from the cloud of a row."""

    row: int
    turn: int


@dataclass(frozen=True)
class PartData:
    """Clouds and their parts.

    clouds    of x, y, z in the cloud's frame, data.features, and the code of the point's part, -1 = none
    table     which codes are parts of which class
    """

    clouds: CloudData
    table: PartTable

    def points(self, row: int) -> np.ndarray:
        """float32 [N, C]."""
        found: np.ndarray = self.clouds.cloud(row)[:, :-1]
        return found

    @cached_property
    def targets(self) -> Sequence[np.ndarray]:
        """int64 [N] of each row, the model's outputs; -1 where a point has no part. Empty of an unreadable cloud."""
        return [
            np.zeros(0, np.int64)
            if cloud is None
            else self.table.targets_of(cloud[:, -1].astype(np.int64), int(self.clouds.targets[row]))
            for row, cloud in enumerate(self.clouds.clouds)
        ]

    def draws(self, split: str, points: int, *, once: bool = False) -> list[Draw]:
        """The samples of a split: a cloud's turns, which together show all of its points, or one of each cloud."""
        return [
            Draw(row, turn)
            for row in self.clouds.rows.get(split, np.zeros(0, np.int64)).tolist()
            for turn in range(1 if once else turns_of(len(self.clouds.cloud(row)), points))
        ]

    def keep_split(self) -> KeptSplit:
        """What a run keeps of them; other codes are another label."""
        return keep_split(self.clouds, self._code_digests)

    @property
    def digest(self) -> str:
        """SHA-256 of coordinates, classes and codes, whatever the clouds' order."""
        clouds = self.clouds
        pairs = zip(
            clouds.digests_N.tolist(), clouds.records.labels, self._code_digests, strict=True
        )
        lines = sorted(f"{digest} {label} {codes}" for digest, label, codes in pairs)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()

    @cached_property
    def _code_digests(self) -> list[str]:
        return [
            "" if cloud is None else content_digest(cloud[:, -1].tobytes())
            for cloud in self.clouds.clouds
        ]


def turns_of(count: int, points: int) -> int:
    """How many draws of `points` show all of `count` points."""
    return -(-count // points)


def every_turn(count: int, points: int) -> Iterator[np.ndarray]:
    """int64 [points] each: which of a cloud's `count` points a turn shows; always the same."""
    return cover(count, points, np.random.default_rng(0))


def read_part_records(data: DataConfig) -> Records:
    """What `data` describes. Raises UserError naming what is missing."""
    return (
        read_shapenetpart(data, list(SHAPES)) if data.source == "shapenetpart" else read_coded(data)
    )


def read_parts(
    data: DataConfig, records: Records, own: Rows | None = None, table: PartTable | None = None
) -> PartData:
    """The clouds, read and split; `own` as CloudData has it.

    table   of a run; else ShapeNetPart's, or of other data the codes that occur in training clouds

    Raises UserError for a class without a part that could be learned.
    """
    if data.source == "shapenetpart":
        table = table or shapenetpart()
    if table is not None:
        data = data.model_copy(update={"classes": table.shapes})
    clouds = CloudData(data, records, own)
    return PartData(clouds, table or _learn_table(clouds))


def _learn_table(clouds: CloudData) -> PartTable:
    codes: dict[str, set[int]] = {shape: set() for shape in clouds.classes}
    for row in clouds.rows.get("train", np.zeros(0, np.int64)).tolist():
        own = codes[clouds.classes[clouds.targets[row]]]
        own |= {int(code) for code in np.unique(clouds.cloud(row)[:, -1]) if code >= 0}
    for shape, found in codes.items():
        if not found:
            raise UserError(
                f"{clouds.records.origin}: no training cloud of {shape} has a point with a part "
                f"({clouds.config.label}): add some, or leave the class out"
            )
    if sum(map(len, codes.values())) < 2:
        raise UserError(
            f"{clouds.records.origin}: the training clouds hold one code in {clouds.config.label!r} beside those "
            "without a part (data.unlabelled); a segmentation needs two"
        )
    return PartTable({shape: tuple(sorted(found)) for shape, found in codes.items()})


def count_unknown(data: PartData) -> Mapping[str, int]:
    """Points whose code the training clouds of their class don't have, by "CLASS CODE"."""
    found: dict[str, int] = {}
    for row, (cloud, target) in enumerate(zip(data.clouds.clouds, data.targets, strict=True)):
        if cloud is None:
            continue
        code = cloud[:, -1].astype(np.int64)
        shape = data.table.shapes[data.clouds.targets[row]]
        for one, points in zip(
            *np.unique(code[(code >= 0) & (target < 0)], return_counts=True), strict=True
        ):
            name = f"{shape} {one}"
            found[name] = found.get(name, 0) + int(points)
    return found
