"""Images listed in a csv table: path, label(s), and optionally split, group and weight."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import SPLIT_NAMES, FileImages, Records, sorted_classes


def read_table(data: DataConfig, kind: str) -> Records:
    """The rows of `data.table`; kind is "multiclass", "multilabel" or "regression".

    Multi-label: one column of labels joined by `|` (an empty cell has none), or several columns of 0 and 1 named after
    the labels. Image paths are relative to `data.root`, or to the table's folder, and may not lead out of it.
    Raises UserError naming the row of the first mistake.
    """
    path = Path(str(data.table or data.path)).expanduser()
    rows = _rows(path)
    root = Path(data.root).expanduser() if data.root else path.parent
    if not root.is_dir():
        raise UserError(f"{root}: no such folder (data.root), which the paths in {path} are relative to")
    columns = list(rows[0])
    for name in (data.paths, *data.labels):
        if name not in columns:
            known = ", ".join(columns)
            raise UserError(f'{path}: has no column "{name}", only {known}; set data.paths or data.labels')
    if data.group is not None and data.group not in columns:
        raise UserError(f'{path}: has no column "{data.group}" (data.group); its columns are {", ".join(columns)}')
    group_column = data.group or ("group" if "group" in columns else None)
    names = [_image(row[data.paths], root, path, number) for number, row in enumerate(rows, 2)]
    labels, classes = _labels(rows, data.labels, kind, path)
    if kind == "multiclass" and len(classes) < 2 and data.classes is None:
        raise UserError(f'{path}: column "{data.labels[0]}" holds one class only ({classes[0]})')
    split = np.array([""] * len(rows))
    if data.split in columns:
        split = np.array([_split(row[data.split], path, number) for number, row in enumerate(rows, 2)])
    group = None
    if group_column is not None:  # an empty cell is a group of its own
        group = np.array([row[group_column] or f"\0row {n}" for n, row in enumerate(rows)], dtype=object)
    weight = None
    if data.weight in columns:
        weight = np.array([_number(row[data.weight], data.weight, path, n) for n, row in enumerate(rows, 2)])
        if (weight < 0).any() or not weight.any():
            raise UserError(f'{path} column "{data.weight}": weights are at least 0, and not all 0')
    return Records(
        FileImages(root, names),
        labels,
        classes,
        kind,
        split,
        group,
        weight,
        origin=str(path),
        licence="the data owner's",
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such table (data.table)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a UTF-8 csv table ({error})") from None
    first = text.partition("\n")[0]
    if not first.strip():
        raise UserError(f"{path}: the first line is empty; it names the columns, for example path,label")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    rows = []
    try:
        names = [(name or "").strip() for name in reader.fieldnames or ()]
        if len(set(names)) < len(names):
            raise UserError(f"{path}: two columns have the same name ({', '.join(names)})")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{path} row {reader.line_num}: has another number of cells than the first line")
            rows.append({(key or "").strip(): value.strip() for key, value in row.items()})
    except csv.Error as error:
        raise UserError(f"{path} row {reader.line_num}: {error}") from None
    if not rows:
        raise UserError(f"{path}: the table has a first line but no rows")
    return rows


def _image(cell: str, root: Path, table: Path, number: int) -> str:
    """The image's path relative to `root`."""
    if not cell or "\0" in cell:
        raise UserError(f"{table} row {number}: the path is empty")
    place = (root / cell).resolve()
    if not place.is_relative_to(root.resolve()):
        raise UserError(f"{table} row {number}: {cell} leads out of {root}; keep the images below it or set data.root")
    if not place.is_file():
        raise UserError(f"{table} row {number}: {root / cell}: no such file")
    return cell


def _labels(rows: list[dict[str, str]], columns: tuple[str, ...], kind: str, table: Path) -> tuple[list, list[str]]:
    if kind == "regression":
        values = [
            np.array([_number(row[name], name, table, number) for name in columns])
            for number, row in enumerate(rows, 2)
        ]
        return values, list(columns)
    if kind == "multiclass":
        if len(columns) != 1:
            raise UserError(f"data.labels names {len(columns)} columns where head.task = multiclass takes one")
        labels = [row[columns[0]] for row in rows]
        if "" in labels:
            raise UserError(f'{table} row {labels.index("") + 2}: column "{columns[0]}" is empty')
        classes = sorted_classes(set(labels))
        return labels, classes
    if len(columns) == 1:
        sets = [tuple(sorted({part.strip() for part in row[columns[0]].split("|")} - {""})) for row in rows]
        classes = sorted_classes({name for names in sets for name in names})
        if not classes:
            raise UserError(f'{table}: column "{columns[0]}" holds no label at all')
        return sets, classes
    marked = []
    for number, row in enumerate(rows, 2):
        wrong = [name for name in columns if row[name] not in ("0", "1", "0.0", "1.0")]
        if wrong:
            raise UserError(f'{table} row {number}: column "{wrong[0]}" is {row[wrong[0]]!r} where 0 or 1 is expected')
        marked.append(tuple(name for name in columns if row[name] in ("1", "1.0")))
    return marked, list(columns)


def _split(cell: str, table: Path, number: int) -> str:
    if cell.lower() not in SPLIT_NAMES:
        raise UserError(f"{table} row {number}: split is {cell!r} where train, val or test is expected")
    return SPLIT_NAMES[cell.lower()]


def _number(cell: str, column: str, table: Path, number: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f'{table} row {number}: column "{column}" is {cell!r} where a number is expected')
    return value
