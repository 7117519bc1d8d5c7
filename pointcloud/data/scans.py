"""Scans with a class for every point, cut into tiles: what part segmentation is trained on and judged by.

N points of a scan, n points of a tile, P classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isoform.core.data.digests import content_digest
from isoform.core.data.splits import split_of_word
from isoform.core.domain.kept_split import KeptSplit, Samples
from isoform.core.errors import UserError, printable
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.facts import Facts, facts_of
from isoform.pointcloud.data.features import FeatureReader
from isoform.pointcloud.data.folders import list_files, no_folder
from isoform.pointcloud.data.records import taken
from isoform.pointcloud.data.scan_points import ScanPoints, turns_of
from isoform.pointcloud.data.scenes import make_scene
from isoform.pointcloud.data.tiles import Tile
from isoform.pointcloud.files import SUFFIXES, Cloud, read_cloud
from isoform.pointcloud.files.cloud import column

# The made ones: scene k is drawn from the seed k.
SCENES = ("train",) * 16 + ("val",) * 2 + ("test",) * 4


@dataclass(frozen=True)
class Scan:
    """A scan of a split: its points, and their codes; -1: no label."""

    name: str
    split: str
    points: ScanPoints
    code: np.ndarray  # int64 [N]
    facts: Facts | None = None  # of the whole file

    @property
    def xyz(self) -> np.ndarray:
        """float64 [N, 3] in the file's frame."""
        return self.points.xyz


class Draw(NamedTuple):
    """One sample: the `turn`-th draw of points from a tile of a scan."""

    scan: int
    tile: int
    turn: int


@dataclass(frozen=True)
class ScanData:
    """Labelled scans and their tiles.

    classes   names of the outputs; of files their codes as text
    targets   int64 [N] of each scan, -1 where no class is known
    draws     split -> its samples, which together show every point of the split
    skipped   name -> why a file was left out
    """

    scans: Sequence[Scan]
    classes: Sequence[str]
    targets: Sequence[np.ndarray]
    tiles: Sequence[Sequence[Tile]]
    draws: Mapping[str, Sequence[Draw]]
    origin: str
    licence: str
    skipped: Mapping[str, str]

    def rows(self, split: str) -> list[int]:
        """Which scans are of a split."""
        return [k for k, scan in enumerate(self.scans) if scan.split == split]

    @property
    def digest(self) -> str:
        """SHA-256 of coordinates and codes, whatever the files' order."""
        lines = sorted(f"{s.points.digest} {content_digest(s.code.tobytes())}" for s in self.scans)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def codes_of(classes: Sequence[str]) -> np.ndarray:
    """int64 [P]: what is written for each class: its code where the names are codes, else 1, 2, ..."""
    if all(name.isdecimal() for name in classes):
        return np.array([int(name) for name in classes], np.int64)
    return np.arange(1, len(classes) + 1)


def build_data(
    data: DataConfig,
    scans: Sequence[Scan],
    classes: Sequence[str],
    origin: str,
    licence: str,
    skipped: Mapping[str, str],
) -> ScanData:
    """Targets, tiles and samples of scans. A training skips tiles without a labelled point."""
    codes = codes_of(classes)
    targets, tiles = [], []
    draws: dict[str, list[Draw]] = {}
    for k, scan in enumerate(scans):
        known = scan.code[:, None] == codes
        targets.append(np.where(known.any(1), known.argmax(1), -1))
        tiles.append(scan.points.tiles(data))
        labelled = [bool((targets[k][tile.index] >= 0).any()) for tile in tiles[k]]
        for number, turn in turns_of(tiles[k], data.points):
            if labelled[number] or scan.split != "train":
                draws.setdefault(scan.split, []).append(Draw(k, number, turn))
    return ScanData(scans, classes, targets, tiles, draws, origin, licence, skipped)


def made_scenes(data: DataConfig, reader: FeatureReader) -> list[Scan]:
    """The made scenes, always the same; codes are 1, 2, ... in the order of scenes.CLASSES."""
    scans = []
    for seed, split in enumerate(SCENES):
        xyz, label = make_scene(np.random.default_rng(seed))
        name = f"scene-{seed}"
        points = ScanPoints.of(Cloud(xyz), data, reader, name)
        scans.append(Scan(name, split, points, label + 1))
    return scans


def read_scans(
    data: DataConfig, reader: FeatureReader, *, alone: bool = False
) -> tuple[list[Scan], dict[str, str]]:
    """The scans in the folders train, val and test of data.root, and {name: why} of what was left out.

    reader  of data.features, which remembers what it noticed
    alone   where no folder is a split everything, or the one file that the root is, is tested
    Raises UserError where a file can't be read or has no such field, unless data.on_error = skip.
    """
    if data.source == "scenes":
        return made_scenes(data, reader), {}
    if data.root is None:
        raise UserError(
            "data.root is not set: give the folder that holds train, val and test, --set data.root=FOLDER"
        )
    root = Path(data.root).expanduser()
    left: list[tuple[str, str]] = []
    if root.is_dir():
        files = list_files(root, left)
    elif alone and root.is_file():
        root, files = root.parent, [root]
    else:
        raise no_folder(root)
    skipped, scans = dict(left), []
    for path in files:
        name = printable(path.relative_to(root).as_posix())
        split = split_of_word(path.relative_to(root).parts[0]) if "/" in name else None
        if split is None and not alone:
            skipped[name] = "not in a folder train, val or test"
            continue
        try:
            cloud, code, facts = labelled_cloud(path, data)
            points = ScanPoints.of(cloud, data, reader, str(path))
        except UserError as error:
            if data.on_error == "fail":
                raise UserError(
                    f"{error}; mend or remove it, or set data.on_error = skip"
                ) from None
            skipped[name] = str(error)
            continue
        scans.append(Scan(name, split or "test", points, code, facts))
    if not scans:
        raise UserError(
            f"{root}: no scan in a folder train, val or test; expected {root}/train/*.las ({' '.join(SUFFIXES)})"
        )
    return scans, skipped


def labelled_cloud(path: Path, data: DataConfig) -> tuple[Cloud, np.ndarray, Facts]:
    """Points that have coordinates, int64 [N] their codes, see `codes_in`; and what the file holds."""
    cloud = read_cloud(path, data.columns)
    usable = cloud.usable()
    if not usable.any():
        raise UserError(f"{path}: none of its {len(cloud):,} points has coordinates")
    code = codes_in(cloud, data.label, data.unlabelled, str(path))[usable]
    return taken(cloud, usable), code, facts_of(cloud)


def codes_in(cloud: Cloud, name: str, unlabelled: Sequence[int], where: str) -> np.ndarray:
    """int64 [N] of a field; -1 for NaN, below 0, and codes that are no label. Raises UserError for fractions."""
    values = column(cloud, name, where)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise UserError(
            f"{where}: field {name!r} holds no code a point; name another by data.label"
        )
    filled = np.where(np.isfinite(values), values, -1)
    if (filled != np.floor(filled)).any():
        raise UserError(
            f"{where}: field {name!r} holds fractions, and codes are whole numbers; name another by data.label"
        )
    code = filled.astype(np.int64)
    code[np.isin(code, list(unlabelled)) | (code < 0)] = -1
    return code


def keep_scans(data: ScanData) -> KeptSplit:
    """What a run keeps of its scans: names, coordinates and codes."""
    splits = {}
    for split in dict.fromkeys(scan.split for scan in data.scans):
        own = [scan for scan in data.scans if scan.split == split]
        splits[split] = Samples(
            [scan.name for scan in own],
            [f"{scan.points.digest:016x}" for scan in own],
            [content_digest(scan.code.tobytes())[:16] for scan in own],
        )
    return KeptSplit(splits)


def describe_equal_scans(scans: Sequence[Scan]) -> str:
    """Equal scans in several splits as a part of a sentence; "" for none."""
    first: dict[int, Scan] = {}
    for scan in scans:
        other = first.setdefault(scan.points.digest, scan)
        if other.split != scan.split:
            return f"equal scans lie in several splits: {other.name} ({other.split}) = {scan.name} ({scan.split})"
    return ""
