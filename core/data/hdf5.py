"""What a file of HDF5 (NetCDF-4 too) may ask for: its own numbers alone, in no more pieces than it has bytes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core.errors import UserError

if TYPE_CHECKING:
    import h5py

SECONDS = 3  # of the processor, and one more for every MiB, to read what describes a file's numbers
_ROOT = slice(64, 72)  # where the first object's header is, in the oldest form of file
_LEAST = 96  # bytes in front of it
_ENTRY = 8  # bytes that a file needs for each piece, in its table of pieces or as the piece itself


def refuse_hostile(file: h5py.File, path: Path) -> None:
    """Looks at every data set before any is read; nothing is followed that a link names.

    Raises UserError for one whose numbers lie in another file, which would be read as if it were the user's data, for
    a link to another file, and for one in more pieces than the file has room for: each of them costs time, also those
    that aren't there.
    """
    import h5py

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group):
            for key in item:
                if isinstance(item.get(key, getlink=True), h5py.ExternalLink):
                    raise UserError(
                        f"{path}: {key} is a link to another file; copy what it means into this one"
                    )
        elif isinstance(item, h5py.Dataset):
            _refuse_numbers(item, name, path)

    look("", file)
    file.visititems(look)


def refuse_without_root(path: Path) -> None:
    """Raises UserError where the first object lies outside the file: HDF5 makes room for what it takes for its size."""
    with path.open("rb") as stream:
        head = stream.read(_ROOT.stop)
    if head[:8] != b"\x89HDF\r\n\x1a\n" or head[8:9] != b"\0" or head[13:14] != b"\x08":
        return  # a later form, or one that doesn't begin at once
    root = int.from_bytes(head[_ROOT], "little")
    if not _LEAST <= root < path.stat().st_size:
        raise UserError(f"{path}: is damaged, its first object isn't in the file; replace it")


def refuse_endless(path: Path) -> None:
    """Raises UserError for a file that keeps HDF5's C code busy or crashes it, found out in a process of its own.

    It takes a quarter of a second. What is wrong with a file in any other way is said by who reads it.
    """
    seconds = SECONDS + path.stat().st_size // 2**20
    probe = Path(__file__).with_name("hdf5_probe.py")
    done = subprocess.run(
        [sys.executable, "-P", str(probe), str(path.resolve()), str(seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode < 0:  # ended by a signal
        raise UserError(
            f"{path}: is damaged such that HDF5 crashes, or takes more than {seconds} s for its head; replace it"
        )


def _refuse_numbers(item: h5py.Dataset, name: str, path: Path) -> None:
    if item.external or item.is_virtual:
        raise UserError(
            f"{path}: the numbers of {name} lie in another file; copy them into this one"
        )
    if item.chunks:
        pieces = math.prod(-(-n // c) for n, c in zip(item.shape, item.chunks, strict=True))
        if pieces * _ENTRY > path.stat().st_size:
            raise UserError(
                f"{path}: {name} claims {pieces:,} pieces, more than the file has room for"
            )
