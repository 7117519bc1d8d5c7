"""How large a file may be, and its digest: what every reader of series asks before it reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

from isoform.core.errors import UserError

MOST_BYTES = 4 * 2**30  # of a file, unpacked, or of its numbers, that are read into memory


def check_size(path: Path, size: int, what: str = "") -> None:
    """Raises UserError where more than MOST_BYTES would be read into memory."""
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: {what or 'its size'} of {size / 2**30:.1f} GiB is more than the {MOST_BYTES >> 30} GiB that are "
            "read into memory; write it as a Zarr store (xarray.Dataset.to_zarr), which is streamed"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
