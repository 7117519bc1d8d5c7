"""Clouds named by a table: a file, its class, and optionally split and group."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isoform.core.data.named_files import file_named, read_table_of_files
from isoform.core.data.splits import read_groups, read_splits
from isoform.core.data.table import Table
from isoform.core.errors import UserError, join_names, printable
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.folders import SURFACE
from isoform.pointcloud.data.records import FileClouds, Records


def read_cloud_table(data: DataConfig) -> Records:
    """The rows of `data.table`; a row without a class is left out and named.

    Files are relative to `data.root`, or to the table's folder, and may not lead out of it. Raises UserError naming the
    row of the first mistake.
    """
    where = data.table or data.path
    if where is None:
        raise UserError(
            "data.table is not set: give the csv of file, label, --set data.table=FILE.csv"
        )
    path = Path(where).expanduser()
    table, root = read_table_of_files(path, data.root)
    _refuse_absent_columns(table, data)
    absent = data.on_error == "skip"
    names = [
        file_named(table, row, cell, root, what="clouds", absent=absent)
        for row, cell in enumerate(table.cells(data.paths))
    ]
    labels = [printable(cell) for cell in table.cells(data.class_column)]
    kept = np.array([row for row, label in enumerate(labels) if label], np.int64)
    skipped = [
        (printable(names[row]), f"{table.row_name(row)} has no class")
        for row, label in enumerate(labels)
        if not label
    ]
    classes = sorted(set(labels) - {""})
    if len(classes) < 2 and data.classes is None:
        raise UserError(
            f'{path}: column "{data.class_column}" holds {join_names(classes) or "no class"} alone; a classifier '
            "needs two classes"
        )
    column = data.group if data.group not in (None, "near") else "group"
    grouped = column in table.columns
    split = np.full(len(table), "", dtype=object)
    if data.split_column in table.columns:
        row_name = lambda row: f"{table.origin} {table.row_name(row)}"  # noqa: E731
        split = read_splits(
            table.cells(data.split_column), data.split_column, row_name, open_=False
        )
    return Records(
        FileClouds(root, [names[row] for row in kept], data.columns, SURFACE * data.points),
        [labels[row] for row in kept],
        classes,
        split[kept],
        str(path),
        "the data owner's",
        skipped,
        [str(finding) for finding in table.findings],
        read_groups(table.cells(column))[kept] if grouped else None,
    )


def _refuse_absent_columns(table: Table, data: DataConfig) -> None:
    wanted = {"paths": data.paths, "class_column": data.class_column}
    if data.group not in (None, "near"):
        wanted["group"] = str(data.group)
    for key, name in wanted.items():
        if name not in table.columns:
            known = join_names(table.names, 20)
            raise UserError(f'{table.origin}: has no column "{name}" (data.{key}), only {known}')
