"""Clouds of points that a reader turns: side by side under one camera, in the page itself, without a library.

`points.js` draws them on canvases. Where no script runs, or it fails, the still picture in its place stays.
N points, V views.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.drawing import INK, to_svg
from isoform.core.report.files import shown

# Told apart by colour-blind readers and seen on light and dark paper; the first ones lie farthest apart. Found by a
# search for the largest smallest distance in Oklab under Machado et al.'s (2009) three kinds of colour blindness.
# None is a colour of `drawing.SERIES`, which would follow the page's light or dark in a legend, unlike the points.
COLOURS = (
    "#2f5bd1",
    "#d9622c",
    "#36baeb",
    "#704674",
    "#c6a290",
    "#af2f02",
    "#7885f8",
    "#967c97",
)
NONE = "#9ca0ab"  # of points that aren't judged
MOST = 24_000  # points of a scene, so that a page stays below a megabyte
LEVELS = 65_535  # of a coordinate
LEGEND = 6  # names in a line of a still picture
VIEW = (
    np.deg2rad(35),
    np.deg2rad(20),
)  # turned around z, then seen from above by; scenes.js begins there too


@dataclass(frozen=True)
class View:
    """One cloud of a scene.

    points   [N, 3], finite; z points upwards
    colour   [N], below 256: which colour of `palette`, or of the scene's, a point has
    frame    views of one number share scale and middle
    palette  of this view alone
    """

    points: np.ndarray
    colour: np.ndarray
    caption: str
    frame: int = 0
    palette: Sequence[str] = ()


@dataclass(frozen=True)
class Scene:
    """Views that turn together.

    palette  "#rrggbb" or "#rrggbbaa"  names  of its first colours, a legend
    columns  side by side on a wide page, and on a narrow one
    flat     seen from above at first
    """

    views: Sequence[View]
    palette: Sequence[str] = COLOURS
    names: Sequence[str] = ()
    columns: tuple[int, int] = (6, 3)
    flat: bool = False


def points_figure(caption: str, scene: Scene) -> Figure:
    """A picture of a report whose points turn, with its still picture."""
    return Figure(caption, to_svg(draw_still(scene)), scene=scene_json(scene))


def scene_json(scene: Scene) -> dict[str, Any]:
    """What points.js reads: coordinates as low + step * q with q in 16 bits, little-endian; colours in bytes; base64.

    So a coordinate is off by half of 1/65,535 of its cloud's largest extent at most.
    """
    return {
        "kind": "points",
        "palette": list(scene.palette),
        "names": [shown(name) for name in scene.names],
        "columns": list(scene.columns),
        "flat": scene.flat,
        "views": [_view_json(view) for view in scene.views],
    }


def _view_json(view: View) -> dict[str, Any]:
    xyz = np.asarray(view.points, np.float64)
    low = xyz.min(0) if len(xyz) else np.zeros(3)
    step = float(np.ptp(xyz, axis=0).max(initial=0)) / LEVELS if len(xyz) else 0.0
    if len(view.colour) != len(xyz) or np.min(view.colour, initial=0) < 0:
        raise ValueError("a view has one colour a point, numbered from 0")
    if np.max(view.colour, initial=0) > 255:
        raise ValueError("a view has 256 colours at most")
    levels = np.rint((xyz - low) / (step or 1.0)).astype("<u2")
    found = {
        "caption": shown(view.caption),
        "frame": view.frame,
        "low": low.tolist(),
        "step": step,
        "points": base64.b64encode(levels.tobytes()).decode(),
        "colour": base64.b64encode(np.asarray(view.colour, np.uint8).tobytes()).decode(),
    }
    return {**found, "palette": list(view.palette)} if len(view.palette) else found


def thin(count: int, most: int) -> np.ndarray:
    """int64: which of `count` points are shown, `most` at most; the same every time, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def draw_still(scene: Scene) -> Any:
    """A matplotlib figure of a scene: points as pixels, near ones darker, captions as text in the page's colour."""
    from matplotlib.colors import to_rgba_array
    from matplotlib.figure import Figure as Plot

    columns = min(scene.columns[0], len(scene.views))
    rows = -(-len(scene.views) // columns)
    edge = max(1.6, 7.2 / columns)
    legend = 0.25 * -(-len(scene.names) // LEGEND)
    plot = Plot(
        figsize=(edge * columns, (edge + 0.25) * rows + legend), dpi=120, layout="constrained"
    )
    places = plot.subplots(rows, columns, squeeze=False).ravel()
    for place in places:
        place.set_axis_off()
    frames = _frames(scene.views)
    for place, view in zip(places, scene.views, strict=False):
        middle, radius = frames[view.frame]
        across, up, depth = seen_from(
            (np.asarray(view.points, np.float64) - middle) / radius, scene.flat
        )
        order = np.argsort(depth, kind="stable")
        colours = to_rgba_array([*(view.palette or scene.palette)])[np.asarray(view.colour, int)]
        colours[:, 3] *= 0.55 + 0.45 * ((depth + 1) / 2).clip(0, 1)
        most = max(len(other.points) for other in scene.views if other.frame == view.frame)
        size = (edge * 72 * 0.38) ** 2 / max(most, 60)
        place.scatter(
            across[order],
            up[order],
            s=size,
            c=colours[order],
            lw=0,
            rasterized=True,
        )
        place.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), aspect="equal")
        place.set_title(view.caption, y=1.0, fontsize=8, color=INK, parse_math=False)
    draw_legend(plot, list(zip(scene.palette, scene.names, strict=False)))
    return plot


def draw_legend(plot: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Dots of colours with their names below a matplotlib figure; nothing for no pair (colour, name)."""
    from matplotlib.lines import Line2D

    if not pairs:
        return
    dots = [Line2D([], [], marker="o", ls="", color=colour) for colour, _ in pairs]
    made = plot.legend(
        dots,
        [name for _, name in pairs],
        loc="outside lower center",
        ncols=min(len(pairs), LEGEND),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
    for text in made.get_texts():
        text.set_parse_math(False)


def _frames(views: Sequence[View]) -> dict[int, tuple[np.ndarray, float]]:
    """(middle [3], radius) of each frame: of its points' box, and of the ball around that which holds them."""
    found = {}
    for frame in {view.frame for view in views}:
        xyz = np.concatenate([np.asarray(v.points, np.float64) for v in views if v.frame == frame])
        middle = (xyz.min(0) + xyz.max(0)) / 2 if len(xyz) else np.zeros(3)
        radius = float(np.sqrt(np.square(xyz - middle).sum(1).max(initial=0.0)))
        found[frame] = middle, radius or 1.0
    return found


def seen_from(points: np.ndarray, flat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(to the right, upwards, towards the eye), each [N]; `flat`: from above."""
    turn, above = (0.0, np.pi / 2) if flat else VIEW
    x = points[:, 0] * np.cos(turn) - points[:, 1] * np.sin(turn)
    y = points[:, 0] * np.sin(turn) + points[:, 1] * np.cos(turn)
    up = points[:, 2] * np.cos(above) + y * np.sin(above)
    return x, up, points[:, 2] * np.sin(above) - y * np.cos(above)
