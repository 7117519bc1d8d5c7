"""Meshes: .obj, .off, .stl, read by trimesh. Polygons become triangles; materials and other files are not opened."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size

MOST_MATERIALS = 1_000  # of a mesh of which each becomes a part
_MATERIAL = re.compile(rb"^usemtl[^\n]*", re.MULTILINE)


def read_mesh(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """Vertices as points, with their colours (red, green, blue, 0 to 255) and normals, and the faces."""
    import trimesh

    refuse_size(16 * path.stat().st_size, path)
    content = _mended(path.read_bytes())
    kind = path.suffix.lower().removeprefix(".")
    if kind == "obj":
        content = _of_few_materials(content)
    try:
        found = trimesh.load(
            io.BytesIO(content), file_type=kind, process=False, maintain_order=True
        )
        parts: list[Any] = list(found.dump()) if isinstance(found, trimesh.Scene) else [found]
        vertices = [np.asarray(part.vertices, np.float64).reshape(-1, 3) for part in parts]
    except Exception as error:  # noqa: BLE001  (each of trimesh's readers has its own)
        raise UserError(
            f"{path}: is no .{kind} that can be read ({type(error).__name__}: {error})"
        ) from None
    if not sum(map(len, vertices)):
        raise UserError(f"{path}: holds no vertex")
    starts = np.cumsum([0, *map(len, vertices)])
    faces = [
        np.asarray(part.faces, np.int64) + start
        for part, start in zip(parts, starts[:-1], strict=True)
        if getattr(part, "faces", None) is not None and len(part.faces)
    ]
    joined = np.concatenate(faces) if faces else None
    return Cloud(np.concatenate(vertices), _colours(parts), joined, "mesh")


def _mended(content: bytes) -> bytes:
    """ModelNet's .off files have the counts on the first line: OFF490 518 0."""
    if content[:3] == b"OFF" and content[3:4].isdigit():
        return b"OFF\n" + content[3:]
    return content


def _of_few_materials(content: bytes) -> bytes:
    """An .obj without its materials where it has many: trimesh would look for a name for each among all before."""
    joined = content.replace(b"\r\n", b"\n").replace(b"\\\n", b"")
    if joined.count(b"usemtl") <= MOST_MATERIALS:
        return content
    return _MATERIAL.sub(b"", joined)


def _colours(parts: list[Any]) -> dict[str, np.ndarray]:
    """Of the vertices, where all parts have some of their own."""
    found = []
    for part in parts:
        visual = getattr(part, "visual", None)
        colours = getattr(part, "colors", None) if visual is None else None
        if visual is not None and getattr(visual, "kind", None) == "vertex":
            colours = visual.vertex_colors
        if colours is None or not len(colours):
            return {}
        found.append(np.asarray(colours)[:, :3])
    colours = np.concatenate(found)
    return {name: colours[:, k] for k, name in enumerate(("red", "green", "blue"))}
