"""Arrays of points: .npy, .npz, .h5, and .bin of float32, whose columns have to be told."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isoform.core.data.hdf5 import refuse_hostile, refuse_without_root
from isoform.core.data.npy import header_of
from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import (
    Cloud,
    refuse_growth,
    refuse_size,
    split_axes,
    usual_names,
)

DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
POINTS = ("points", "xyz", "pos", "positions", "coord", "coords", "data", "arr_0")
NUSCENES = ("x", "y", "z", "intensity", "ring")  # .pcd.bin is nuScenes' own ending


def read_arrays(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """A cloud of one array [N, columns] or of records with names; of several arrays the one of coordinates leads."""
    kind = path.suffix.lower()
    if kind == ".bin":
        return _bin(path, columns)
    if kind == ".npy":
        return _cloud({"points": _npy(path)}, path, columns)
    return _cloud(read_all_arrays(path), path, columns)


def read_all_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a .npz or .h5 by its name, texts too; none that would have to be unpickled. Raises UserError."""
    return _npz(path) if path.suffix.lower() == ".npz" else _h5(path)


def _cloud(arrays: Mapping[str, np.ndarray], path: Path, columns: Sequence[str]) -> Cloud:
    lower = {name.lower(): name for name in arrays}
    leading = next((lower[name] for name in POINTS if name in lower), None)
    if leading is None and len(arrays) == 1:
        leading = next(iter(arrays))
    if leading is None:
        raise UserError(
            f"{path}: which of {', '.join(arrays) or 'no arrays'} are the points? isoform looks for {', '.join(POINTS)}"
        )
    points = arrays[leading]
    if points.dtype.names:
        table = {name: points[name] for name in points.dtype.names}
    elif points.ndim != 2 or points.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: {leading} is {points.dtype} {points.shape}, and a cloud is [points, 3 columns or more]"
        )
    else:
        names = tuple(columns) or usual_names(points.shape[1])
        if len(names) != points.shape[1]:
            raise UserError(
                f"{path}: {leading} has {points.shape[1]} columns, and {len(names)} names are given"
            )
        table = {name: points[:, k] for k, name in enumerate(names)}
    xyz, fields = split_axes(table, path)
    for name, values in arrays.items():
        if name != leading and len(np.shape(values)) in (1, 2) and len(values) == len(xyz):
            fields[name] = values
    return Cloud(xyz, fields, None, "array")


def _npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            header_of(file, path.stat().st_size)
            refuse_size(path.stat().st_size, path)
            found: np.ndarray = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise UserError(f"{path}: is no .npy that can be read ({error})") from None
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_growth(sum(member.file_size for member in members), path)
            found = {}
            for member in members:
                with archive.open(member) as stream:
                    data = io.BytesIO(stream.read())
                if member.filename.endswith(".npy") and _is_plain(data):
                    name = member.filename.removesuffix(".npy")
                    found[name] = np.load(data, allow_pickle=False)
            return found
    except (ValueError, OSError, EOFError, KeyError, *DAMAGED_ZIP) as error:
        raise UserError(f"{path}: is no .npz that can be read ({error})") from None


def _is_plain(data: io.BytesIO) -> bool:
    """Whether an array can be read without unpickling anything. Raises ValueError for one that isn't all there."""
    try:
        header_of(data, len(data.getbuffer()))
    except ValueError as error:
        if "unpickled" in str(error):
            return False
        raise
    return True


def _h5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    refuse_without_root(path)
    try:
        with h5py.File(path, "r") as file:
            refuse_hostile(file, path)
            sets = {
                name if isinstance(name, str) else name.decode("utf-8", "replace"): item
                for name, item in file.items()
                if isinstance(item, h5py.Dataset)
            }
            refuse_size(sum(item.size * item.dtype.itemsize for item in sets.values()), path)
            return {
                name: np.asarray(item) for name, item in sets.items() if item.dtype.kind in "fiuV"
            }
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: is no .h5 that can be read ({error})") from None


def _bin(path: Path, columns: Sequence[str]) -> Cloud:
    """float32 rows. KITTI has x y z intensity, nuScenes a ring behind, others colours: nothing in the file says so."""
    names = tuple(columns)
    if not names and path.name.lower().endswith(".pcd.bin"):
        names = NUSCENES
    size = path.stat().st_size
    if not names:
        fitting = [k for k in range(3, 9) if size % (4 * k) == 0]
        raise UserError(
            f"{path}: rows of float32 without names, {', '.join(map(str, fitting)) or 'no number of'} columns would "
            "fit: name them with data.columns, such as x,y,z,intensity"
        )
    refuse_size(2 * size, path)
    if size % (4 * len(names)):
        raise UserError(
            f"{path}: {size:,} bytes are no whole rows of {len(names)} columns of float32 ({', '.join(names)})"
        )
    table = np.fromfile(path, "<f4").reshape(-1, len(names))
    xyz, fields = split_axes(dict(zip(names, table.T, strict=True)), path)
    return Cloud(xyz, fields, None, "array")
