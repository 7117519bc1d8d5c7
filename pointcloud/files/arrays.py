"""Arrays of points: .npy, .npz, .h5, and .bin of float32, whose columns have to be told."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size, split_axes, usual_names

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
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version[0] > 1:
                read = np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
            refuse_size(int(np.prod(shape, dtype=float)) * kind.itemsize, path)
            file.seek(0)
            found: np.ndarray = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise UserError(f"{path}: is no .npy that can be read ({error})") from None
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_size(sum(member.file_size for member in archive.infolist()), path)
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files if _is_plain(found, name)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{path}: is no .npz that can be read ({error})") from None


def _is_plain(found: Any, name: str) -> bool:
    try:
        return found[name].dtype != object
    except ValueError:  # it would have to be unpickled
        return False


def _h5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            sets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
            refuse_size(sum(item.size * item.dtype.itemsize for item in sets.values()), path)
            return {
                name: np.asarray(item) for name, item in sets.items() if item.dtype.kind in "fiuV"
            }
    except (OSError, ValueError, KeyError) as error:
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
