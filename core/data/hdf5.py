"""What a file of HDF5 (NetCDF-4 too) may ask for: its own numbers alone, in no more pieces than it has bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core.errors import UserError

if TYPE_CHECKING:
    import h5py

_ENTRY = 8  # bytes that a file needs for each piece, in its table of pieces or as the piece itself


def refuse_hostile(file: h5py.File, path: Path) -> None:
    """Looks at every data set before any is read; nothing is followed that a link names.

    Raises UserError for one whose numbers lie in another file, which would be read as if it were the user's data, for
    a link to another file, and for one in more pieces than the file has room for: each of them costs time, also those
    that aren't there.
    """
    import h5py

    def look(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
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

    leading = list[str]()

    def follow(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            leading.append(name)

    file.visititems_links(follow)
    if leading:  # what is raised in a visit of links is lost in HDF5
        raise UserError(
            f"{path}: {leading[0]} is a link to another file; copy what it means into this one"
        )
    file.visititems(look)
