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
from isoform.pointcloud.data.records import CODE, Clouds, FileClouds, HeldClouds, Records, taken
from isoform.pointcloud.data.scans import codes_in, labelled_cloud
from isoform.pointcloud.data.sets import read_set
from isoform.pointcloud.files import Cloud

SETS = (".npz", ".h5", ".hdf5")


class CodedFiles(Clouds):
    """Files below `root`, read as `data` describes them: data.columns, data.label, data.unlabelled."""

    def __init__(self, root: Path, names: Sequence[str], data: DataConfig) -> None:
        self.root, self.names, self.data = root, names, data

    def read(self, row: int) -> Cloud:
        """See Clouds.read; codes are the field CODE, -1 where a point has none."""
        cloud, code, self.facts[row] = labelled_cloud(self.root / self.names[row], self.data)
        return replace(cloud, fields={**cloud.fields, CODE: code})


def read_coded(data: DataConfig) -> Records:
    """Clouds with the field CODE in class folders, of files with a field data.label; or of one .npz or .h5 with that.

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
    held, clouds, fields = records.clouds, [], dict[str, list[np.ndarray]]()
    for row, name in enumerate(held.names):
        points = held.clouds[row]
        whole = Cloud(points[:, :3], {data.label: points[:, 3]})
        code = codes_in(whole, data.label, data.unlabelled, name)
        usable = whole.usable()
        if not usable.any():
            raise UserError(f"{data.path}: none of the points of {name} has coordinates")
        own = {field: values[row] for field, values in held.fields.items()}
        one = taken(Cloud(whole.xyz, {**own, CODE: code}), usable)
        clouds.append(one.xyz)
        for field, values in one.fields.items():
            fields.setdefault(field, []).append(values)
    return replace(records, clouds=HeldClouds(clouds, held.names, fields))
