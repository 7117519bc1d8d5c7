"""Text -> records of cells: preamble, delimiter, names of the columns, and rows with their line numbers.

The delimiter is told by the body, since a header may hold commas of its own ("activity (mean, sd)").
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from isoform.core.data import plain
from isoform.core.data.findings import NAMED, Finding, some
from isoform.core.data.text import Limits, lines_of
from isoform.core.errors import UserError

# In the order of preference where several fit: a comma is the one that also stands inside of cells.
DELIMITERS = ("\t", ";", "|", ",")
_SPELLED = {"\t": "tab", ";": "semicolon", "|": "vertical bar", ",": "comma"}
_LOOKED_AT = 100  # records, and
_HEAD = 2**20  # characters, for the delimiter and the header
_BLOCK = 2**20  # cells that are turned into columns at a time
_DATED = re.compile(r"[0-9]{4}[-/][0-9]|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{2}")
_END = re.compile("\r\n?|\n")
_MOST_RAGGED = 5_000_000  # cells of rows that don't fit: a short one takes room in every column
_LEAST_COLUMN = 100  # characters of a column from which on pyarrow's own 5 kB for it are worth it
_POOLED = 0.5  # of a column's first cells are different: equal cells of the column are held once below that

# What a domain may say of the first records of a table: True where the first holds values and not names.
Headless = Callable[[Sequence[Sequence[str]]], bool]


class PackedText:
    """A column of cells in as little memory as their text takes; a list of strings takes six times that."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts  # cells divided by NUL, which no text holds

    def cells(self) -> list[str]:
        """The cells; equal ones are held once where there are many."""
        if not self._parts:
            return []
        texts = "\0".join(self._parts).split("\0")
        head = texts[:1000]
        if len(set(head)) > _POOLED * len(head):
            return texts
        pool: dict[str, str] = {}
        return list(map(pool.setdefault, texts, texts))


TextColumn = PackedText | plain.ArrowText


@dataclass
class Cells:
    """Columns of text, each as long as `rows`.

    rows     the number of the line on which each record begins, from 1
    ragged   place -> the cells of a record that has another number of them than there are columns; the columns hold ""
    """

    columns: dict[str, TextColumn]
    rows: list[int] | range
    ragged: dict[int, list[str]] = field(default_factory=dict)
    delimiter: str = ","
    findings: list[Finding] = field(default_factory=list)


def split_cells(
    text: str,
    origin: str,
    name: str,
    limits: Limits,
    delimiter: str | None = None,
    headless: Headless | None = None,
) -> Cells:
    """The cells of a delimited text, without the blanks around them.

    A first line `sep=;` and lines that begin with # before the names are passed over and said. Rows without any cell
    are left out. Raises UserError where there is no header, two columns have one name, a quotation mark is missing, or
    the table is larger than `limits`.
    """
    with long_cells():
        return _split(text, origin, name, limits, delimiter, headless)


def _split(
    text: str,
    origin: str,
    name: str,
    limits: Limits,
    delimiter: str | None,
    headless: Headless | None,
) -> Cells:
    preamble = _preamble(text, delimiter)
    findings = list(preamble.findings)
    body = preamble.body
    if not body.partition("\n")[0].strip():
        raise UserError(
            f"{origin}: the first line is empty; it names the columns, for example path,label"
        )
    chosen = preamble.delimiter or find_delimiter(body)
    records = records_of(body, chosen, origin, preamble.lines)
    head = _head_records(body, chosen)
    names = _commented_header(preamble.comments, head, chosen)
    named = False  # by the body's first line
    if names is not None:
        findings.append(Finding(f"the columns of {name} are named by a line that begins with #"))
    elif head and headless is not None and headless(head):
        findings.append(
            Finding(
                f"the first line of {name} holds values; columns are called column 1, column 2, ..."
            )
        )
        names = [""] * len(head[0])
    else:
        names, named = _header(next(records)[1], body, origin), True
    names = name_columns(names, origin, findings, limits)
    if chosen != "," and not (chosen == "\t" and name.lower().endswith((".tsv", ".tab"))):
        findings.append(Finding(f"cells are divided by a {_SPELLED.get(chosen, repr(chosen))}"))
    parsed = Cells({}, [], {}, chosen, findings)
    if not _fill_plain(parsed, names, body, preamble.lines, named, limits):
        _fill(parsed, names, records, origin, limits)
    return parsed


def _header(record: Sequence[str], body: str, origin: str) -> list[str]:
    """The names in the first record. Raises UserError where it holds values."""
    names = [cell.strip() for cell in record]
    if all(_is_value(cell) for cell in names):
        raise UserError(
            f'{origin}: the first line holds values ("{body[:40].splitlines()[0]}") where it should name the '
            "columns; add one"
        )
    return names


@dataclass(frozen=True)
class _Preamble:
    body: str
    lines: int  # that stand in front of it
    comments: tuple[str, ...]
    delimiter: str | None
    findings: tuple[Finding, ...]


def _preamble(text: str, delimiter: str | None) -> _Preamble:
    findings: list[Finding] = []
    comments: list[str] = []
    place = lines = 0
    line, after = _line_at(text, 0)
    bare = line.strip('\r\n "')
    if bare[:4].lower() == "sep=" and len(bare.strip()) <= 5:
        delimiter = delimiter or bare[4:5] or None
        findings.append(Finding(f'the line "{bare.strip()}" tells how cells are divided'))
        place, lines = after, 1
    while place < len(text):
        line, after = _line_at(text, place)
        if line.startswith("#"):
            comments.append(line.strip())
        elif line.strip() or not comments:
            break
        place, lines = after, lines + 1
    findings += passed_over(comments)
    return _Preamble(text[place:], lines, tuple(comments), delimiter, tuple(findings))


def passed_over(comments: Sequence[str]) -> list[Finding]:
    """Says that lines of comments stand in front of the names, where there are any."""
    if not comments:
        return []
    count = f"{len(comments)} lines that begin" if len(comments) > 1 else "a line that begins"
    return [Finding(f"{count} with # in front of the names: passed over ({comments[0][:60]})")]


def _line_at(text: str, place: int) -> tuple[str, int]:
    """(the line that begins at `place`, where the next begins); lines end in LF, CR LF or CR."""
    end = _END.search(text, place)
    return (text[place : end.start()], end.end()) if end else (text[place:], len(text))


def find_delimiter(body: str) -> str:
    """The delimiter that divides the header and most rows of the body into the same number of cells, at least two.

    Where none does, the one that the header has most of; of a header without any, none that the rows have.
    """
    header = _line_at(body, 0)[0]
    for candidate in DELIMITERS:
        if candidate not in header:
            continue
        head = _head_records(body, candidate)
        widths = Counter(_width(record) for record in head[1:])
        if not widths:
            continue
        usual, count = widths.most_common(1)[0]
        if usual > 1 and usual == _width(head[0]) and 2 * count >= len(head) - 1:
            return candidate
    counts = {candidate: header.count(candidate) for candidate in (",", ";", "\t", "|")}
    if any(counts.values()):
        return max(counts, key=counts.__getitem__)
    # A single column, in which a comma may be the decimal mark.
    numbers = [line for line in body[:_HEAD].splitlines()[1:_LOOKED_AT] if line.strip()]
    alike = [
        line
        for line in numbers
        if line.strip().replace(",", "").lstrip("+-").isdigit() and line.count(",") == 1
    ]
    return "\t" if alike and 2 * len(alike) >= len(numbers) else ","


def _width(record: Sequence[str]) -> int:
    """Cells up to the last that isn't empty behind the second: a delimiter at the end of a line is no cell."""
    width = len(record)
    while width > 2 and not record[width - 1].strip():
        width -= 1
    return width


def _head_records(body: str, delimiter: str) -> list[list[str]]:
    """The first records, forgiving: what is wrong with the text is said when all of it is read."""
    reader = csv.reader(
        lines_of(body[:_HEAD]), delimiter=delimiter, skipinitialspace=delimiter != " "
    )
    head: list[list[str]] = []
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                head.append(record)
            if len(head) > _LOOKED_AT:
                break
    except csv.Error:
        pass
    return head


def _commented_header(
    comments: Sequence[str], head: Sequence[Sequence[str]], delimiter: str
) -> list[str] | None:
    """The names in the last line of comments, where the line behind it holds values and as many cells."""
    if not comments or not head:
        return None
    (cells,) = csv.reader([comments[-1]], delimiter=delimiter, skipinitialspace=True)
    names = [cell.strip() for cell in cells]
    bare = names[0].lstrip("#").strip()
    names[0] = bare or names[0]
    first = [cell.strip() for cell in head[0]]
    if len(names) != len(first) or len(names) < 2:
        return None
    holds_values = any(_is_value(cell) for cell in first) and not any(
        _is_value(name) for name in names
    )
    return names if holds_values else None


def _is_value(name: str) -> bool:
    """True for a number, with either decimal mark, or a stamp where a column's name should stand."""
    if _DATED.match(name):
        return True
    try:
        float(name.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def name_columns(
    names: Sequence[str], origin: str, findings: list[Finding], limits: Limits
) -> list[str]:
    """The names, "column 3" for the third where it has none. Raises UserError for two of one name, and too many."""
    if len(names) > limits.columns:
        raise UserError(
            f"{origin}: has {len(names):,} columns; at most {limits.columns:,} are read"
        )
    blank = [place for place, name in enumerate(names, 1) if not name]
    if blank and len(blank) < len(names):
        shown = some([f"column {place}" for place in blank])
        findings.append(Finding(f"columns without a name are called by their place: {shown}"))
    named = [name or f"column {place}" for place, name in enumerate(names, 1)]
    if len(set(named)) < len(named):
        counts = Counter(named)
        double = next(name for name in named if counts[name] > 1)
        raise UserError(
            f'{origin}: two columns have the same name, they are called "{double}"; give each its own name'
        )
    return named


@contextmanager
def long_cells() -> Iterator[None]:
    """Lets the csv module read cells of more than 131,072 characters, its default."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def records_of(
    text: str, delimiter: str, origin: str, before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of every record, blank lines left out. Raises UserError.

    before   lines of the file in front of the text

    A cell may be longer than 131,072 characters within `long_cells`.
    """
    reader = csv.reader(
        lines_of(text), delimiter=delimiter, skipinitialspace=delimiter != " ", strict=True
    )
    line = 1 + before
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1 + before
    except csv.Error as error:
        raise UserError(f"{origin} line {line}: {error}; is a quotation mark missing?") from None


def _fill_plain(
    table: Cells, names: Sequence[str], body: str, before: int, named: bool, limits: Limits
) -> bool:
    """Takes a large plain text's columns from `plain`. False, and nothing done, where it is any other.

    before   lines in front of the body        named   whether its first line holds the names
    """
    place = _line_at(body, 0)[1] if named else 0
    few = len(body) < max(plain.LARGE, _LEAST_COLUMN * len(names))
    if few or table.delimiter not in DELIMITERS or '"' in body[:place]:
        return False
    columns = plain.split_plain(body[place:], names, table.delimiter)
    if columns is None:
        return False
    rows = len(columns[names[0]])
    if rows * len(names) > limits.cells:
        return False
    first = before + named + 1
    table.columns, table.rows = dict(columns), range(first, first + rows)
    return True


def _fill(
    table: Cells,
    names: Sequence[str],
    records: Iterator[tuple[int, list[str]]],
    origin: str,
    limits: Limits,
) -> None:
    """Turns records into columns, block by block."""
    width = len(names)
    columns: list[list[str]] = [[] for _ in names]
    height = max(1, _BLOCK // width)
    blank = [""] * width
    empty: list[int] = []
    rows: list[int] = []
    while block := list(itertools.islice(records, height)):
        whole: list[list[str]] = []
        for line, cells in block:
            if len(cells) != width:
                cells = _fitted(cells, width)
            if not any(cells) or not any(map(str.strip, cells)):
                empty.append(line)
                continue
            if len(cells) != width:
                table.ragged[len(rows)] = [cell.strip() for cell in cells]
                cells = blank
            rows.append(line)
            whole.append(cells)
        for column, part in zip(columns, zip(*whole, strict=True), strict=False):
            column.append("\0".join(map(str.strip, part)))
        if len(table.ragged) * width > _MOST_RAGGED:
            raise UserError(
                f"{origin}: {len(table.ragged):,} rows have another number of cells than there are columns, "
                f"{width:,}; mend or leave out these rows"
            )
        if len(rows) * width > limits.cells:
            most = limits.cells // max(1, width)
            raise UserError(
                f"{origin}: has more than {most:,} rows of {width:,} columns; leave out some columns"
            )
    if empty and width > 1:
        count = (
            f"{len(empty):,} rows without any cell are"
            if len(empty) > 1
            else "a row without any cell is"
        )
        lines = ", ".join(map(str, empty[:NAMED])) + (", ..." if len(empty) > NAMED else "")
        table.findings.append(Finding(f"{count} left out (line {lines})", rows=tuple(empty)))
    table.rows = rows
    table.columns = {name: PackedText(parts) for name, parts in zip(names, columns, strict=True)}


def _fitted(cells: list[str], width: int) -> list[str]:
    """A record without the empty cells that stand behind the last column."""
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    return cells
