"""Labelled: molecules whose labels are understood, and picking some of their rows. n molecules, K targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isoform.molecules.data.records import Molecules, PackedGraphs


@dataclass(frozen=True, kw_only=True)
class Labelled(Molecules):
    """Molecules, what their labels are, and which of them are equal.

    task     "regression", "binary" (every target 0 or 1) or "multiclass" (one target: the number of a class)
    classes  of a multi-class target, in the order of their numbers
    keys     canonical SMILES of each molecule, where they were worked out
    """

    task: str = "regression"
    classes: Sequence[str] = ()
    keys: Sequence[str] | None = None


def take(molecules: Labelled, rows: np.ndarray, **changes: Any) -> Labelled:
    """The molecules `rows` (int [m], in this order), with fields replaced by `changes` (of m rows already)."""
    rows = np.asarray(rows, np.int64)

    def some(values: Sequence[str] | None) -> list[str] | None:
        return None if values is None else [values[row] for row in rows.tolist()]

    fields: dict[str, Any] = {
        "smiles": some(molecules.smiles),
        "names": some(molecules.names),
        "targets": molecules.targets[rows],
        "split": None if molecules.split is None else molecules.split[rows],
        "weight": None if molecules.weight is None else molecules.weight[rows],
        "graphs": None if molecules.graphs is None else take_graphs(molecules.graphs, rows),
        "blocks": some(molecules.blocks),
        "keys": some(molecules.keys),
        "groups": some(molecules.groups),
    }
    return replace(molecules, **(fields | changes))


def take_graphs(graphs: PackedGraphs, rows: np.ndarray) -> PackedGraphs:
    """The graphs `rows`, in this order."""
    atoms, atom_offsets = _pieces(graphs.atom_offsets, rows)
    bonds, bond_offsets = _pieces(graphs.bond_offsets, rows)
    return PackedGraphs(graphs.atoms[atoms], graphs.bonds[bonds], graphs.ends[bonds], atom_offsets, bond_offsets)


def _pieces(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices of everything that the pieces `rows` own, the offsets of these pieces)."""
    sizes = np.diff(offsets)[rows]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    index = np.arange(ends[-1]) + np.repeat(offsets[:-1][rows] - ends[:-1], sizes)
    return index, ends
