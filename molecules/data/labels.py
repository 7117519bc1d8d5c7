"""The labels of a table: numbers, 0 and 1, or classes, and which of these they are ("auto")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, NoReturn

import numpy as np

from isoform.core.data.missing import MISSING
from isoform.core.data.numbers import Numbers
from isoform.core.errors import UserError, count
from isoform.molecules.config import DataConfig
from isoform.molecules.data.columns import BOOLEAN, boolean_of, shown
from isoform.molecules.data.qualifiers import direction_of, find_qualifiers, qualify
from isoform.molecules.data.tables import MoleculeTable

MOST_CLASSES = 1000
# data.censored -> what becomes of several, or of one.
_RULES = {
    "value": (
        "count as their bound, in training and in metrics",
        "counts as its bound, in training and in metrics",
    ),
    "drop": ("count as missing (data.censored = drop)", "counts as missing (data.censored = drop)"),
    "loss": (
        "are bounds: in training a prediction beyond them costs nothing, and no metric holds them "
        "(data.censored = loss)",
        "is a bound: in training a prediction beyond it costs nothing, and no metric holds it (data.censored = loss)",
    ),
}


class Labels(NamedTuple):
    """targets float64 [n, K], NaN = no label; `task`, `classes` and `bounds` as in labelled.Labelled."""

    targets: np.ndarray
    task: str
    classes: tuple[str, ...]
    bounds: np.ndarray | None = None


def read_labels(rows: MoleculeTable, names: Sequence[str], data: DataConfig) -> Labels:
    """The targets `names` of a table as numbers, by data.task; what "auto" chose is a finding of `rows`.

    auto: classes where the one target is text, binary where every label is 0 or 1 (or yes and no), else regression.
    A cell that can't be read counts as missing and is named. Raises UserError where a column doesn't fit data.task.
    """
    if not names:
        return Labels(
            np.zeros((len(rows), 0)),
            "regression" if data.task == "auto" else data.task,
            data.classes or (),
        )
    beside = find_qualifiers(rows, names)
    columns = [_read_column(rows, name, names, beside, data) for name in names]
    task = data.task if data.task != "auto" else _choose(rows, names, columns, data)
    if task == "multiclass":
        return _classes(rows, names, data)
    for name, column in zip(names, columns, strict=True):
        _name_odd_cells(rows, name, column, data)
    targets = np.stack([_values_of(column, data) for column in columns], 1)
    if task == "binary":
        _refuse_other_numbers(rows, names, targets)
        return Labels(targets, task, ())
    return Labels(targets, task, (), _bounds_of(columns) if data.censored == "loss" else None)


def _read_column(
    rows: MoleculeTable,
    name: str,
    names: Sequence[str],
    beside: Sequence[str],
    data: DataConfig,
) -> Numbers:
    """A target's numbers, as columns beside it qualify them; words such as yes and no are 1 and 0."""
    words = boolean_of(rows.cells(name)) if data.task in ("auto", "binary") else None
    if words is not None:
        rows.say(f'"{name}" holds words such as yes and no; they count as 1 and 0')
        return Numbers(words)
    found = rows.table.numbers(name)
    found = replace(found, unread=sorted([*found.unread, *found.infinite]))
    return qualify(rows, name, names, beside, found) if found.numeric else found


def _bounds_of(columns: Sequence[Numbers]) -> np.ndarray | None:
    """int8 [n, K], the direction of each censored value; None where there is none."""
    bounds = np.zeros((len(columns[0].values), len(columns)), np.int8)
    for k, column in enumerate(columns):
        for row, cell in column.censored:
            bounds[row, k] = direction_of(cell)
    return bounds if bounds.any() else None


def _values_of(column: Numbers, data: DataConfig) -> np.ndarray:
    """float64 [n]; a censored value is its bound, or missing."""
    if data.censored != "drop":
        return column.values
    values = column.values.copy()
    values[[row for row, _ in column.censored]] = math.nan
    return values


def _choose(
    rows: MoleculeTable, names: Sequence[str], columns: Sequence[Numbers], data: DataConfig
) -> str:
    if data.classes is None and len(names) == 1 and columns[0].problem:
        raise UserError(
            f'{rows.origin}: column "{names[0]}": {columns[0].problem}, or set data.task = multiclass '
            "if they are classes"
        )
    if data.classes is not None or (
        len(names) == 1 and columns[0].unread and not columns[0].numeric
    ):
        task, why = (
            "multiclass",
            "data.classes is set" if data.classes is not None else f'"{names[0]}" holds text',
        )
    else:
        values = np.concatenate([column.values[np.isfinite(column.values)] for column in columns])
        different = np.unique(values)
        if (
            len(different)
            and np.isin(different, (0.0, 1.0)).all()
            and not any(column.censored for column in columns)
        ):
            task, why = "binary", "every label is 0 or 1"
        else:
            task, why = "regression", "the labels are numbers"
            if (
                len(names) == 1
                and len(different) <= 10
                and (different == np.round(different)).all()
            ):
                why += f"; set data.task = multiclass if these {len(different)} whole numbers are classes"
    rows.say(f"data.task = auto: {task} ({why})")
    return task


def _classes(rows: MoleculeTable, names: Sequence[str], data: DataConfig) -> Labels:
    if len(names) != 1:
        raise UserError(
            f"{rows.origin}: data.task = multiclass takes one target and there are {len(names)} "
            f"({', '.join(names[:8])}); name it with data.targets"
        )
    cells = [_whole(cell) for cell in rows.cells(names[0])]
    found = {cell for cell in cells if cell.lower() not in MISSING}
    classes = tuple(data.classes) if data.classes is not None else tuple(_sorted(found))
    if data.classes is None:
        rows.table.refuse_measurements(names[0], classes)
    if len(classes) < 2 or len(classes) > MOST_CLASSES:
        raise UserError(
            f'{rows.origin}: column "{names[0]}" holds {len(classes)} different labels where 2 to {MOST_CLASSES} '
            "classes are expected (data.task = multiclass)"
        )
    place = {name: float(number) for number, name in enumerate(classes)}
    odd = [
        (row, cell)
        for row, cell in enumerate(cells)
        if cell not in place and cell.lower() not in MISSING
    ]
    if odd:
        rows.say(
            f'"{names[0]}": {count(len(odd), "label")} of none of the classes, taken for missing: '
            f"{shown(odd, rows.names)}"
        )
    return Labels(np.array([[place.get(cell, math.nan)] for cell in cells]), "multiclass", classes)


def _whole(cell: str) -> str:
    """A class written as 2.0 is the class 2: a table with missing cells makes floats of whole numbers."""
    return cell[:-2] if cell.endswith(".0") and cell[:-2].lstrip("-").isdigit() else cell


def _sorted(names: set[str]) -> list[str]:
    """By value where all are whole numbers, by spelling otherwise."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _name_odd_cells(rows: MoleculeTable, name: str, column: Numbers, data: DataConfig) -> None:
    if column.problem:
        raise UserError(f'{rows.origin}: column "{name}": {column.problem}')
    if not np.isfinite(column.values).any():
        if data.task == "binary" and column.unread:
            _refuse_words(rows, name, column)
        example = f" (such as {shown(column.unread[:1], rows.names)})" if column.unread else ""
        raise UserError(
            f'{rows.origin}: column "{name}" holds no number{example}; choose others with data.targets'
        )
    if column.censored:
        one = len(column.censored) == 1
        rows.say(
            f'"{name}": {count(len(column.censored), "censored value")} {_RULES[data.censored][one]}: '
            f"{shown(column.censored, rows.names)}"
        )
    if column.unread:
        rule = "is no number and counts" if len(column.unread) == 1 else "are no numbers and count"
        rows.say(
            f'"{name}": {count(len(column.unread), "cell")} {rule} as missing: {shown(column.unread, rows.names)}'
        )


def _refuse_words(rows: MoleculeTable, name: str, column: Numbers) -> NoReturn:
    """Says which words of a binary column are not understood; those that are may be there, but of one class alone."""
    odd = [(row, cell) for row, cell in column.unread if cell.lower() not in BOOLEAN]
    found = f"holds {shown(odd, rows.names)}"
    if not odd:
        found = f"holds one class alone in words ({shown(column.unread[:1], rows.names)})"
    raise UserError(
        f'{rows.origin}: column "{name}" {found} where 0 and 1, or both of two words such as yes and no, are expected '
        "(data.task = binary)"
    )


def _refuse_other_numbers(rows: MoleculeTable, names: Sequence[str], targets: np.ndarray) -> None:
    odd = np.argwhere(np.isfinite(targets) & (targets != 0) & (targets != 1))
    if len(odd):
        row, column = odd[0]
        raise UserError(
            f'{rows.origin} {rows.names[row]}: column "{names[column]}" is {targets[row, column]:g} where 0 or 1 is '
            "expected (data.task = binary)"
        )
