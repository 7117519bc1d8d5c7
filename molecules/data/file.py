"""A file of molecules, with its labels or as structures alone, for predicting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.columns import (
    find_groups,
    find_smiles,
    find_split,
    find_weights,
    pick,
)
from isoform.molecules.data.labelled import Labelled, take
from isoform.molecules.data.labels import read_labels
from isoform.molecules.data.tables import MoleculeTable, read_bytes_of, read_cells
from isoform.molecules.data.targets import find_targets


class Structure(NamedTuple):
    """One molecule to predict: where it comes from, its SMILES, its mol block from an SD file, or why there is none."""

    name: str
    smiles: str
    block: str | None = None
    error: str = ""


def read_file(path: str | Path, data: DataConfig) -> Labelled:
    """The molecules of a .csv, .tsv, .txt, .smi, .sdf (each also .gz), .parquet or .xlsx with the labels data.targets.

    Column of SMILES, targets and task are found where they aren't set; what was found is in `findings`. With
    data.targets = () no labels are read. Raises UserError, one sentence.
    """
    return read_labelled(file_rows(path, data.missing, data.decimal), data)


def file_rows(
    path: str | Path, missing: Sequence[str | float] = (), decimal: str = "auto"
) -> MoleculeTable:
    """The cells of any file of molecules, with data.missing and data.decimal taken. Raises UserError."""
    raw, kind = read_bytes_of(path)
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
    good = np.array([row for row in range(len(rows)) if row not in rows.errors], np.int64)
    if not len(good):
        example = f" ({rows.names[0]}: {rows.errors[0]})" if len(rows) else ""
        raise UserError(f"{rows.origin}: holds no molecule that can be read{example}")
    smiles = find_smiles(rows, data)
    names = _names(rows, data)
    targets, left_out = find_targets(rows, data, smiles)
    labels = read_labels(rows, targets, data)
    split, groups, weight = (
        find_split(rows, data),
        find_groups(rows, data),
        find_weights(rows, data),
    )
    whole = Labelled(
        smiles=rows.cells(smiles),
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


def _names(rows: MoleculeTable, data: DataConfig) -> list[str]:
    """data.label's cells where it is set, else where each row stands in the file."""
    if data.label is None:
        return rows.names
    column = pick(data.label, rows.columns, rows.origin, "data.label")
    return [cell or name for cell, name in zip(rows.cells(column), rows.names, strict=True)]


def read_structures(
    path: str | Path, smiles: str | None = None, label: str | None = None
) -> list[Structure]:
    """Every row of a file of molecules in its order, those that can't be read with `error`: one prediction each.

    smiles  the column of SMILES; found if None
    label   the column of names; "line 7" otherwise (the name behind a SMILES in a .smi file isn't unique)
    """
    rows = file_rows(path)
    data = DataConfig(smiles=smiles, label=label)
    column = rows.cells(find_smiles(rows, data))
    names = _names(rows, data)
    blocks: Sequence[str | None] = rows.blocks or [None] * len(rows)
    return [
        Structure(name, text, None if row in rows.errors else block, rows.errors.get(row, ""))
        for row, (name, text, block) in enumerate(zip(names, column, blocks, strict=True))
    ]
