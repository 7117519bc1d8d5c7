"""Molecules drawn by RDKit, coloured by what their atoms contribute, with words below: one SVG, or an array of pixels.

N atoms.

A molecule comes from outside. Of RDKit's SVG only shapes with plain numbers and colours are taken over (its letters are
shapes too), and words are escaped, so nothing of it can be more than a picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from xml.etree import ElementTree

import numpy as np
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from isoform.core.report.drawing import short
from isoform.molecules.data.parsing import quiet

MOST_DRAWN = 120  # atoms; placing more takes long, and nobody could read it
WIDTH, HEIGHT = 180, 132  # of one molecule
_LINE, _GAP, _SCALE = 15, 10, 44  # heights of a line of words, between cells, of the colours' scale
_RAISES, _LOWERS = (0.91, 0.44, 0.13), (0.20, 0.45, 0.85)
_STEPS = 20  # colours of the scale on each side of 0
_SHAPES = {  # but for rectangles: the background is one
    "path": ("d",), "ellipse": ("cx", "cy", "rx", "ry"), "circle": ("cx", "cy", "r"), "polygon": ("points",),
}  # fmt: skip
_NUMBERS = re.compile(r"[MLCQZHVAmlcqzhva0-9eE.,+\-\s]*")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{3,8}|none")


@dataclass(frozen=True)
class Cell:
    """A molecule (or none that can be drawn), what its atoms contribute [N] (or nothing known), and lines of words."""

    mol: Chem.Mol | None
    atoms: np.ndarray | None
    words: tuple[str, ...]


def scale_of(cells: Sequence[Cell]) -> float:
    """The contribution that gets the full colour: what one atom in ten of all cells reaches, or 1 without atoms."""
    found = [np.abs(cell.atoms) for cell in cells if cell.atoms is not None]
    return float(np.quantile(np.concatenate(found), 0.9)) or 1.0 if found else 1.0


def unit_of_logarithm(unit: str) -> str:
    """Of contributions to a decimal logarithm."""
    return f"log10 {unit}".strip()


def colour_of(value: float, scale: float) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1]: white at 0, orange what raises, blue what lowers."""
    share = min(abs(value) / scale, 1.0)
    red, green, blue = (1 + share * (part - 1) for part in (_RAISES if value > 0 else _LOWERS))
    return red, green, blue


def sheet(cells: Sequence[Cell], columns: int, scale: float, unit: str) -> str:
    """One SVG of all cells in rows, and the scale of colours below where some atoms have one."""
    lines = max((len(cell.words) for cell in cells), default=0)
    step_x, step_y = WIDTH + _GAP, HEIGHT + _LINE * lines + _GAP
    columns = min(columns, len(cells))
    width, height = step_x * columns - _GAP, step_y * -(-len(cells) // columns)
    parts = [
        _cell(cell, scale, i % columns * step_x, i // columns * step_y)
        for i, cell in enumerate(cells)
    ]
    if any(cell.atoms is not None for cell in cells):
        parts.append(_legend(scale, unit, width, height))
        height += _SCALE
    # A single column would be as wide as the page; what is narrow stays at its own size.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width: {1.5 * width:.0f}px" font-family="sans-serif" font-size="11" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def pixels(cell: Cell, scale: float, zoom: int = 3) -> np.ndarray | None:
    """[zoom * HEIGHT, zoom * WIDTH, 3 or 4] of a cell's molecule, on white; None where it can't be drawn."""
    from matplotlib.image import imread

    drawer = rdMolDraw2D.MolDraw2DCairo(zoom * WIDTH, zoom * HEIGHT)
    drawer.drawOptions().bondLineWidth = zoom * drawer.drawOptions().bondLineWidth
    drawn = _draw(drawer, cell, scale)
    return None if drawn is None else np.asarray(imread(io.BytesIO(drawn), format="png"))


def _draw(drawer: Any, cell: Cell, scale: float) -> Any:
    """RDKit's text or bytes; None for what is too large or can't be placed."""
    if cell.mol is None or cell.mol.GetNumAtoms() > MOST_DRAWN:
        return None
    with quiet():
        try:
            mol = Chem.Mol(cell.mol)
            mol.RemoveAllConformers()
            drawer.drawOptions().useBWAtomPalette()  # the colours are for contributions
            n = 0 if cell.atoms is None else mol.GetNumAtoms()
            chosen = list(range(n))
            colours = (
                {i: colour_of(float(cell.atoms[i]), scale) for i in chosen}
                if cell.atoms is not None
                else {}
            )
            rdMolDraw2D.PrepareAndDrawMolecule(
                drawer,
                mol,
                highlightAtoms=chosen,
                highlightBonds=[],
                highlightAtomColors=colours,
                highlightAtomRadii=dict.fromkeys(chosen, 0.42),
            )
            drawer.FinishDrawing()
            return drawer.GetDrawingText()
        except (ValueError, RuntimeError):
            return None


def shapes_of(text: str) -> str:
    """The shapes of RDKit's SVG and nothing else: no text, links, ids, classes or styles."""
    found = []
    for element in ElementTree.fromstring(text).iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in _SHAPES:
            continue
        numbers = {name: element.get(name, "") for name in _SHAPES[tag]}
        style = dict(
            part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part
        )
        fill, stroke = (style.get(name, element.get(name, "none")) for name in ("fill", "stroke"))
        if not all(map(_NUMBERS.fullmatch, numbers.values())) or not (_COLOUR.fullmatch(fill)):
            continue
        looks = {"fill": fill}
        if tag == "path" and fill == "none" and _COLOUR.fullmatch(stroke):
            looks |= {
                "stroke": stroke,
                "stroke-width": f"{_number(style.get('stroke-width', '1')):g}",
            }
        named = "".join(
            f' {name}="{" ".join(value.split())}"' for name, value in {**numbers, **looks}.items()
        )
        found.append(f"<{tag}{named}/>")
    return "".join(found)


def _number(text: str) -> float:
    try:
        return float(text.strip().removesuffix("px"))
    except ValueError:
        return 1.0


def _cell(cell: Cell, scale: float, x: int, y: int) -> str:
    drawn = _draw(rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT), cell, scale)
    inner = "" if drawn is None else shapes_of(drawn)
    middle = WIDTH / 2
    if not inner:
        inner = f'<text x="{middle:g}" y="{HEIGHT / 2:g}" text-anchor="middle" fill="#777777">not drawn</text>'
    bold = ' font-weight="600"'
    words = "".join(
        f'<text x="{middle:g}" y="{HEIGHT + _LINE * (i + 1) - 2}" text-anchor="middle"{"" if i else bold}>'
        f"{escape(short(line, 30))}</text>"
        for i, line in enumerate(cell.words)
    )
    tile = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>'
    return (
        f'<g transform="translate({x} {y})">{tile}<g stroke-linecap="round">{inner}</g>{words}</g>'
    )


def _legend(scale: float, unit: str, width: int, y: int) -> str:
    """A row of colours from -scale to scale, with its ends named."""
    wide, high = min(7.0, width / (2 * _STEPS)), 10
    left = width / 2 - _STEPS * wide
    bars = []
    for i in range(2 * _STEPS):
        value = scale * (i + 0.5 - _STEPS) / _STEPS
        red, green, blue = (round(255 * part) for part in colour_of(value, scale))
        bars.append(
            f'<rect x="{left + i * wide:g}" y="{y}" width="{wide + 0.8}" height="{high}" '
            f'fill="#{red:02x}{green:02x}{blue:02x}"/>'
        )
    middle, below = width / 2, y + high + 13
    text = f"{scale:.2g} {unit}".strip()
    ends = (
        (left, "start", f"-{text} or less"),
        (left + 2 * _STEPS * wide, "end", f"+{text} or more"),
    )
    words = "".join(
        f'<text x="{at:g}" y="{below}" text-anchor="{how}">{escape(word)}</text>'
        for at, how, word in ends
    )
    return f'{"".join(bars)}{words}<text x="{middle:g}" y="{below}" text-anchor="middle">0</text>'
