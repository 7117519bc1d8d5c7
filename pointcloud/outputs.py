"""Where a verb writes what it makes of each file of points, and that it writes it whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isoform.core.errors import UserError
from isoform.pointcloud.predictor import expand_inputs


def places_of(
    inputs: Sequence[str], out: Path, written: tuple[str, ...], option: str = "--out"
) -> dict[str, Path]:
    """File -> where its answer is written: the one to `out`, several into that folder under their own names.

    written  endings that can be; a file of another kind becomes a .ply
    option   what the user calls `out`
    Raises UserError for two of one name, and for a file that would be overwritten.
    """
    files = expand_inputs(inputs)
    if not files:
        raise UserError(f"{', '.join(inputs)}: there is no file of points")
    if len(files) == 1 and out.suffix.lower() in written:
        places = {files[0]: out}
    elif out.suffix.lower() in written:
        raise UserError(f"{option} {out}: of {len(files)} files of points it is a folder")
    elif len(files) == 1 and out.suffix and not out.is_dir():
        raise UserError(f"{option} {out}: points are written as {' '.join(written)}")
    else:
        kinds = [Path(file).suffix if file.lower().endswith(written) else ".ply" for file in files]
        places = {
            file: out / (Path(file).stem + kind) for file, kind in zip(files, kinds, strict=True)
        }
    if len(set(places.values())) < len(places):
        raise UserError(f"{option} {out}: two files of points have one name; take them one by one")
    for file, place in places.items():
        if place.exists() and Path(file).exists() and place.samefile(file):
            raise UserError(f"{option} {place}: would overwrite what is read; name another place")
    return places


@contextmanager
def written_whole(place: Path) -> Iterator[Path]:
    """A path beside `place`, of the same kind, that takes its place once the block has ended; else it is removed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    half = place.with_name(f".{place.stem}.part{place.suffix}")
    try:
        yield half
        os.replace(half, place)
    finally:
        half.unlink(missing_ok=True)
