"""Line charts as inline SVG: small, themed by CSS variables, readable without a script.

Drawing them here rather than with matplotlib keeps a second of import and 40 MB out of every training run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from isoform.core.report.formatting import axis_number

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 34
COLOURS = 8  # --series-0 to --series-7 of the page
_MOST_POINTS = 600


@dataclass(frozen=True)
class Line:
    """One curve: at least one point, finite; `colour` picks a CSS variable."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    faint: bool = False


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    if high <= low:
        return [low]
    least = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def chart(lines: Sequence[Line], *, title: str, log: bool = False, legend: bool = True) -> str:
    """The curves over optimiser steps; `log` for a logarithmic y axis (every y positive)."""
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for value in line.y]
    x_low, x_high = padded(min(xs), max(xs), 0.0)
    to = math.log10 if log else float
    y_low, y_high = padded(to(min(ys)), to(max(ys)), 0.06)

    def across(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (to(value) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    levels = _decades(y_low, y_high) if log else ticks(y_low, y_high, 5)
    parts = []
    for value in levels:
        y = up(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--rule)"/>'
        )
        parts.append(
            f'<text x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{axis_number(value)}</text>'
        )
    for value in ticks(x_low, x_high):
        x = across(value)
        text = axis_number(value)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">step</text>'
    )
    start = float(LEFT)
    for line in lines:
        faint = ' opacity=".45"' if line.faint else ""
        style = f'stroke="var(--series-{line.colour % COLOURS})"{faint}'
        points = _thinned([(across(x), up(y)) for x, y in zip(line.x, line.y, strict=True)])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if len(points) == 1:
            x, y = points[0]
            mark = (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" {style} stroke-width="2" fill="none"/>'
            )
        else:
            mark = f'<polyline points="{path}" fill="none" stroke-width="1.8" stroke-linejoin="round" {style}/>'
        parts.append(
            f"<g><title>{escape(line.label)}: last {axis_number(line.y[-1])}</title>{mark}</g>"
        )
        if legend and len(lines) > 1:
            parts.append(
                f'<line x1="{start:.0f}" x2="{start + 16:.0f}" y1="12" y2="12" stroke-width="2.5" {style}/>'
                f'<text x="{start + 21:.0f}" y="15.5">{escape(_clipped(line.label))}</text>'
            )
            start += 36 + 6.2 * len(_clipped(line.label))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" font-size="11"'
        f' fill="currentColor">{"".join(parts)}</svg>'
    )


def padded(low: float, high: float, share: float) -> tuple[float, float]:
    """The two ends with `share` of their distance beyond each, and apart where they are equal."""
    room = (high - low) * share
    if high == low:
        room = abs(low) * 0.05 or 0.5
    return low - room, high + room


def _decades(low: float, high: float) -> list[float]:
    wide = high - low > 2
    steps = (1,) if wide else (1, 2, 5)
    values = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in steps]
    return [v for v in values if low <= math.log10(v) <= high]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = -(-len(points) // _MOST_POINTS)
    thinned = points[::every]
    return thinned if thinned[-1] == points[-1] else [*thinned, points[-1]]


def _clipped(label: str, most: int = 22) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
