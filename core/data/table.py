"""A table as read: cells as text, columns as numbers on request, and findings about all that was chosen on the way."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from isoform.core.data.delimited import TextColumn
from isoform.core.data.findings import NAMED, Finding, merged, some
from isoform.core.data.notation import decimal_evidence
from isoform.core.data.numbers import Notation, Numbers, is_settled, plain_numbers, read_numbers
from isoform.core.data.plain import ArrowText
from isoform.core.errors import UserError, count

if TYPE_CHECKING:
    import pandas as pd

_KEPT = 2_000_000  # cells of a table whose text is kept once it was asked for
_MEASURED = (
    20  # different numbers with decimals in a column of classes from which on they aren't classes
)
_TELLING = 10_000  # cells of a column that are looked at for the decimal mark of the others


class Typed(Protocol):
    """A column whose source says what its cells are (parquet, a DataFrame, numbers of a spreadsheet)."""

    @property
    def numeric(self) -> bool:
        """Whether every filled cell is a number."""
        ...

    def cells(self) -> list[str]:
        """The cells as text, "" where there is nothing."""
        ...

    def numbers(self) -> np.ndarray:
        """float64 [n], NaN where there is nothing and, in a column that isn't `numeric`, where there is no number."""
        ...

    def series(self) -> pd.Series:
        """The column with its own type."""
        ...


@dataclass
class Table:
    """The rows and columns of a source, as text and, where the source has types, as these.

    origin    what messages call it                    name      its last part
    kind      "csv", "parquet", "xlsx" or "frame"      sha256    of the file as it is stored, "" of a DataFrame
    rows      the number of each row as an editor shows it: the line on which it begins, from 1; for parquet and
              DataFrames, the row from 1; for a spreadsheet, its row
    ragged    place -> cells of a row that has another number of them than there are columns; elsewhere it is empty
    units     column -> unit, where the file gives one beside the names
    missing   words and numbers that stand for no value (data.missing)
    decimal   the mark that data.decimal sets, None where a column tells its own
    """

    origin: str
    name: str
    kind: str
    columns: dict[str, TextColumn | Typed]
    rows: Sequence[int] | np.ndarray
    ragged: dict[int, list[str]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    delimiter: str = ","
    sha256: str = ""
    missing: frozenset[str | float] = frozenset()
    decimal: str | None = None
    said: list[Finding] = field(default_factory=list)
    _texts: dict[str, list[str]] = field(
        default_factory=dict,
        repr=False,
    )
    _numbers: dict[str, Numbers] = field(
        default_factory=dict,
        repr=False,
    )
    _elsewhere: dict[str, str] = field(default_factory=dict, repr=False)
    _marks: Counter[str] = field(default_factory=Counter, repr=False)  # those of `_elsewhere`

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """The columns' names, in the order of the source."""
        return list(self.columns)

    @property
    def findings(self) -> list[Finding]:
        """What was chosen so far; what is true of several columns is one finding."""
        return merged(self.said)

    def say(self, text: str, *columns: str, rows: Iterable[int] = ()) -> None:
        """Adds a finding."""
        self.said.append(Finding(text, columns, tuple(rows)))

    def row_name(self, row: int) -> str:
        """ "line 7" of a text, "row 7" of any other source, for the row at place `row` from 0."""
        return f"{'line' if self.kind == 'csv' else 'row'} {self.rows[row]}"

    def row_names(self) -> list[str]:
        """`row_name` of every row."""
        word = "line" if self.kind == "csv" else "row"
        return [f"{word} {number}" for number in self.rows]

    def settle(self, missing: Iterable[str | float] = (), decimal: str = "auto") -> None:
        """Takes data.missing and data.decimal, before any column is read as numbers."""
        words = [word.strip().lower() if isinstance(word, str) else float(word) for word in missing]
        self.missing = frozenset([*words, *itertools.chain.from_iterable(map(_number, words))])
        self.decimal = None if decimal == "auto" else decimal

    def cells(self, name: str) -> list[str]:
        """A column as text without blanks around it, "" where there is nothing."""
        texts = self._texts.get(name)
        if texts is None:
            texts = self.columns[name].cells()
            if len(self) * len(self.columns) <= _KEPT:
                self._texts[name] = texts
        return texts

    def typed(self, name: str) -> Typed | None:
        """The column as its source has it, None where that is text alone."""
        column = self.columns[name]
        return None if isinstance(column, TextColumn) else column

    def numbers(self, name: str) -> Numbers:
        """A column as numbers, with the cells that are none; the way it is written is added to the findings."""
        if name not in self._numbers:
            numbers = self._numbers[name] = self._read_numbers(name)
            self.said += [Finding(text, (name,)) for text in numbers.findings]
            if numbers.unit:
                self.units.setdefault(name, numbers.unit)
        return self._numbers[name]

    def say_bounds(self, name: str) -> None:
        """Adds a finding where a column holds bounds such as ">10", for a domain that takes them as their numbers."""
        found = self.numbers(name).censored
        if found:
            self.say(f"bounds count as their number: {self.shown(found)}", name)

    def refuse_measurements(self, name: str, classes: Collection[str]) -> None:
        """Raises UserError where the different cells of a column of classes are many numbers, most of them no whole
        ones: they were measured."""
        broken = sum(_is_broken(one) for one in classes)
        if broken > _MEASURED and broken > len(classes) / 2:
            raise UserError(
                f'{self.origin}: column "{name}" holds {len(classes):,} different numbers, such as {min(classes)}, '
                "where classes are expected; set data.task = regression to predict them as numbers, or data.classes if "
                "they are classes all the same"
            )

    def _read_numbers(self, name: str) -> Numbers:
        notation = Notation(
            self.delimiter, self.missing, self.decimal, lambda: self._decimal_elsewhere(name)
        )
        column = self.columns[name]
        if isinstance(column, ArrowText):
            values = column.numbers()
            if values is not None and (not column.holds(".") or is_settled(column, notation)):
                return plain_numbers(values, notation, written=True)
        typed = self.typed(name)
        if typed is None:
            return read_numbers(self.cells(name), notation)
        known = np.array(typed.numbers(), np.float64)
        if typed.numeric:
            return plain_numbers(known, notation)
        return read_numbers(self.cells(name), notation, known)

    def _decimal_elsewhere(self, name: str) -> str:
        """The decimal mark of all other columns of text that show one, "" where they differ."""
        if len(self._elsewhere) < len(self.columns):
            for other, column in self.columns.items():
                telling = isinstance(column, TextColumn)
                self._elsewhere[other] = (
                    decimal_evidence(self.cells(other)[:_TELLING]) if telling else ""
                )
            self._marks = Counter(self._elsewhere.values())
        own = self._elsewhere[name]
        marks = [mark for mark, n in self._marks.items() if mark and n > (mark == own)]
        return marks[0] if len(marks) == 1 else ""

    def why_ragged(self, row: int) -> str:
        """ "has 2 cells where there are 3 columns"."""
        cells, columns = count(len(self.ragged[row]), "cell"), count(len(self.columns), "column")
        return f"has {cells} where there are {columns}"

    def refuse_ragged(self) -> None:
        """Raises UserError naming the first row with another number of cells than there are columns."""
        for row in self.ragged:
            raise UserError(
                f"{self.origin} {self.row_name(row)}: {self.why_ragged(row)}{self._more_ragged()}"
            )

    def _more_ragged(self) -> str:
        rest = len(self.ragged) - 1
        return f" (and {rest:,} more such rows)" if rest else ""

    def fill_short_rows(self) -> None:
        """Takes rows that have fewer cells than there are columns as empty behind; says so. Longer ones stay ragged."""
        width = len(self.columns)
        short = [row for row, cells in self.ragged.items() if len(cells) < width]
        for place, name in enumerate(self.columns if short else ()):
            cells = self._texts[name] = self.cells(name)
            for row in short:
                cells[row] = self.ragged[row][place] if place < len(self.ragged[row]) else ""
        for row in short:
            del self.ragged[row]
        if short:
            lines = some([str(self.rows[row]) for row in short], NAMED)
            self.say(
                f"{len(short):,} rows have fewer cells than there are columns; the rest is empty (line {lines})",
                rows=[int(self.rows[row]) for row in short],
            )

    def shown(self, cells: Sequence[tuple[int, str]]) -> str:
        """ "'>10' (line 3), '<1' (line 5) and 7 more", of (row, cell)."""
        some_cells = [f"{cell[:40]!r} ({self.row_name(row)})" for row, cell in cells[: NAMED + 1]]
        more = f" and {len(cells) - NAMED:,} more" if len(cells) > NAMED else ""
        return ", ".join(some_cells[:NAMED]) + more


def _number(word: str | float) -> list[float]:
    """The number that a word of data.missing spells, if it does: "-9999" stands for -9999.0 too."""
    try:
        number = float(word)
    except ValueError:
        return []
    return [number] if math.isfinite(number) else []


def _is_broken(cell: str) -> bool:
    """Whether a cell is a number that is no whole one."""
    try:
        return not float(cell.replace(",", ".")).is_integer()
    except (ValueError, OverflowError):
        return False
