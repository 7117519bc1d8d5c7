"""The Point Cloud Library's .pcd: text, binary, or binary in columns compressed by LZF.

The header's words count in any case. A field called `_` is padding. The view point is where the sensor stood; the
points are in its file's frame already and are not moved by it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lzf
import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size, split_axes

HEADER = 1 << 16  # bytes in which a header must end
UNMOVED = [0, 0, 0, 1, 0, 0, 0]


@dataclass
class _Header:
    kind: np.dtype  # of one point
    points: int
    data: str  # "ascii", "binary", "binary_compressed"
    start: int  # of the data in the file, bytes
    viewpoint: list[float]


def read_pcd(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """All points; those of an organised cloud that are NaN stay in their places."""
    content = path.read_bytes()
    header = _read_header(content, path)
    refuse_size(header.points * header.kind.itemsize, path)
    body = content[header.start :]
    if header.data == "ascii":
        table = _text(body, header, path)
    elif header.data == "binary":
        table = _rows(body, header, path)
    else:
        table = _columns(body, header, path)
    xyz, fields = split_axes(table, path)
    notes: tuple[str, ...] = ()
    if header.viewpoint != UNMOVED:
        notes = (
            "the sensor's pose (VIEWPOINT) is not applied: the points are in the file's frame",
        )
    return Cloud(xyz, fields, None, "pcd", notes)


def _read_header(content: bytes, path: Path) -> _Header:
    head = content[:HEADER]
    words: dict[str, list[str]] = {}
    start = 0
    for line in head.splitlines(keepends=True):
        start += len(line)
        parts = line.split(b"#")[0].decode("utf-8", "replace").split()
        if parts:
            words[parts[0].upper()] = parts[1:]
        if parts and parts[0].upper() == "DATA":
            break
    try:
        names, sizes, types = words["FIELDS"], words["SIZE"], words["TYPE"]
        counts = words.get("COUNT", ["1"] * len(names))
        points = int(words["POINTS"][0]) if "POINTS" in words else _area(words)
        data = words["DATA"][0].lower()
        viewpoint = [float(number) for number in words.get("VIEWPOINT", map(str, UNMOVED))]
        kind = _kind(names, sizes, types, counts)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"{path}: the header of this .pcd can't be read ({error})") from None
    if data not in ("ascii", "binary", "binary_compressed") or points < 0:
        raise UserError(f"{path}: a .pcd of {points} points in the form {data!r} is not known")
    return _Header(kind, points, data, start, viewpoint)


def _area(words: dict[str, list[str]]) -> int:
    return int(words["WIDTH"][0]) * int(words["HEIGHT"][0])


def _kind(names: list[str], sizes: list[str], types: list[str], counts: list[str]) -> np.dtype:
    letters = {"F": "f", "I": "i", "U": "u"}
    parts: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for k, (name, size, kind, count) in enumerate(zip(names, sizes, types, counts, strict=True)):
        plain = f"_{k}" if name == "_" else name
        if int(count) < 1:
            raise ValueError(f"{name} has {count} values a point")
        one = f"<{letters[kind.upper()]}{int(size)}"
        parts.append((plain, one) if int(count) == 1 else (plain, one, (int(count),)))
    return np.dtype(parts)


def _named(table: np.ndarray, header: _Header) -> dict[str, np.ndarray]:
    names = header.kind.names or ()
    return {name: table[name] for name in names if not name.startswith("_")}


def _text(body: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    try:
        numbers = np.loadtxt(io.BytesIO(body), ndmin=2, max_rows=header.points)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if len(numbers) < header.points:
        raise UserError(
            f"{path}: {header.points:,} points are promised, and {len(numbers):,} are there"
        )
    table, at = np.empty(header.points, header.kind), 0
    widths = {name: math.prod(header.kind[name].shape) for name in header.kind.names or ()}
    if header.points and numbers.shape[1] < sum(widths.values()):
        raise UserError(
            f"{path}: its header wants {sum(widths.values())} numbers a point, and there are {numbers.shape[1]}"
        )
    for name, width in widths.items() if header.points else ():
        part = numbers[:, at : at + width]
        table[name] = part[:, 0] if table[name].ndim == 1 else part
        at += width
    return _named(table, header)


def _rows(body: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    there = len(body) // header.kind.itemsize
    if there < header.points:
        raise UserError(f"{path}: is cut off: {there:,} of {header.points:,} points are whole")
    return _named(np.frombuffer(body, header.kind, header.points), header)


def _columns(body: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    """Compressed: all values of one field, then all of the next."""
    if len(body) < 8:
        raise UserError(f"{path}: is cut off behind its header")
    packed, whole = (int(number) for number in np.frombuffer(body, "<u4", 2))
    wanted = header.points * header.kind.itemsize
    content = None
    if len(body) >= 8 + packed and whole <= 100 * packed:  # three bytes become 264 at most
        with suppress(ValueError, MemoryError):
            content = lzf.decompress(body[8 : 8 + packed], whole)
    if content is None or len(content) != whole or whole < wanted:
        raise UserError(f"{path}: its compressed points are cut off or damaged")
    found, at = {}, 0
    for name in header.kind.names or ():
        kind, shape = header.kind[name].base, header.kind[name].shape
        size = header.points * header.kind[name].itemsize
        found[name] = np.frombuffer(content[at : at + size], kind).reshape(-1, *shape)
        at += size
    return {name: values for name, values in found.items() if not name.startswith("_")}
