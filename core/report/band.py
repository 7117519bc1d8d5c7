"""Values along an axis as inline SVG: from the least to the most of each stretch, and where there is none.

Like chart.py it draws without matplotlib, so that `check` answers before that would be imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from isoform.core.report.chart import padded, ticks
from isoform.core.report.formatting import axis_number

WIDTH, HEIGHT = 420, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 8, 22
_LINE, _GAP, _SHADE, _FRAME = "#2f5bd0", "#c43a5e", "#9ca0ab", "#9ca0ab"
_ANCHORS = ("start", "middle", "end")


@dataclass(frozen=True)
class Band:
    """What is drawn; places are shares of the axis, 0 its beginning and 1 its end.

    places, low, high   of each stretch: its middle, its least and its most value, NaN where it has none
    gaps                places that are marked in red
    shades              (start, stop, opacity) of what stands behind
    ends                texts below the beginning, the middle and the end
    """

    places: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    gaps: Sequence[float] = ()
    shades: Sequence[tuple[float, float, float]] = ()
    ends: tuple[str, str, str] = ("", "", "")


def draw_band(band: Band) -> str:
    """The picture; a stretch without a value breaks it."""
    there = [one for one in (*band.low, *band.high) if math.isfinite(one)]
    least, most = padded(min(there), max(there), 0.06) if there else (0.0, 1.0)
    foot = HEIGHT - _BOTTOM

    def across(place: float) -> float:
        return _LEFT + place * (WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return foot - (value - least) / (most - least) * (foot - _TOP)

    parts = [
        f'<rect x="{across(start):.1f}" y="{_TOP}" width="{across(stop) - across(start):.1f}" '
        f'height="{foot - _TOP}" fill="{_SHADE}" opacity="{opacity}"/>'
        for start, stop, opacity in band.shades
    ]
    parts += _levels(ticks(least, most, 4) if there else [], up)
    for points in _unbroken(band):
        parts += _stretch([(across(x), up(low), up(high)) for x, low, high in points])
    parts += [
        f'<line x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{foot - 7}" y2="{foot}" stroke="{_GAP}"/>'
        for x in band.gaps
    ]
    parts += [
        f'<text x="{across(k / 2):.0f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(text)}</text>'
        for k, (anchor, text) in enumerate(zip(_ANCHORS, band.ends, strict=True))
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="10" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _levels(values: Sequence[float], up: Callable[[float], float]) -> list[str]:
    """Lines across with their numbers, and the frame's foot."""
    ends = f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}"'
    parts = [
        f'<line {ends} y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="{_FRAME}" opacity=".3"/>'
        f'<text x="{_LEFT - 6}" y="{up(value) + 3.5:.1f}" text-anchor="end">{axis_number(value)}</text>'
        for value in values
    ]
    foot = HEIGHT - _BOTTOM
    return [*parts, f'<line {ends} y1="{foot}" y2="{foot}" stroke="{_FRAME}"/>']


def _unbroken(band: Band) -> list[list[tuple[float, float, float]]]:
    """The (place, low, high) with values, cut where one has none."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for point in zip(band.places, band.low, band.high, strict=True):
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _stretch(points: Sequence[tuple[float, float, float]]) -> list[str]:
    """From low to high as an area, and the middle as a line; a single one is a short dash."""
    if len(points) == 1:
        x, low, high = points[0]
        points = [(x - 0.7, low, high), (x + 0.7, low, high)]
    around = [(x, high) for x, _, high in points] + [(x, low) for x, low, _ in points[::-1]]
    middle = [(x, (low + high) / 2) for x, low, high in points]
    area, line = (" ".join(f"{x:.1f},{y:.1f}" for x, y in path) for path in (around, middle))
    return [
        f'<polygon points="{area}" fill="{_LINE}" stroke="{_LINE}" stroke-width=".6"/>',
        f'<polyline points="{line}" fill="none" stroke="{_LINE}"/>',
    ]
