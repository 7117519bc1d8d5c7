"""Clouds of which every point has a code beside its coordinates: the number of its part.

N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.folders import read_folder
from isoform.pointcloud.data.records import Clouds, FileClouds, HeldClouds, Records
from isoform.pointcloud.data.scans import codes_in, labelled_points
from isoform.pointcloud.data.sets import read_set
from isoform.pointcloud.files import Cloud

SETS = (".npz", ".h5", ".hdf5")


class CodedFiles(Clouds):
    """Files below `root`, read as `data` describes them: data.columns, data.label, data.unlabelled."""

    def __init__(self, root: Path, names: Sequence[str], data: DataConfig) -> None:
        self.root, self.names = root, names
        self.data = data.model_copy(update={"up": "z"})  # CloudData turns clouds upright

    def read(self, row: int) -> np.ndarray:
        """float64 [N, 4]: x, y, z and a code, -1 where a point has none. Raises UserError with the file's name."""
        found = labelled_points(self.root / self.names[row], self.data)
        xyz, code, self.facts[row] = found
        return np.column_stack([xyz, code])


def read_coded(data: DataConfig) -> Records:
    """Clouds [N, 4] in class folders, of files with a field data.label; or of one .npz or .h5 with such an array.

    One class is enough. Raises UserError for what can't be read.
    """
    where = data.root or data.path
    if where is not None and Path(where).expanduser().is_file():
        if Path(where).suffix.lower() not in SETS:
            raise UserError(
                f"{where}: name a folder with a folder a class, or one {' or '.join(SETS)}"
            )
        return _read_coded_set(data.model_copy(update={"path": where}))
    records = read_folder(data, least=1)
    assert isinstance(records.clouds, FileClouds)
    return replace(records, clouds=CodedFiles(records.clouds.root, records.clouds.names, data))


def _read_coded_set(data: DataConfig) -> Records:
    records = read_set(data, data.label, least=1)
    assert isinstance(records.clouds, HeldClouds)
    clouds = []
    for points, name in zip(records.clouds.clouds, records.clouds.names, strict=True):
        one = Cloud(points[:, :3], {data.label: points[:, 3]})
        code = codes_in(one, data.label, data.unlabelled, name)
        usable = one.usable()
        if not usable.any():
            raise UserError(f"{data.path}: none of the points of {name} has coordinates")
        clouds.append(np.column_stack([one.xyz, code])[usable])
    return replace(records, clouds=HeldClouds(clouds, records.clouds.names))
