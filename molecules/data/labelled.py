"""Labelled: molecules whose labels are understood, and picking some of their rows. n molecules, K targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isoform.molecules.data.graphs import select
from isoform.molecules.data.records import Molecules


@dataclass(frozen=True, kw_only=True)
class Labelled(Molecules):
    """Molecules, what their labels are, and which of them are equal.

    task     "regression", "binary" (every target 0 or 1) or "multiclass" (one target: the number of a class)
    classes  of a multi-class target, in the order of their numbers
    keys     canonical SMILES of each molecule, where they were worked out
    inchis   InChIKey of each molecule beside its key, "" where there is none
    """

    task: str = "regression"
    classes: Sequence[str] = ()
    keys: Sequence[str] | None = None
    inchis: Sequence[str] | None = None


def keep_targets(molecules: Labelled, columns: np.ndarray) -> Labelled:
    """The molecules with some of their targets (int [m], ascending); those that have no label left are in no split."""
    targets = molecules.targets[:, columns]
    split, skipped = molecules.split, list(molecules.skipped)
    lost = np.isfinite(molecules.targets).any(1) & ~np.isfinite(targets).any(1)
    if split is not None and lost.any():
        rows = np.flatnonzero(lost & (split != "")).tolist()
        split = np.where(lost, "", split)
        skipped += [(molecules.names[row], "has labels of no learned target") for row in rows]
    return replace(
        molecules,
        targets=targets,
        bounds=None if molecules.bounds is None else molecules.bounds[:, columns],
        target_names=[molecules.target_names[k] for k in columns.tolist()],
        units=[molecules.units[k] for k in columns.tolist()],
        split=split,
        skipped=skipped,
    )


def take(molecules: Labelled, rows: np.ndarray, **changes: Any) -> Labelled:
    """The molecules `rows` (int [m], in this order), with fields replaced by `changes` (of m rows already)."""
    rows = np.asarray(rows, np.int64)

    def some(values: Sequence[str] | None) -> list[str] | None:
        return None if values is None else [values[row] for row in rows.tolist()]

    fields: dict[str, Any] = {
        "smiles": some(molecules.smiles),
        "names": some(molecules.names),
        "targets": molecules.targets[rows],
        "bounds": None if molecules.bounds is None else molecules.bounds[rows],
        "split": None if molecules.split is None else molecules.split[rows],
        "weight": None if molecules.weight is None else molecules.weight[rows],
        "graphs": None if molecules.graphs is None else select(molecules.graphs, rows),
        "blocks": some(molecules.blocks),
        "keys": some(molecules.keys),
        "inchis": some(molecules.inchis),
        "groups": some(molecules.groups),
    }
    return replace(molecules, **(fields | changes))
