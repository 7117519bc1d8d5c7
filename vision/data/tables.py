"""The columns of a table of images: path, label(s), and optionally split, group and weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.data.named_files import file_named, read_table_of_files
from isoform.core.data.splits import read_groups, read_splits
from isoform.core.data.table import Table
from isoform.core.errors import UserError, join_names
from isoform.vision.config import DataConfig
from isoform.vision.data.records import (
    FileImages,
    Records,
    leave_out_unlabelled,
    sorted_classes,
)

# Whether an image has the label that names the column.
MARKS = {"1": True, "1.0": True, "0": False, "0.0": False}


@dataclass
class Labels:
    """What Records hold of labels; see there."""

    rows: Sequence[Any]
    classes: list[str]
    unknown: Mapping[int, Sequence[str]] = field(default_factory=dict)


def read_image_table(data: DataConfig) -> Records:
    """The rows of `data.table`, with the targets of data.task.

    Multi-label: one column of labels joined by `|` (an empty cell has none), or several columns of 0 and 1 named after
    the labels. Multi-head: a class in each column. An empty label, mark or number is missing, and a row that has
    none is left out. Image paths are relative to `data.root`, or to the table's folder, and may not lead out of it.
    Raises UserError naming the row of the first mistake.
    """
    if data.table is None and data.path is None:
        raise UserError(
            "data.table is not set: give the csv of path, label, --set data.table=FILE.csv"
        )
    path = Path(str(data.table or data.path)).expanduser()
    table, root = read_table_of_files(
        path,
        data.root,
        missing=data.missing,
        decimal=data.decimal,
    )
    _refuse_absent_columns(table, data)
    absent, follow = data.on_error == "skip", data.follow_links
    names = [
        file_named(table, row, cell, root, what="images", absent=absent, follow_links=follow)
        for row, cell in enumerate(table.cells(data.paths))
    ]
    labels = _LABELS[data.task](table, data)
    records = Records(
        images=FileImages(root, names),
        labels=labels.rows,
        classes=labels.classes,
        kind=data.task,
        split=_splits(table, data.split_column),
        group=_groups(table, data.group),
        weight=_weights(table, data.weight),
        unknown=labels.unknown,
        findings=[str(finding) for finding in table.findings],
        origin=str(path),
        licence="the data owner's",
    )
    return leave_out_unlabelled(records)


def _refuse_absent_columns(table: Table, data: DataConfig) -> None:
    known = join_names(table.names, 20)
    for name in (data.paths, *data.labels):
        if name not in table.columns:
            raise UserError(
                f'{table.origin}: has no column "{name}", only {known}; set data.paths or data.labels'
            )
    if data.group is not None and data.group not in table.columns:
        raise UserError(
            f'{table.origin}: has no column "{data.group}" (data.group); its columns are {known}'
        )


def _classes(table: Table, data: DataConfig) -> Labels:
    if len(data.labels) != 1:
        raise UserError(
            f"data.labels names {len(data.labels)} columns where data.task = multiclass takes one"
        )
    (column,) = data.labels
    rows = [None if _is_missing(table, cell) else cell for cell in table.cells(column)]
    classes = sorted_classes(label for label in rows if label is not None)
    if not classes:
        raise UserError(f'{table.origin}: column "{column}" holds no class at all')
    if len(classes) < 2 and data.classes is None:
        raise UserError(f'{table.origin}: column "{column}" holds one class only ({classes[0]})')
    if data.classes is None:
        table.refuse_measurements(column, classes)
    _say_missing(table, column, sum(label is None for label in rows))
    return Labels(rows, classes)


def _labels(table: Table, data: DataConfig) -> Labels:
    if len(data.labels) > 1:
        return _marked_labels(table, data.labels)
    (column,) = data.labels
    rows = [_joined_labels(table, cell) for cell in table.cells(column)]
    classes = sorted_classes(name for names in rows if names is not None for name in names)
    if not classes:
        raise UserError(f'{table.origin}: column "{column}" holds no label at all')
    _say_missing(table, column, sum(names is None for names in rows))
    return Labels(rows, classes)


def _joined_labels(table: Table, cell: str) -> tuple[str, ...] | None:
    """The labels of `a|b`, sorted; none of an empty cell, which is an image without any."""
    if cell and _is_missing(table, cell):
        return None
    parts = {part.strip() for part in cell.split("|")}
    return tuple(sorted(parts - {""}))


def _marked_labels(table: Table, columns: Sequence[str]) -> Labels:
    """Labels from columns of 0 and 1 that are named after them."""
    rows: list[list[str]] = [[] for _ in range(len(table))]
    unknown: dict[int, list[str]] = {}
    for column in columns:
        for row, cell in enumerate(table.cells(column)):
            if _is_missing(table, cell):
                unknown.setdefault(row, []).append(column)
            elif cell not in MARKS:
                raise UserError(
                    f'{table.origin} {table.row_name(row)}: column "{column}" is {cell!r} where 0 or 1 is expected'
                )
            elif MARKS[cell]:
                rows[row].append(column)
        _say_missing(table, column, sum(column in names for names in unknown.values()))
    return Labels([tuple(names) for names in rows], list(columns), unknown)


def _numbers(table: Table, data: DataConfig) -> Labels:
    columns = []
    for column in data.labels:
        found = table.numbers(column)
        if not found.numeric:
            example = f", such as {table.shown(found.unread[:1])}" if found.unread else ""
            why = found.problem or f"holds no numbers{example}"
            raise UserError(
                f'{table.origin}: column "{column}": {why}; data.task = regression needs numbers'
            )
        if found.unread:
            table.say(
                f"cells that are no numbers count as missing: {table.shown(found.unread)}", column
            )
        table.say_bounds(column)
        _say_missing(table, column, int(np.isnan(found.values).sum()) - len(found.unread))
        columns.append(found.values)
    return Labels(list(np.stack(columns, 1)), list(data.labels))


def _heads(table: Table, data: DataConfig) -> Labels:
    """A class for each of several columns, called COLUMN=CLASS; see heads.py."""
    rows: list[list[str]] = [[] for _ in range(len(table))]
    unknown: dict[int, list[str]] = {}
    classes: list[str] = []
    for column in data.labels:
        if "=" in column:
            raise UserError(
                f'{table.origin}: column "{column}" (data.labels) may not hold "="; name it otherwise'
            )
        own = _classes(table, data.model_copy(update={"labels": (column,)}))
        names = [f"{column}={name}" for name in own.classes]
        for row, name in enumerate(own.rows):
            if name is None:
                unknown.setdefault(row, []).extend(names)
            else:
                rows[row].append(f"{column}={name}")
        classes += names
    return Labels([tuple(names) for names in rows], classes, unknown)


_LABELS = {
    "multiclass": _classes,
    "multilabel": _labels,
    "regression": _numbers,
    "multihead": _heads,
}


def _is_missing(table: Table, cell: str) -> bool:
    """An empty cell, or one that data.missing names; other words may be names of classes."""
    if not cell or cell.lower() in table.missing:
        return True
    try:
        return float(cell) in table.missing
    except ValueError:
        return False


def _say_missing(table: Table, column: str, count: int) -> None:
    if count:
        table.say(
            f"{count:,} of {len(table):,} rows have no value, which counts for nothing", column
        )


def _splits(table: Table, column: str) -> np.ndarray:
    if column not in table.columns:
        return np.full(len(table), "", dtype=object)
    return read_splits(
        table.cells(column),
        column,
        lambda row: f"{table.origin} {table.row_name(row)}",
        open_=False,
    )


def _groups(table: Table, column: str | None) -> np.ndarray | None:
    name = column or ("group" if "group" in table.columns else None)
    if name is None:
        return None
    return read_groups(table.cells(name))


def _weights(table: Table, column: str) -> np.ndarray | None:
    if column not in table.columns:
        return None
    weight = table.numbers(column).values
    wrong = np.flatnonzero(~np.isfinite(weight))
    if len(wrong):
        row = int(wrong[0])
        cell = table.cells(column)[row]
        raise UserError(
            f'{table.origin} {table.row_name(row)}: column "{column}" is {cell!r} where a number is expected'
        )
    if (weight < 0).any() or not weight.any():
        raise UserError(f'{table.origin} column "{column}": weights are at least 0, and not all 0')
    return weight
