"""Cells -> numbers, whatever marks they are written with: 1,5 and 1.5, 1.105,5 and 1'105.5, 12 %, $3, (3), <3, 3 mg.

One column is written one way. Which of comma and point is its decimal mark follows from its own cells (2,5 can only be
a decimal comma, 1.234.567 only a thousands point); where they leave it open (all are like 1.105), from the other
columns, then from a stated rule, and the choice is said. A cell that doesn't fit the way of its column is named.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from isoform.core.data.findings import some
from isoform.core.data.missing import CODES, MISSING
from isoform.core.data.notation import MINUS, Parts, looks_like_number, take_apart

ENOUGH = 0.8  # of a column's cells are numbers: the others count as missing, and are named
_MOST_UNITS = 6  # more of them in one column, and they are codes: 12A, 3C, 7F
_OPEN_COMMA = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")
_POINTS = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")  # 1.105: either mark


@dataclass
class Numbers:
    """A column as float64 [n], NaN where there is no number.

    unread     (row, cell) of cells that are neither numbers nor missing
    censored   (row, cell) of bounds such as ">10" and "~3"; `values` holds the bound
    infinite   (row, cell); `values` holds NaN
    plain      every cell of a text is known to be a finite number as float() takes it, or empty
    problem    why a column whose cells mostly look like numbers can't be read as one, else ""
    """

    values: np.ndarray
    unread: list[tuple[int, str]] = field(default_factory=list)
    censored: list[tuple[int, str]] = field(default_factory=list)
    infinite: list[tuple[int, str]] = field(default_factory=list)
    unit: str = ""
    findings: list[str] = field(default_factory=list)
    problem: str = ""
    plain: bool = False

    @property
    def numeric(self) -> bool:
        """Whether this is a column of numbers, with a few cells that are none at most."""
        read = int(np.isfinite(self.values).sum())
        return read > 0 and read >= ENOUGH * (read + len(self.unread))


@dataclass(frozen=True)
class Notation:
    """What is known of a column before its cells are looked at.

    delimiter   of the file
    missing     words (in small letters) and numbers that stand for no value, beside the usual words
    decimal     the mark, where it is set
    others      -> the decimal mark that the other columns of the file show, or ""
    """

    delimiter: str = ","
    missing: frozenset[str | float] = frozenset()
    decimal: str | None = None
    others: Callable[[], str] = lambda: ""


def read_numbers(
    cells: Sequence[str], notation: Notation | None = None, known: np.ndarray | None = None
) -> Numbers:
    """The numbers of a column; see the module for the rules. What isn't plain (float takes it) is a finding.

    known   float64 [n], the cells that the source itself has as numbers, NaN elsewhere: their text says nothing
    """
    notation = notation or Notation()
    numbers = Numbers(np.full(len(cells), math.nan))
    texts = cells
    if known is not None:
        texts = [cell if value != value else "" for cell, value in zip(cells, known, strict=True)]
    elif notation.decimal is None and _read_decimal_commas(cells, numbers, notation):
        return numbers
    odd = _read_plain(texts, numbers, notation)
    if known is not None:
        numbers.values[:] = np.where(np.isnan(known), numbers.values, known)
    if not odd and is_settled(texts, notation):
        _leave_out(numbers, notation)
        _name_codes(numbers)
        return numbers
    parts = {cell: parsed for cell in odd if (parsed := take_apart(cell)) is not None}
    decimal = notation.decimal or _decide(texts, parts, notation, numbers)
    units = _read_odd(cells, odd, parts, decimal, numbers)
    if decimal == ",":
        _read_plain_again(texts, odd, numbers)
    _leave_out(numbers, notation)
    _say_problem(units, numbers)
    _name_codes(numbers)
    if numbers.problem or np.isfinite(numbers.values).sum() < len(
        numbers.unread
    ):  # a column of text, or of two units
        numbers.findings.clear()
        numbers.unit = ""
    return numbers


def plain_numbers(values: np.ndarray, notation: Notation, written: bool = False) -> Numbers:
    """A column whose cells are numbers already, float64 [n], NaN where there is none; `values` becomes the result's.

    written   whether they are text, which says the same
    """
    numbers = Numbers(values, plain=written)
    for row in np.flatnonzero(np.isinf(values)).tolist():
        numbers.infinite.append((row, str(values[row])))
        values[row] = math.nan
    _leave_out(numbers, notation)
    _name_codes(numbers)
    return numbers


def is_settled(cells: Iterable[str], notation: Notation) -> bool:
    """Whether what float() takes is what is meant, whichever mark the others have."""
    if notation.decimal is None:
        return not _has_open_points(cells)
    return notation.decimal == "." or not any("." in cell for cell in cells)


def _read_decimal_commas(cells: Sequence[str], numbers: Numbers, notation: Notation) -> bool:
    """The common case in one go: a column of 1,5 and 2 without any point. False where it is another."""
    joined = "".join(cells)
    if "," not in joined or "." in joined or "_" in joined:
        return False
    if all(_OPEN_COMMA.fullmatch(cell) is not None for cell in cells if "," in cell):
        return False
    try:
        values = np.fromiter(
            (float(cell.replace(",", ".") or "nan") for cell in cells), np.float64, len(cells)
        )
    except ValueError:
        return False
    if np.isinf(values).any():
        return False
    numbers.values[:] = values
    numbers.findings.append("the comma is the decimal mark")
    _leave_out(numbers, notation)
    _name_codes(numbers)
    return True


def _leave_out(numbers: Numbers, notation: Notation) -> None:
    """Takes the numbers of data.missing out."""
    for code in [number for number in notation.missing if not isinstance(number, str)]:
        rows = np.flatnonzero(numbers.values == code)
        numbers.values[rows] = math.nan
        if len(rows):
            numbers.findings.append(
                f"{code:g} counts as missing (data.missing), {_cells(len(rows))}"
            )


def _read_plain(cells: Sequence[str], numbers: Numbers, notation: Notation) -> dict[str, list[int]]:
    """Fills in what float() takes; returns the rows of every other text that isn't missing."""
    odd: dict[str, list[int]] = {}
    words = {word.lower() for word in notation.missing if isinstance(word, str)}
    values = numbers.values
    try:
        values[:] = np.fromiter((float(cell or "nan") for cell in cells), np.float64, len(cells))
        plain = True
    except ValueError:
        plain = False
    if not plain:
        for row, cell in enumerate(cells):
            try:
                values[row] = float(cell)
            except ValueError:
                if cell:
                    odd.setdefault(cell, []).append(row)
    underscored = (
        [row for row, cell in enumerate(cells) if "_" in cell] if "_" in "".join(cells) else []
    )
    for row in underscored:  # float() takes 1_000
        if not math.isnan(values[row]):
            values[row] = math.nan
            odd.setdefault(cells[row], []).append(row)
    for cell in [
        cell for cell in odd if cell.strip().lower() in MISSING or cell.strip().lower() in words
    ]:
        del odd[cell]
    for row in np.flatnonzero(np.isinf(values)).tolist():
        numbers.infinite.append((row, cells[row]))
        values[row] = math.nan
    return odd


def _cells(count: int) -> str:
    return f"{count:,} cells" if count > 1 else "1 cell"


def _has_open_points(cells: Iterable[str]) -> bool:
    """Whether there are points and all of them stand in front of three last digits, as in 1.105."""
    some_point = False
    for cell in cells:
        if "." in cell and cell.strip().lower() not in MISSING:
            if _POINTS.fullmatch(cell) is None:
                return False
            some_point = True
    return some_point


def _decide(
    cells: Sequence[str], parts: dict[str, Parts], notation: Notation, numbers: Numbers
) -> str:
    """The decimal mark of a column; a choice that its own cells don't force is said."""
    votes = Counter(one.evidence for one in parts.values())
    values = numbers.values.tolist()
    pointed = [
        cell for cell, value in zip(cells, values, strict=True) if "." in cell and value == value
    ]
    open_ = [cell for cell in pointed if _POINTS.fullmatch(cell) is not None]
    votes["."] += len(pointed) - len(open_)
    open_ += [cell for cell, one in parts.items() if one.evidence == "?"]
    if votes["."] or votes[","] or not open_:
        decimal = "," if votes[","] > votes["."] else "."
        _say_marks(parts, decimal, numbers)
        return decimal
    mark = "." if "." in open_[0] else ","
    elsewhere = notation.others()
    whole = any(
        cell.lstrip("+-").isdigit() and len(cell.lstrip("+-")) <= 3 for cell in dict.fromkeys(cells)
    )
    if elsewhere:
        decimal, why = elsewhere, "as the other columns show"
    elif mark == ".":
        # Whole numbers below 1,000 beside 1.105: a program that writes decimals would have written them all.
        grouped = whole and notation.delimiter == ";"
        decimal = "," if grouped else "."
        why = (
            "since whole numbers below 1000 stand beside it"
            if grouped
            else "nothing tells otherwise"
        )
        if notation.delimiter == "," and not whole:
            return "."  # the usual way of a csv; nothing was chosen
    else:
        decimal = "," if notation.delimiter == ";" else "."
        why = (
            "as files divided by semicolons have it"
            if decimal == ","
            else "nothing tells otherwise"
        )
    role = "the decimal mark" if decimal == mark else "a thousands mark"
    shown = f"such as {open_[0]}"
    if not elsewhere:
        shown = f"either could be meant by {open_[0]}; data.decimal settles it"
    numbers.findings.append(f"{_spelled(mark)} is read as {role}, {why} ({shown})")
    return decimal


def _spelled(mark: str) -> str:
    return "the point" if mark == "." else "the comma"


def _say_marks(parts: dict[str, Parts], decimal: str, numbers: Numbers) -> None:
    if decimal == ",":
        numbers.findings.append("the comma is the decimal mark")
    thousands = "," if decimal == "." else "."
    example = next((cell for cell, one in parts.items() if thousands in one.body), None)
    if example is not None:
        numbers.findings.append(f"{_spelled(thousands)} is a thousands mark (such as {example})")


def _read_odd(
    cells: Sequence[str],
    odd: dict[str, list[int]],
    parts: dict[str, Parts],
    decimal: str,
    numbers: Numbers,
) -> Counter[str]:
    """Fills in the cells that float() doesn't take, those of the column's usual unit; the others are unread.

    Returns how many cells have each unit, "" for none.
    """
    plain = int(np.isfinite(numbers.values).sum())
    units = Counter({"": plain})
    for cell, parsed in parts.items():
        units[parsed.unit] += len(odd[cell])
    usual = units.most_common(1)[0][0]
    kinds: dict[str, str] = {}
    for cell, rows in odd.items():
        one = parts.get(cell)
        value = math.nan if one is None or one.unit != usual else one.value(decimal)
        if one is None or math.isnan(value):
            numbers.unread += [(row, cell) for row in rows]
            continue
        if math.isinf(value):
            numbers.infinite += [(row, cell) for row in rows]
            continue
        numbers.values[rows] = value
        if one.bound:
            numbers.censored += [(row, cell) for row in rows]
        _note(cell, one, kinds)
    if usual and plain:  # bare numbers in a column of 12 %
        bare = np.flatnonzero(np.isfinite(numbers.values))
        with_unit = {row for cell, rows in odd.items() if cell in parts for row in rows}
        for row in [row for row in bare.tolist() if row not in with_unit]:
            numbers.values[row] = math.nan
            numbers.unread.append((row, cells[row]))
    if usual:
        numbers.unit = usual
        how = "as it stands: 12 % is 12" if usual == "%" else "left off the numbers"
        numbers.findings.append(f'the cells carry the unit "{usual}", {how}')
    numbers.findings += [f"{what} ({cell})" for what, cell in kinds.items()]
    for entries in (numbers.unread, numbers.censored, numbers.infinite):
        entries.sort()
    return +units


def _note(cell: str, one: Parts, kinds: dict[str, str]) -> None:
    """Keeps an example of each unusual way of writing."""
    if one.grouped:
        kinds.setdefault("blanks or apostrophes are thousands marks", cell)
    if "(" in cell:
        kinds.setdefault("numbers in parentheses are negative", cell)
    elif one.negative and cell[-1] in MINUS:
        kinds.setdefault("a dash behind a number is a minus", cell)
    elif one.negative and "-" not in cell:
        kinds.setdefault("a dash in front is a minus", cell)


def _read_plain_again(cells: Sequence[str], odd: dict[str, list[int]], numbers: Numbers) -> None:
    """In a column of decimal commas, what float() took with a point: 1.105 is 1105, and 1.5 is nothing."""
    for row, cell in enumerate(cells):
        if "." not in cell or cell in odd or math.isnan(numbers.values[row]):
            continue
        parsed = take_apart(cell)
        value = math.nan if parsed is None else parsed.value(",")
        numbers.values[row] = value
        if math.isnan(value):
            numbers.unread.append((row, cell))
    numbers.unread.sort()


def _say_problem(units: Counter[str], numbers: Numbers) -> None:
    """Most cells look like numbers, and many of them can't be read as those of one column."""
    if numbers.numeric or not numbers.unread:
        return
    unread = Counter(cell for _, cell in numbers.unread)
    alike = list(filter(looks_like_number, unread))
    read = int(np.isfinite(numbers.values).sum())
    like = read + sum(unread[cell] for cell in alike)
    if not alike or like < ENOUGH * (read + len(numbers.unread)):
        return
    if len(units) > _MOST_UNITS:
        return
    examples = some([f'"{cell[:30]}"' for cell in alike], 3)
    if len(units) > 1:
        shown = ", ".join(unit or "none" for unit, _ in units.most_common(4))
        numbers.problem = (
            f"its cells have several units ({shown}), such as {examples}; write all in one"
        )
    else:
        numbers.problem = (
            f"its cells look like numbers that can't be read, such as {examples}; write plain numbers, "
            "or name the cells that stand for no value in data.missing"
        )


def _name_codes(numbers: Numbers) -> None:
    """Names numbers such as -9999 that stand far outside of all others."""
    values = numbers.values
    held = [code for code in CODES if (values == code).any()]
    if not held:
        return
    rest = values[np.isfinite(values) & ~np.isin(values, held)]
    if len(rest) < 2:
        return
    low, high = float(rest.min()), float(rest.max())
    reach = max(high - low, abs(low), abs(high), 1e-9)
    for code in held:
        if low - reach <= code <= high + reach and not code < 0 <= low:
            continue
        count = int((values == code).sum())
        numbers.findings.append(
            f"holds {code:g} in {_cells(count)} and is otherwise {low:g} to {high:g}: if that stands for no value, "
            f"set data.missing = [{code:g}]"
        )
