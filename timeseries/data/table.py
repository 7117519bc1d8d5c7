"""The columns of a file or DataFrame as core's reader has them; NetCDF and Zarr make the same of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.data.frame import to_frame
from isoform.core.data.read import read_table
from isoform.core.data.table import Table as CoreTable
from isoform.core.data.text import STDIN, Limits
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data import source_file
from isoform.timeseries.data.names import find_time, pick, unit_in


@dataclass
class Table:
    """A file's rows and columns as read.

    frame    numeric columns as numbers, others as text; every column has its own name
    numbers  what a person calls each row: the line of a text that it begins on, other files' rows from 1
    units    column -> unit, where the file gives one
    groups   name -> columns, of a variable that has further axes than time (NetCDF, Zarr)
    time     the columns of stamps, where the file itself says which (NetCDF, Zarr)
    source   where core's reader read it: its cells as they are written
    """

    frame: pd.DataFrame
    where: str
    numbers: np.ndarray
    units: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    time: tuple[str, ...] = ()
    left_out: list[tuple[str, str]] = field(default_factory=list)
    source: CoreTable | None = None

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [str(name) for name in self.frame]

    def unit(self, name: str) -> str:
        """What the file says beside the name, in its cells or in the name itself; "" where nowhere."""
        written = {} if self.source is None else self.source.units
        return self.units.get(name) or written.get(name) or unit_in(name)

    def cell(self, name: str, row: int) -> str:
        """As it is written."""
        if self.source is not None and name in self.source.columns:
            return self.source.cells(name)[row]
        return str(self.frame[name].iloc[row])

    def read_text(self, name: str) -> Numbers:
        """A column that isn't numbers alone as numbers, however they are written; a bound such as >10 is its number.

        Raises UserError for a column whose cells look like numbers, many of which can't be read.
        """
        if self.source is not None and name in self.source.columns:
            found = self.source.numbers(name)
            if found.problem:
                raise UserError(
                    f'{self.where}: column "{name}": {found.problem}; data.drop leaves the column out'
                )
            self.source.say_bounds(name)
            return Numbers(found.values, [row for row, _ in found.unread], len(found.infinite))
        column = self.frame[name]
        values = np.asarray(
            pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        )
        unread = np.flatnonzero(np.isnan(values) & column.notna().to_numpy()).tolist()
        return Numbers(values, [row for row in unread if str(column.iloc[row]).strip()])


@dataclass(frozen=True)
class Numbers:
    """A column of text as float64 [rows], NaN where there is no number.

    wrong     rows whose cell is filled and no number
    infinite  how many cells are
    """

    values: np.ndarray
    wrong: list[int]
    infinite: int = 0

    @property
    def count(self) -> int:
        """Cells that are numbers."""
        return int(np.isfinite(self.values).sum()) + self.infinite


def read_columns(source: str | Path | Any, data: DataConfig) -> Table:
    """The table of a csv, parquet or xlsx file, of standard input ("-") or of a DataFrame, by core's reader.

    Raises UserError for what can't be read, for rows with more cells than there are columns, and for what is too large.
    """
    if isinstance(source, str | Path) and str(source) != STDIN:
        path = Path(source)
        source_file.check_size(path, path.stat().st_size)
    found = read_table(
        source,
        missing=data.missing,
        decimal=data.decimal,
        limits=Limits(bytes=source_file.MOST_BYTES),
    )
    found.fill_short_rows()
    found.refuse_ragged()
    where = "the DataFrame" if found.kind == "frame" else found.origin
    if not len(found):
        raise UserError(f"{where}: has a head but no rows")
    texts: list[str] = []
    if found.kind == "csv":  # the others say of which type their cells are
        texts += find_time(found.names, data, where)
        for name in data.id or ():
            texts += pick(name, found.names, where, "data.id")
    frame = to_frame(found, texts).reset_index(drop=True)
    return Table(frame, where, np.asarray(found.rows), dict(found.units), source=found)
