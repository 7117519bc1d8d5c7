"""A file of molecules, with its labels or as structures alone, for predicting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isoform.core.data.read import read_table
from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.cells import smiles_of
from isoform.molecules.data.columns import (
    find_groups,
    find_smiles,
    find_split,
    find_weights,
    pick,
)
from isoform.molecules.data.labelled import Labelled, take
from isoform.molecules.data.labels import read_labels
from isoform.molecules.data.tables import MoleculeTable, read_bytes_of, read_cells, table_rows
from isoform.molecules.data.targets import find_targets


class Structure(NamedTuple):
    """One molecule to predict: its name, its SMILES, its mol block from an SD file, or why there is none.

    cells   all that stands in its row of a file, by column and as it is written
    """

    name: str
    smiles: str
    block: str | None = None
    error: str = ""
    cells: Mapping[str, str] | None = None


def read_file(path: str | Path, data: DataConfig) -> Labelled:
    """The molecules of a .csv, .tsv, .txt, .smi, .sdf (each also .gz), .parquet or .xlsx with the labels data.targets.

    Column of SMILES, targets and task are found where they aren't set; what was found is in `findings`. With
    data.targets = () no labels are read. Raises UserError, one sentence.
    """
    return read_labelled(file_rows(path, data.missing, data.decimal), data)


def file_rows(
    source: str | Path | Any, missing: Sequence[str | float] = (), decimal: str = "auto"
) -> MoleculeTable:
    """The cells of any file of molecules, of standard input ("-") or of a pandas DataFrame.

    data.missing and data.decimal are taken. Raises UserError.
    """
    if not isinstance(source, str | Path):
        rows = table_rows(read_table(source))
        rows.table.settle(missing, decimal)
        return rows
    raw, kind = read_bytes_of(source)
    if kind == "sdf":
        from isoform.molecules.data.sdf import read_sdf

        rows = read_sdf(raw)
    else:
        rows = read_cells(raw, kind)
    rows.table.settle(missing, decimal)
    return rows


def read_labelled(
    rows: MoleculeTable, data: DataConfig, licence: str = "the data owner's"
) -> Labelled:
    """A table understood: see `read_file`."""
    _refuse_empty(rows)
    smiles = find_smiles(rows, data)
    texts = smiles_of(rows, smiles)
    _refuse_empty(rows)
    good = np.array([row for row in range(len(rows)) if row not in rows.errors], np.int64)
    names = _names(rows, data)
    targets, left_out = find_targets(rows, data, smiles)
    labels = read_labels(rows, targets, data)
    split, groups, weight = (
        find_split(rows, data),
        find_groups(rows, data),
        find_weights(rows, data),
    )
    whole = Labelled(
        smiles=texts,
        names=names,
        targets=labels.targets,
        bounds=labels.bounds,
        target_names=targets,
        unlearned=left_out,
        units=[rows.table.units.get(name, "") for name in targets],
        split=split,
        groups=groups,
        weight=weight,
        blocks=rows.blocks,
        origin=rows.table.name,
        licence=licence,
        sha256=rows.table.sha256,
        skipped=[(names[row], why) for row, why in rows.errors.items()],
        findings=rows.findings([*targets, *([data.weight] if data.weight else [])]),
        task=labels.task,
        classes=labels.classes,
    )
    return take(whole, good)


def _refuse_empty(rows: MoleculeTable) -> None:
    if len(rows.errors) < len(rows):
        return
    example = f" ({rows.names[0]}: {rows.errors[0]})" if len(rows) else ""
    raise UserError(f"{rows.origin}: holds no molecule that can be read{example}")


def _names(rows: MoleculeTable, data: DataConfig) -> list[str]:
    """data.label's cells where it is set, else where each row stands in the file."""
    if data.label is None:
        return rows.names
    column = pick(data.label, rows.columns, rows.origin, "data.label")
    rows.say(f'names are in the column "{column}" (data.label)')
    return [cell or name for cell, name in zip(rows.cells(column), rows.names, strict=True)]


def read_structures(
    source: str | Path | Any, data: DataConfig, say: Callable[[str], None] | None = None
) -> list[Structure]:
    """Every row of a file of molecules in its order, those that can't be read with `error`: one prediction each.

    It is read as `read_file` reads it, but for the labels. A row is called by its cell of data.label where the file has
    that column, else by file and line (the name behind a SMILES in a .smi file isn't unique).

    data   how a run's own file was read: data.smiles, data.label, ...
    say    gets what was found and chosen, a line each
    """
    rows = file_rows(source, data.missing, data.decimal)
    column = find_smiles(rows, data)
    texts = smiles_of(rows, column)
    rows.names = [f"{rows.origin} {name}" for name in rows.names]
    try:
        names = _names(rows, data)
    except UserError:
        names = rows.names
    blocks: Sequence[str | None] = rows.blocks or [None] * len(rows)
    if say is not None:
        for line in rows.findings([]):
            say(f"{rows.origin}: {line}")
    return [
        Structure(
            name, text, None if row in rows.errors else block, rows.errors.get(row, ""), cells
        )
        for row, (name, text, block, cells) in enumerate(
            zip(names, texts, blocks, _given(rows), strict=True)
        )
    ]


def _given(rows: MoleculeTable) -> list[dict[str, str]]:
    """What each row of the file holds, by column; of a row with too many or too few cells what there is."""
    made = {rows.smiles} if rows.blocks is not None else set()  # no column of an SD file itself
    columns = {name: rows.cells(name) for name in rows.columns if name not in made}
    if rows.smiles is not None:  # an SD file's titles and a list's names may all be empty
        columns = {name: cells for name, cells in columns.items() if any(cells)}
    given = [
        dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    ] or [{} for _ in range(len(rows))]
    for row, cells in rows.table.ragged.items():
        given[row] |= dict(zip(columns, cells, strict=False))
    return given
