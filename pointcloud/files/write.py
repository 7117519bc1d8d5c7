"""A cloud with new fields as a file: points, order and everything else as they were read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud

WRITTEN = (".ply", ".las", ".laz")


def write_cloud(
    path: str | Path,
    cloud: Cloud,
    labels: Mapping[str, np.ndarray],
    *,
    codes: np.ndarray | None = None,
) -> list[str]:
    """Writes `cloud` with the fields `labels` [N] beside its own; returns notes.

    codes  [N] classes of a .las, see las.py
    A .las or .laz comes from one of these: its scale, offset, flags and records are kept. Another kind of cloud becomes
    a .ply, with coordinates in float64. Raises UserError for another ending.
    """
    path = Path(path)
    kind = path.suffix.lower()
    for name, values in labels.items():
        if len(values) != len(cloud):
            raise ValueError(f"{name}: {len(values)} values for {len(cloud)} points")
    if kind == ".ply":
        from isoform.pointcloud.files.ply import plain_name, write_ply

        fields = {name: values for name, values in cloud.fields.items()}
        taken = {plain_name(name) for name in fields}
        for name, values in labels.items():
            own, number = name, 2
            while plain_name(own) in taken:
                own, number = f"{name} {number}", number + 1
            fields[own] = values
            taken.add(plain_name(own))
        write_ply(path, cloud.xyz, fields)
        return []
    if kind in (".las", ".laz"):
        if cloud.kind != "las":
            raise UserError(f"{path}: a {kind} is written from a .las or .laz alone; name a .ply")
        from isoform.pointcloud.files.las import write_las

        return write_las(path, cloud, labels, codes=codes)
    raise UserError(f"{path}: points are written as {' '.join(WRITTEN)}")
