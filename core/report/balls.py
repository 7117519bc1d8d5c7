"""Balls joined by sticks, in boxes, that a reader turns: molecules, crystals, any bodies in space.

3Dmol.js (Rego & Koes 2015, doi:10.1093/bioinformatics/btu829), which comes with the page, draws them as balls.js says.
Where no script runs, or it fails, the still picture in its place stays. N balls, M sticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.drawing import INK, to_svg
from isoform.core.report.files import shown
from isoform.core.report.points import draw_legend, seen_from

EDGE = "#9ca0ab"  # of boxes
MOST_VIEWS = 12  # of a sheet: more are too small to see, and each is a canvas
DIGITS = 3  # of a coordinate on the page
_SHAPES = 2_000  # of a still picture; more become pixels
_RIM, _SHINE = 0.35, 0.45  # opacity of a ball's edge, and of the light on it
_CORNERS = np.array([[n & 1, n >> 1 & 1, n >> 2] for n in range(8)])
_EDGES = [(i, j) for i in range(8) for j in range(i) if bin(i ^ j).count("1") == 1]


@dataclass(frozen=True)
class Kind:
    """What some balls have in common: a name ("" is not in the legend), "#rrggbb", a radius in the places' measure."""

    name: str
    colour: str
    radius: float


@dataclass(frozen=True)
class Balls:
    """One state of a view.

    places   [N, 3], finite; z points upwards
    kind     [N] row of the scene's kinds
    sticks   [M, 2] rows of the balls that one joins
    box      [4, 3] its origin and three edges, or None
    """

    places: np.ndarray
    kind: np.ndarray
    sticks: np.ndarray
    box: np.ndarray | None = None
    caption: str = ""


@dataclass(frozen=True)
class View:
    """One body in its steps, shown one after another, all in one measure; views of one `frame` share it too."""

    steps: Sequence[Balls]
    caption: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class Sheet:
    """Views side by side, at most MOST_VIEWS; `columns` on a wide page, and on a narrow one."""

    name: str
    views: Sequence[View]
    columns: tuple[int, int] = (4, 2)


@dataclass(frozen=True)
class Scene:
    """Sheets that are shown one at a time; `stick` is the radius of sticks, in the places' measure."""

    sheets: Sequence[Sheet]
    kinds: Sequence[Kind]
    stick: float


def balls_figure(caption: str, scene: Scene) -> Figure:
    """A picture of a report whose balls turn, with its still picture: that of the first sheet."""
    checked = scene_json(scene)
    return Figure(caption, to_svg(draw_still(scene)), scene=checked)


def scene_json(scene: Scene) -> dict[str, Any]:
    """What balls.js reads. Raises ValueError for a sheet of too many views or none, and for balls without a place."""
    for sheet in scene.sheets:
        if not 1 <= len(sheet.views) <= MOST_VIEWS or not all(view.steps for view in sheet.views):
            raise ValueError(f"a sheet has 1 to {MOST_VIEWS} views, a view at least one step")
        for step in (one for view in sheet.views for one in view.steps):
            if not np.isfinite(step.places).all() or len(step.kind) != len(step.places):
                raise ValueError("balls have finite places, and a kind each")
    return {
        "kind": "balls",
        "stick": scene.stick,
        "edge": EDGE,
        "kinds": [
            {"name": shown(one.name), "colour": one.colour, "radius": one.radius}
            for one in scene.kinds
        ],
        "sheets": [_sheet_json(sheet, scene.kinds) for sheet in scene.sheets],
    }


def _sheet_json(sheet: Sheet, kinds: Sequence[Kind]) -> dict[str, Any]:
    views = [
        {
            "caption": shown(view.caption),
            "frame": {"middle": _numbers(middle), "radius": round(radius, DIGITS)},
            "steps": [_step_json(step) for step in view.steps],
        }
        for view, (middle, radius) in zip(sheet.views, _frames(sheet.views, kinds), strict=True)
    ]
    return {"name": shown(sheet.name), "columns": list(sheet.columns), "views": views}


def _step_json(step: Balls) -> dict[str, Any]:
    return {
        "caption": shown(step.caption),
        "places": _numbers(step.places),
        "kind": np.asarray(step.kind, int).tolist(),
        "sticks": np.asarray(step.sticks, int).ravel().tolist(),
        "box": None if step.box is None else _numbers(step.box),
    }


def _numbers(values: np.ndarray) -> list[float]:
    return np.round(np.asarray(values, np.float64), DIGITS).ravel().tolist()


def _frames(views: Sequence[View], kinds: Sequence[Kind]) -> list[tuple[np.ndarray, float]]:
    """(middle [3], radius) of each view: of the box around all that it shows, and of the ball that holds it."""
    members: dict[Any, list[np.ndarray]] = {}
    names = [("alone", k) if view.frame is None else view.frame for k, view in enumerate(views)]
    for name, view in zip(names, views, strict=True):
        for step in view.steps:
            corners = [] if step.box is None else [_corners(step.box)]
            members.setdefault(name, []).extend([np.reshape(step.places, (-1, 3)), *corners])
    largest = max((kind.radius for kind in kinds), default=0.0)
    found = {}
    for name, parts in members.items():
        places = np.concatenate(parts)
        if not len(places):
            places = np.zeros((1, 3))
        middle = (places.min(0) + places.max(0)) / 2
        radius = float(np.sqrt(np.square(places - middle).sum(1).max()))
        found[name] = middle, radius + largest or 1.0
    return [found[name] for name in names]


def _corners(box: np.ndarray) -> np.ndarray:
    """[8, 3] of a box [4, 3]; corner n has the edges whose bits n has."""
    box = np.asarray(box, np.float64)
    return box[0] + _CORNERS @ box[1:]


def draw_still(scene: Scene) -> Any:
    """A matplotlib figure of the first sheet; of a single view with several steps, those side by side."""
    from matplotlib.figure import Figure as Plot

    sheet = scene.sheets[0]
    panels = [
        (step, frame, " ".join(filter(None, (view.caption, step.caption))))
        for view, frame in zip(sheet.views, _frames(sheet.views, scene.kinds), strict=True)
        for step in (view.steps if len(sheet.views) == 1 else view.steps[-1:])
    ][:MOST_VIEWS]
    columns = min(max(sheet.columns[0], 4), len(panels))
    rows = -(-len(panels) // columns)
    edge = max(1.6, 7.2 / columns) if columns > 1 else 3.6
    used = {int(kind) for step, _, _ in panels for kind in np.unique(step.kind)}
    legend = [(one.colour, one.name) for k, one in enumerate(scene.kinds) if one.name and k in used]
    size = (edge * columns, (edge + 0.3) * rows + 0.3 * bool(legend))
    plot = Plot(figsize=size, dpi=120, layout="constrained")
    shapes = sum(2 * len(step.places) + 2 * len(step.sticks) for step, _, _ in panels)
    for place, panel in zip(plot.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        step, frame, caption = panel
        _draw_balls(place, step, frame, scene, pixels=shapes > _SHAPES)
        place.set_title(shown(caption), y=1.0, fontsize=8, color=INK, parse_math=False)
    for place in plot.axes:
        place.set_axis_off()
    draw_legend(plot, legend)
    return plot


def _draw_balls(
    axes: Any, step: Balls, frame: tuple[np.ndarray, float], scene: Scene, *, pixels: bool
) -> None:
    """Balls and halves of sticks from the farthest on, lit from above, and the box behind and before them."""
    from matplotlib.collections import LineCollection, PatchCollection

    middle, radius = frame

    def flat(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[.., 2] on the paper and [..] the depth, in the frame's radius."""
        x, up, depth = seen_from((places - middle) / radius, flat=False)
        return np.stack([x, up], -1), depth

    balls, depth = flat(np.asarray(step.places, np.float64).reshape(-1, 3))
    parts = [
        *_discs(balls, depth, step, scene, radius),
        *_halves(balls, depth, step, scene, radius),
    ]
    parts.sort(key=lambda part: part[0])
    patches = [patch for _, patch in parts]
    axes.add_collection(PatchCollection(patches, match_original=True, rasterized=pixels))
    if step.box is not None:
        corners, deep = flat(_corners(step.box))
        lines = [corners[[i, j]] for i, j in _EDGES]
        behind = [2 if deep[i] + deep[j] > 0 else 0 for i, j in _EDGES]
        for order in (0, 2):
            own = [line for line, z in zip(lines, behind, strict=True) if z == order]
            axes.add_collection(LineCollection(own, colors=EDGE, linewidths=0.7, zorder=order))
    axes.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), aspect="equal")


def _discs(
    balls: np.ndarray, depth: np.ndarray, step: Balls, scene: Scene, radius: float
) -> Iterable[tuple[float, Any]]:
    """(depth, patch) of each ball and of the light on it."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Circle

    for place, deep, number in zip(balls, depth, step.kind, strict=True):
        kind = scene.kinds[int(number)]
        own = kind.radius / radius
        rim = to_rgba("#000000", _RIM)
        yield deep, Circle(place, own, facecolor=kind.colour, edgecolor=rim, linewidth=0.4)
        light = place + own * np.array([-0.3, 0.35])
        shine = to_rgba("#ffffff", _SHINE)
        yield deep + 1e-6, Circle(light, 0.3 * own, facecolor=shine, edgecolor="none")


def _halves(
    balls: np.ndarray, depth: np.ndarray, step: Balls, scene: Scene, radius: float
) -> Iterable[tuple[float, Any]]:
    """(depth, patch) of the two halves of each stick, in the colours of their balls."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Polygon

    wide = scene.stick / radius
    for ends in np.reshape(step.sticks, (-1, 2)):
        middle, deep = balls[ends].mean(0), depth[ends].mean()
        for end in ends:
            along = middle - balls[end]
            across = np.array([-along[1], along[0]]) * wide / (np.hypot(*along) or 1.0)
            corners = [balls[end] - across, balls[end] + across, middle + across, middle - across]
            colour = scene.kinds[int(step.kind[end])].colour
            rim = to_rgba("#000000", _RIM / 2)
            half = Polygon(corners, closed=True, facecolor=colour, edgecolor=rim, linewidth=0.3)
            yield (depth[end] + deep) / 2 - 1e-3, half
