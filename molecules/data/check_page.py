"""The page of `check`: molecules of every kind, drawn by RDKit, and those that are in two splits."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from isoform.core.report.check_page import Group, Picture, render_check_page
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.parsing import parse, quiet

MOST_DRAWN = 120  # atoms; placing more takes long, and nobody could read it
SHOWN_EACH, SHOWN_CLASSES, SHOWN_SETS = 8, 12, 10
WIDTH, HEIGHT = 200, 150  # pixels

LEAKAGE = "The same molecule is in two splits: a score on them would be too good."


def draw_page(
    title: str,
    lines: Sequence[str],
    leakage: bool,
    molecules: Labelled,
    splits: Mapping[str, np.ndarray],
    leaking: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
) -> str:
    """HTML with the report's lines and drawn molecules; `leaking` and `near` are sets of rows. Opens offline."""
    groups = _groups(molecules, splits, leaking, near) if molecules.graphs is None else []
    return render_check_page(title, lines, LEAKAGE if leakage else "", groups)


def _groups(
    molecules: Labelled,
    splits: Mapping[str, np.ndarray],
    leaking: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
) -> list[Group]:
    """Over the range of the first target or of each class, then what is in two splits or alike."""
    split_of = {int(row): split for split, rows in splits.items() for row in rows}

    def picture(row: int) -> Picture:
        block = molecules.blocks[row] if molecules.blocks is not None else None
        label = _label(molecules, row)
        caption = f"{split_of.get(row, '-')}: {molecules.names[row]}"
        if label:
            caption += f", {label}"
        return Picture(caption, svg=svg_of(molecules.smiles[row], block), size=(WIDTH, HEIGHT))

    rows_of = _by_target(molecules)
    rows_of["In several splits"] = _pairs(leaking)
    rows_of["Alike but for salt, charge, isotopes or stereo chemistry"] = _pairs(near)
    return [
        Group(heading, [picture(row) for row in rows]) for heading, rows in rows_of.items() if rows
    ]


def _by_target(molecules: Labelled) -> dict[str, list[int]]:
    """Rows by heading: over the range of the first target, or of each of its classes."""
    if not molecules.targets.shape[1]:
        return {"Molecules": _spread(np.arange(len(molecules)), SHOWN_EACH)}
    name, values = molecules.target_names[0], molecules.targets[:, 0]
    if molecules.task == "regression":
        order = np.argsort(values, kind="stable")
        known = order[np.isfinite(values[order])]
        return {f"By {name}": _spread(known, SHOWN_EACH)}
    labels = molecules.classes if molecules.task == "multiclass" else ("0", "1")
    found = {}
    for number, label in enumerate(labels[:SHOWN_CLASSES]):
        rows = np.flatnonzero(values == number)
        found[f"{name}: {label}"] = _spread(rows, SHOWN_EACH // 2)
    return found


def _pairs(sets: Sequence[Sequence[int]]) -> list[int]:
    """The first two rows of the first sets."""
    found: list[int] = []
    for one in sets[:SHOWN_SETS]:
        found += one[:2]
    return found


def _spread(rows: np.ndarray, count: int) -> list[int]:
    """At most `count` of `rows`, evenly spaced, the first and the last among them."""
    if len(rows) <= count:
        return [int(row) for row in rows]
    places = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return [int(row) for row in rows[places]]


def _label(molecules: Labelled, row: int) -> str:
    if not molecules.targets.shape[1] or not np.isfinite(molecules.targets[row, 0]):
        return ""
    value = molecules.targets[row, 0]
    if molecules.task == "multiclass":
        return molecules.classes[int(value)]
    return f"{value:.4g} {molecules.units[0]}".strip()


def svg_of(smiles: str, block: str | None = None) -> str:
    """A picture of one molecule as SVG in base64, "" where there is none. For an img element, in which nothing runs."""
    mol = parse(smiles, block, MOST_DRAWN)
    if isinstance(mol, str):
        return ""
    try:
        with quiet():
            mol = Chem.Mol(mol)
            mol.RemoveAllConformers()
            drawer = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
            rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol)
            drawer.FinishDrawing()
            text = drawer.GetDrawingText()
    except (ValueError, RuntimeError):
        return ""
    return base64.b64encode(text.encode()).decode("ascii")
