"""Bytes of a layer's attention on a GPU, by the model of core/attention/traffic.py: a table, and docs/kernels.svg."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from isoform.core.attention.traffic import GRAPHORMER, dram, table
from isoform.core.report.drawing import SERIES

SIZES = (32, 64, 128, 256, 512)
MODES = ("dense", "path", "table", "distance", "grid")


def draw(path: str) -> None:
    """The bytes of every bias, and of the tokens, over the number of tokens, as an SVG file; both axes logarithmic."""
    layers = [replace(GRAPHORMER, n=n, m=n) for n in SIZES]
    curves = {mode: [dram(layer, mode)["bias"] / 2**20 for layer in layers] for mode in MODES}
    curves["q, k, v, out, gradients"] = [dram(layer, "none")["tokens"] / 2**20 for layer in layers]
    Path(path).write_text("\n".join(picture(curves)) + "\n", encoding="utf-8")


def picture(curves: dict[str, list[float]]) -> Iterator[str]:
    """The lines of the file."""
    least, most = -2, 5  # powers of ten

    def across(place: int) -> float:
        return 60 + place * 90

    def up(mib: float) -> float:
        return 300 - (max(math.log10(mib), least) - least) / (most - least) * 270

    yield '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 350" font-family="sans-serif" font-size="11">'
    yield '<rect width="640" height="350" fill="white"/>'
    for power in range(least, most + 1):
        y = up(10.0**power)
        yield f'<path d="M60 {y:.0f}H420" stroke="#dddddd"/>'
        yield f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{10.0**power:g}</text>'
    for place, size in enumerate(SIZES):
        yield f'<text x="{across(place):.0f}" y="318" text-anchor="middle">{size}</text>'
    for (name, mib), colour in zip(curves.items(), SERIES, strict=False):
        points = " ".join(f"{across(i):.0f},{up(value):.1f}" for i, value in enumerate(mib))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="428" y="{up(mib[-1]) + 4:.0f}" fill="{colour}">{name}</text>'
    yield '<text x="60" y="18">MiB a layer and training step, modelled</text>'
    yield '<text x="60" y="340">tokens of a sample; 256 samples, 32 heads of 24 features, bfloat16</text>'
    yield "</svg>"


def main(given: list[str] | None = None) -> int:
    """Prints the table; draws it where asked."""
    parser = argparse.ArgumentParser(prog="isoform bench attention_traffic", description=__doc__)
    parser.add_argument("--plot", metavar="FILE.svg")
    args = parser.parse_args(given)
    print("\n".join(table()))
    if args.plot:
        draw(args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
