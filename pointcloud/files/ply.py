"""Stanford's .ply: points and meshes, in text or binary of either byte order, with any fields; read by plyfile."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plyfile

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size, split_axes
from isoform.pointcloud.ops.surface import triangulate

HEADER = 1 << 20  # bytes in which a header must end


def read_ply(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """The element "vertex" as points and "face" as triangles; polygons are cut into fans."""
    _check_header(path)
    try:
        data = plyfile.PlyData.read(str(path))
    except (
        plyfile.PlyParseError, ValueError, OSError, ArithmeticError, MemoryError, EOFError, KeyError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: is no .ply that can be read ({error})") from None
    if "vertex" not in data:
        names = ", ".join(element.name for element in data.elements) or "nothing"
        raise UserError(f"{path}: has no element vertex, but {names}")
    table, notes = {}, []
    vertex = data["vertex"]
    for one in vertex.properties:
        if isinstance(one, plyfile.PlyListProperty):
            notes.append(f"the vertices' list {one.name} is not read")
        else:
            table[one.name] = np.asarray(vertex[one.name])
    xyz, fields = split_axes(table, path)
    return Cloud(xyz, fields, _faces(data), "ply", tuple(notes), data)


def _check_header(path: Path) -> None:
    """Raises UserError for what is no .ply, and for elements that the rest of the file can't hold."""
    with path.open("rb") as file:
        head = file.read(HEADER)
    if not head.startswith(b"ply"):
        raise UserError(f"{path}: doesn't begin as a .ply does")
    end = head.find(b"end_header")
    if end < 0:
        raise UserError(f"{path}: the header of this .ply does not end")
    size = path.stat().st_size - end
    for line in head[:end].split(b"\n"):
        words = line.split()
        if len(words) == 3 and words[0] == b"element":
            count = int(words[2]) if words[2].isdigit() else -1
            if count < 0 or count > size:
                name = words[1].decode(errors="replace")
                raise UserError(
                    f"{path}: {words[2].decode(errors='replace')} of {name} are promised, and {size:,} bytes follow"
                )
            refuse_size(count * 8, path)


def _faces(data: plyfile.PlyData) -> np.ndarray | None:
    if "face" not in data or not len(data["face"]):
        return None
    for name in ("vertex_indices", "vertex_index"):
        if name in data["face"].data.dtype.names:
            return triangulate([np.asarray(polygon) for polygon in data["face"][name]])
    return None


def write_ply(path: Path, xyz: np.ndarray, fields: Mapping[str, np.ndarray]) -> None:
    """Points [N, 3] in float64 and fields [N], binary and little-endian; names without blanks, as .ply wants them.

    Raises UserError for two fields of one name.
    """
    columns = {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]}
    for name, values in fields.items():
        flat = {name: values} if values.ndim == 1 else _each(name, values)
        for column, along in flat.items():
            plain = plain_name(column)
            if plain in columns:
                raise UserError(f"{path}: two fields would be called {plain}")
            columns[plain] = _storable(along)
    kinds = [(name, values.dtype.newbyteorder("<")) for name, values in columns.items()]
    table = np.empty(len(xyz), kinds)
    for name, values in columns.items():
        table[name] = values
    element = plyfile.PlyElement.describe(table, "vertex")
    plyfile.PlyData([element], byte_order="<").write(str(path))


def plain_name(name: str) -> str:
    """A field's name as .ply can have it, in ASCII and without blanks: "plant height" is plant_height, "höhe" hohe."""
    letters = unicodedata.normalize("NFKD", "_".join(name.split()))
    return letters.encode("ascii", "ignore").decode() or "field"


def _each(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def _storable(values: np.ndarray) -> np.ndarray:
    """In a type that .ply has: it knows no integers of 64 bits, no booleans and no half floats."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        fits = not len(values) or (values.min() >= -(2**31) and values.max() < 2**31)
        return values.astype(np.int32 if fits else np.float64)
    return values
