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
        caption = f"{split_of.get(row, '-')}: {molecules.names[row]}{f', {label}' if label else ''}"
        return Picture(caption, svg=svg_of(molecules.smiles[row], block), size=(WIDTH, HEIGHT))

    sets: list[tuple[str, list[int]]] = []
    if not molecules.targets.shape[1]:
        sets.append(("Molecules", _spread(np.arange(len(molecules)), SHOWN_EACH)))
    elif molecules.task == "regression":
        values = molecules.targets[:, 0]
        order = np.argsort(values, kind="stable")
        sets.append((f"By {molecules.target_names[0]}", _spread(order[np.isfinite(values[order])], SHOWN_EACH)))
    else:
        labels = molecules.classes if molecules.task == "multiclass" else ("0", "1")
        for number, label in list(enumerate(labels))[:SHOWN_CLASSES]:
            rows = np.flatnonzero(molecules.targets[:, 0] == number)
            sets.append((f"{molecules.target_names[0]}: {label}", _spread(rows, SHOWN_EACH // 2)))
    sets.append(("In several splits", [row for one in list(leaking)[:SHOWN_SETS] for row in list(one)[:2]]))
    alike = [row for one in list(near)[:SHOWN_SETS] for row in list(one)[:2]]
    sets.append(("Alike but for salt, charge, isotopes or stereo chemistry", alike))
    return [Group(heading, [picture(row) for row in rows]) for heading, rows in sets if rows]


def _spread(rows: np.ndarray, count: int) -> list[int]:
    """At most `count` of `rows`, evenly spaced, the first and the last among them."""
    if len(rows) <= count:
        return [int(row) for row in rows]
    return [int(rows[place]) for place in np.linspace(0, len(rows) - 1, count).round().astype(int)]


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
