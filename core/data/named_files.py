"""A table that names files, one a row: `data.table` of images and of clouds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from isoform.core.data.read import read_table
from isoform.core.data.table import Table
from isoform.core.errors import UserError


def read_table_of_files(
    path: Path,
    root: str | None,
    *,
    missing: Iterable[str | float] = (),
    decimal: str = "auto",
) -> tuple[Table, Path]:
    """The table, and the folder that its paths are relative to: `root` (data.root), else the table's own.

    Raises UserError for a table without rows, for ragged rows, and for a folder that isn't there.
    """
    table = read_table(path, missing=missing, decimal=decimal, key="data.table")
    table.refuse_ragged()
    if not len(table):
        raise UserError(f"{path}: the table has a first line but no rows")
    folder = Path(root).expanduser() if root else path.parent
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder (data.root), which the paths in {path} are relative to"
        )
    return table, folder


def file_named(
    table: Table,
    row: int,
    cell: str,
    root: Path,
    *,
    what: str,
    absent: bool,
    follow_links: bool = False,
) -> str:
    """A row's path below `root`, as its cell has it. Raises UserError, naming the row, for one that can't be meant.

    what          the files, for messages ("images")
    absent        a file that isn't there is allowed; it is left out later, with those that can't be read
    follow_links  links may lead out of `root`, the path itself may not
    """
    where = f"{table.origin} {table.row_name(row)}"
    if not cell or "\0" in cell:
        raise UserError(f"{where}: the path is empty")
    home, place = root.resolve(), (root / cell).resolve()
    if follow_links:
        home, place = Path(os.path.abspath(root)), Path(os.path.abspath(root / cell))
    if not place.is_relative_to(home):
        raise UserError(
            f"{where}: {cell} leads out of {root}; keep the {what} below it or set data.root"
        )
    if not absent and not place.is_file():
        raise UserError(
            f'{where}: {root / cell}: no such file; leave such rows out with --set data.on_error="skip"'
        )
    return cell
