"""A file of any kind as a `Cloud`, by its name's ending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud

Reader = Callable[[Path, Sequence[str]], Cloud]

# Ending -> (module, function): a kind's library is loaded when its first file is read.
KINDS = {
    ".las": "las", ".laz": "las", ".ply": "ply", ".pcd": "pcd", ".obj": "mesh", ".off": "mesh", ".stl": "mesh",
    ".xyz": "text", ".pts": "text", ".txt": "text", ".csv": "text", ".asc": "text", ".npy": "arrays", ".npz": "arrays",
    ".h5": "arrays", ".hdf5": "arrays", ".bin": "arrays",
}  # fmt: skip
SUFFIXES = tuple(KINDS)


def read_cloud(path: str | Path, columns: Sequence[str] = ()) -> Cloud:
    """All points of a file, in its order.

    columns  names of a file's columns, where it can't tell them itself: .bin, .txt, .npy; such as x y z intensity

    Raises UserError for a file that is missing, empty, damaged, of another kind, or larger than can be held.
    """
    path = Path(path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: is no file of points that isoform reads; there are {' '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty")
    return _reader(kind)(path, tuple(columns))


def _reader(kind: str) -> Reader:
    if kind == "las":
        from isoform.pointcloud.files.las import read_las

        return read_las
    if kind == "ply":
        from isoform.pointcloud.files.ply import read_ply

        return read_ply
    if kind == "pcd":
        from isoform.pointcloud.files.pcd import read_pcd

        return read_pcd
    if kind == "mesh":
        from isoform.pointcloud.files.mesh import read_mesh

        return read_mesh
    if kind == "text":
        from isoform.pointcloud.files.text import read_text

        return read_text
    from isoform.pointcloud.files.arrays import read_arrays

    return read_arrays
