"""Numbers in text, a point a line: .xyz .pts .txt .csv .asc, apart by blanks, commas or semicolons.

A first line of words names the columns, and one of a single number is the count that .pts begins with. Without names
the first three columns are x, y, z and the others column 4, column 5, ..., unless they are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size, split_axes, usual_names

COMMENTS = ("#", "//")


def read_text(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """See the module's text."""
    refuse_size(8 * path.stat().st_size, path)
    names, skipped, separator = _look(path)
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            table = np.loadtxt(
                file, delimiter=separator, comments=list(COMMENTS), skiprows=skipped, ndmin=2
            )
    except ValueError as error:
        raise UserError(f"{path}: is no table of numbers, a point a line ({error})") from None
    if not len(table):
        raise UserError(f"{path}: holds no point")
    given = tuple(columns) or names or usual_names(table.shape[1])
    if len(given) != table.shape[1]:
        raise UserError(
            f"{path}: has {table.shape[1]} columns, and {len(given)} names: {', '.join(given)}"
        )
    xyz, fields = split_axes(dict(zip(given, table.T, strict=True)), path)
    return Cloud(xyz, fields, None, "text")


def _look(path: Path) -> tuple[tuple[str, ...], int, str | None]:
    """(names of the columns, lines in front of the numbers, what stands between them)."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        names: tuple[str, ...] = ()
        for number, line in enumerate(file):
            text = line.strip()
            if not text or text.startswith(COMMENTS):
                continue
            separator = next((mark for mark in ",;" if mark in text), None)
            parts = [part.strip() for part in text.split(separator)]
            if len(parts) == 1 and parts[0].isdigit():
                continue  # the count of .pts
            if all(_is_number(part) for part in parts):
                return names, number, separator
            if names:
                raise UserError(f"{path}: line {number + 1} is no line of numbers: {text[:60]!r}")
            names = tuple(part.strip('"') for part in parts)
    raise UserError(f"{path}: holds no line of numbers")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
