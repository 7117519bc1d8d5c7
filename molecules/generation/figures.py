"""Pictures of generated systems: in space, beside the training set, on the way from noise; reconstructions too.

Sticks join atoms that are nearer than 1.2 times the sum of their covalent radii: a rule for the eye, by which nothing
is judged. N atoms, M sticks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rdkit import Chem

from isoform.core.domain import Figure
from isoform.core.errors import count
from isoform.core.report.balls import MOST_VIEWS, Balls, Kind, Scene, Sheet, View, balls_figure
from isoform.core.report.drawing import INK, SERIES, label, to_svg
from isoform.molecules.generation.properties import MOST, Property, properties_of
from isoform.molecules.generation.reconstruction import displacement, rmsd, superposed
from isoform.molecules.systems.system import System, cell_of

REACH = 1.2  # of a stick, in sums of covalent radii
STICK = 0.12  # its radius, Angstrom
STRIP = 6  # steps of a path that are shown side by side
FILM = 48  # steps that are shown one after another
FACE = 1e-3  # atoms of a crystal this near to a face of the cell, in its edges, are shown on the opposite one too
_MOST_SHOWN = 1_500  # atoms of one crystal with those on the faces; the rest is left out, and said
_PERIODIC = Chem.GetPeriodicTable()
# Of the usual elements as chemists colour them, light and dark enough to be seen on any paper.
_COLOURS = {
    1: "#d5d8de",
    6: "#6b6f7a",
    7: "#4a66d8",
    8: "#d8452f",
    9: "#5fb85a",
    14: "#c9a36a",
    15: "#e0832b",
    16: "#e3c62f",
    17: "#33a03c",
    35: "#93402f",
    53: "#7d2f9a",
}


def figures_of(
    generated: Sequence[System],
    training: Sequence[System],
    path: Sequence[System] | None = None,
) -> list[Figure]:
    """What was generated in space, its properties beside those of the training set, and how one sample came about.

    generated, training   molecules and crystals in any order; the first ones are shown, none chosen
    path                  one sample from noise on, its steps named by their names where they have some; or None
    """
    found = []
    for kind in ("molecule", "crystal"):
        made, real = ([one for one in group if one.kind == kind] for group in (generated, training))
        if made:
            found.append(_gallery(kind, made, real))
        if made and real:
            found.append(_histograms(kind, made, real))
    if path:
        found.append(path_figure(path))
    return found


def _gallery(kind: str, made: Sequence[System], real: Sequence[System]) -> Figure:
    """The first systems of a kind that were generated, and on a second sheet those of the training set."""
    groups = {name: group for name, group in (("generated", made), ("training", real)) if group}
    scene = scene_of({name: group[:MOST_VIEWS] for name, group in groups.items()})
    counts = (
        f"the first {min(len(group), MOST_VIEWS)} of {count(len(group), f'{name} {kind}')}"
        for name, group in groups.items()
    )
    caption = (
        f"{_sentence(' and '.join(counts))}, none chosen; sticks join atoms nearer than {REACH} "
        "times the sum of their covalent radii"
    )
    return balls_figure(caption, scene)


def path_figure(path: Sequence[System]) -> Figure:
    """One sample from noise to the end: a few steps side by side, and all of them one after another."""
    steps = [path[k] for k in spread(len(path), FILM)]
    names = [one.name or f"step {k + 1}" for k, one in enumerate(steps)]
    kinds, row = kinds_of(steps)
    balls = [balls_of(one, row, caption=name) for one, name in zip(steps, names, strict=True)]
    strip = [View([balls[k]], frame=0) for k in spread(len(balls), STRIP)]
    sheets = [
        Sheet("side by side", strip, columns=(STRIP, 3)),
        Sheet("one after another", [View(balls)], columns=(2, 1)),
    ]
    caption = f"How one {steps[-1].kind} came about, from noise on: {formula(steps[-1])}"
    return balls_figure(caption, Scene(sheets, kinds, STICK))


def reconstruction_figure(made: Sequence[System], truth: Sequence[System]) -> Figure:
    """Pairs of the truth and what an autoencoder made of it, in one measure and turned onto each other."""
    groups: dict[str, list[View]] = {}
    most = MOST_VIEWS // 2
    kinds, row = kinds_of([*truth, *made])
    for number, (one, other) in enumerate(zip(made, truth, strict=True)):
        views = groups.setdefault(f"{other.kind}s", [])
        if len(views) < 2 * most:
            turned, words = _laid_onto(one, other)
            views.append(View([balls_of(other, row)], f"{formula(other)}, the truth", number))
            views.append(View([balls_of(turned, row)], f"{formula(one)}, made; {words}", number))
    sheets = [Sheet(name, views) for name, views in groups.items()]
    caption = (
        f"The truth and beside it what the autoencoder made of it; the first of {len(truth):,}"
    )
    return balls_figure(caption, Scene(sheets, kinds, STICK))


def _laid_onto(made: System, truth: System) -> tuple[System, str]:
    """A reconstruction as it lies best on the truth, and how far off it is, in words."""
    if made.kind == "crystal":
        off = displacement(made, truth)
        return made, "" if off is None else f"{off:.3f} Å off"
    positions = superposed(made.positions, truth.positions)
    off = rmsd(made.positions, truth.positions)
    return System(made.numbers, positions, name=made.name), f"RMSD {off:.3f} Å"


# Systems as balls and sticks ------------------------------------------------------------------------------------------


def scene_of(groups: Mapping[str, Sequence[System]]) -> Scene:
    """A sheet a group, a view a system."""
    kinds, row = kinds_of([one for group in groups.values() for one in group])
    sheets = [
        Sheet(name, [View([balls_of(one, row)], words(one)) for one in group])
        for name, group in groups.items()
    ]
    return Scene(sheets, kinds, STICK)


def kinds_of(systems: Sequence[System]) -> tuple[list[Kind], dict[int, int]]:
    """The elements of some systems, the most frequent first; and the row of each atomic number."""
    often = Counter(int(number) for one in systems for number in one.numbers)
    order = [number for number, _ in often.most_common()]
    kinds = [
        Kind(
            _PERIODIC.GetElementSymbol(number),
            colour_of(number),
            0.12 + 0.33 * _PERIODIC.GetRcovalent(number),
        )
        for number in order
    ]
    return kinds, {number: place for place, number in enumerate(order)}


def colour_of(number: int) -> str:
    """An element's colour; of those that chemists have no custom for, hues far apart by the golden angle."""
    import colorsys

    if number in _COLOURS:
        return _COLOURS[number]
    red, green, blue = colorsys.hls_to_rgb((number * 0.381966) % 1.0, 0.55, 0.45)
    return "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))


def balls_of(system: System, row: Mapping[int, int], caption: str = "") -> Balls:
    """A system's atoms and sticks; a crystal's in its cell, atoms on a face also on the opposite one."""
    numbers, places = system.numbers, system.positions
    if system.lattice is not None and system.fractional is not None:
        numbers, fractional = _with_faces(system.numbers, system.fractional)
        places = fractional @ system.lattice
        if len(numbers) > _MOST_SHOWN:
            numbers, places = numbers[:_MOST_SHOWN], places[:_MOST_SHOWN]
            caption = f"{caption} (the first {_MOST_SHOWN:,} atoms)".strip()
    kind = np.array([row[int(number)] for number in numbers], np.int64)
    box = None if system.lattice is None else np.concatenate([np.zeros((1, 3)), system.lattice])
    return Balls(places, kind, sticks_of(numbers, places), box, caption)


def _with_faces(numbers: np.ndarray, fractional: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and, behind them, the images on opposite faces, edges and corners of those that lie on one."""
    for axis in range(3):
        place = fractional[:, axis]
        step = np.zeros(3)
        step[axis] = 1.0
        low, high = place < FACE, place > 1 - FACE
        fractional = np.concatenate([fractional, fractional[low] + step, fractional[high] - step])
        numbers = np.concatenate([numbers, numbers[low], numbers[high]])
    return numbers, fractional


def sticks_of(numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """int64 [M, 2] pairs of atoms that are near, the first below the second."""
    radii = np.array([_PERIODIC.GetRcovalent(int(number)) for number in numbers])
    found = [
        np.flatnonzero(
            np.linalg.norm(places[k + 1 :] - places[k], axis=1)
            < REACH * (radii[k + 1 :] + radii[k])
        )
        for k in range(len(numbers))
    ]
    pairs = [np.stack([np.full_like(near, k), near + k + 1], 1) for k, near in enumerate(found)]
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def formula(system: System) -> str:
    """Hill's order: carbon, hydrogen, then by the alphabet; without carbon all by the alphabet."""
    counts = Counter(_PERIODIC.GetElementSymbol(int(number)) for number in system.numbers)
    first = [symbol for symbol in ("C", "H") if symbol in counts] if "C" in counts else []
    order = [*first, *sorted(set(counts) - set(first))]
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in order)


def words(system: System) -> str:
    """Below a picture: the formula, and a crystal's edges."""
    if system.lattice is None:
        return formula(system)
    edges = ", ".join(f"{edge:.1f}" for edge in cell_of(system.lattice)[:3])
    return f"{formula(system)}; edges {edges} Å"


def spread(size: int, most: int) -> list[int]:
    """At most `most` rows of `size`, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int)).tolist()


# Properties -----------------------------------------------------------------------------------------------------------


def _histograms(kind: str, made: Sequence[System], real: Sequence[System]) -> Figure:
    """Each property of generated and training systems as shares, the training set as grey areas."""
    from matplotlib.figure import Figure as Plot

    chosen = [[group[k] for k in spread(len(group), MOST)] for group in (made, real)]
    ours, theirs = (properties_of(kind, group) for group in chosen)
    columns = 2
    rows = -(-len(ours) // columns)
    plot = Plot(figsize=(3.2 * columns, 2.3 * rows), layout="constrained")
    places = plot.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(ours) :]:
        axes.set_axis_off()
    for axes, one, other in zip(places, ours, theirs, strict=False):
        _draw_property(axes, one, other)
    handles, names = places[0].get_legend_handles_labels()
    plot.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=2,
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    parts = [
        f"{len(some):,} of {len(all_):,}" if len(some) < len(all_) else f"{len(all_):,}"
        for some, all_ in zip(chosen, (made, real), strict=True)
    ]
    caption = (
        f"Properties of {parts[0]} generated and {parts[1]} training {kind}s; values beyond the axis are in its "
        "outermost bars"
    )
    return Figure(caption, to_svg(plot))


def _draw_property(axes: object, made: Property, real: Property) -> None:
    """Shares of one property: bars side by side of names, steps of numbers."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    groups = (("training", real, "#9ca0ab"), ("generated", made, SERIES[0]))
    if real.shares:
        often = sorted(real.shares.items() | made.shares.items(), key=lambda pair: -pair[1])
        names = list(dict.fromkeys(name for name, _ in often))[: real.most]
        for place, (which, one, colour) in enumerate(groups):
            heights = [one.shares.get(name, 0.0) for name in names]
            axes.bar(
                np.arange(len(names)) + 0.4 * (place - 0.5),
                heights,
                0.4,
                color=colour,
                label=which,
            )
        axes.set_xticks(range(len(names)), names, fontsize=8, parse_math=False)
    else:
        edges = _edges(made, real)
        for which, one, colour in groups:
            values = np.clip(one.values, edges[0], edges[-1])
            counts, _ = np.histogram(values, edges)
            shares = counts / max(counts.sum(), 1)
            area = which == "training"
            axes.stairs(
                shares,
                edges,
                fill=area,
                color=colour,
                alpha=0.6 if area else 1.0,
                lw=1.5,
                label=which,
            )
    label(axes, real.name, "share")
    axes.set_ylim(bottom=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _edges(made: Property, real: Property) -> np.ndarray:
    """Of bars: whole numbers in their middles, or 40 from the first to the last but for one value in 200."""
    values = np.concatenate([made.values, real.values])
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, [0.005, 0.995])
    if real.whole:
        step = max(1, round((high - low) / 40))
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + step, step)
    room = 0.0 if high > low else max(abs(low) * 0.05, 0.5)
    return np.linspace(low - room, high + room, 41)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
