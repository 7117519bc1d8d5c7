"""report.html: one page, self-contained, that opens offline: curves, results beside baselines, pictures, reproduction.

Everything that comes from a user's data is escaped: jinja2's autoescape in the page, `tojson` in the embedded JSON.
Curves are inline SVG whose colours are CSS variables, so that they follow the reader's light or dark setting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isoform.core.engine.progress import clock
from isoform.core.errors import UserError
from isoform.core.report.chart import Line, chart
from isoform.core.runs.folder import RunFolder, plain

_BOOKKEEPING = {"step", "epoch", "split", "seconds", "samples_per_second"}
_OPTIMISATION = ("lr", "grad_norm")
_MOST_PLOTS = 8


@dataclass
class Shown:
    """What a page says of one run."""

    title: str
    folder: str
    results: dict[str, Any]
    lines: list[dict[str, Any]]
    figures: list[dict[str, str]]
    command: str
    config: str


def write_report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Writes one page about one run, or about several side by side; returns it.

    `out` defaults to report.html in the run's folder, or beside the first of several runs. Raises UserError for a
    folder that isn't a run.
    """
    shown = [_read(RunFolder(run)) for run in runs]
    first = Path(runs[0])
    final = Path(out) if out is not None else (first if len(runs) == 1 else first.parent) / "report.html"
    page = render(shown)
    final.parent.mkdir(parents=True, exist_ok=True)
    return RunFolder(final.parent).write_text(final.name, page)


def render(runs: Sequence[Shown]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("isoform.core.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "clock": clock, "bytes": _bytes}
    plots = [
        (_heading(name, lines), Markup(_plot(name, lines, legend=len(runs) == 1))) for name, lines in _curves(runs)
    ]
    return environment.get_template("page.html.j2").render(
        runs=runs,
        heading=runs[0].title if len(runs) == 1 else f"{len(runs)} runs",
        plots=plots,
        names=_names(runs),
        tables=[_table(run) for run in runs],
        pictures=[_pictures(run, number) for number, run in enumerate(runs)],
        data=[{"folder": run.folder, "results": run.results, "metrics": run.lines} for run in runs],
    )


def inline_svg(svg: str, prefix: str) -> str:
    """An SVG file as a part of a page: no prolog, no metadata, no namespaces, ids that begin with `prefix`."""
    svg = svg[svg.index("<svg") :] if "<svg" in svg else ""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<script\b.*?</script\s*>", "", svg, flags=re.S)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)


def _read(run: RunFolder) -> Shown:
    results = run.results()
    if not results:
        raise UserError(f"{run.path} has no results.json: is it the folder of a run?")
    config = (run.path / "config.toml").read_text(encoding="utf-8") if (run.path / "config.toml").exists() else ""
    first = config.splitlines()[0] if config.startswith("# isoform ") and " train " in config.splitlines()[0] else ""
    figures = run.read_json("figures.json") if (run.path / "figures.json").exists() else []
    return Shown(
        title=f"{results['domain']}/{results['app']}",
        folder=run.path.resolve().name,
        results={"environment": {}, **plain(results)},
        lines=plain(run.metrics()),
        figures=figures,
        command=first[2:],
        config=config,
    )


def _curves(runs: Sequence[Shown]) -> list[tuple[str, list[Line]]]:
    found: dict[str, list[Line]] = {}
    for number, run in enumerate(runs):
        for split in ("train", "val"):
            lines = [line for line in run.lines if line.get("split") == split]
            names = dict.fromkeys(name for line in lines for name in line if name not in _BOOKKEEPING)
            for name in names:
                points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
                if not points:
                    continue
                single = len(runs) == 1
                label = split if single else f"{run.folder} ({split})"
                colour = (0 if split == "train" else 1) if single else number
                x, y = zip(*points, strict=True)
                found.setdefault(name, []).append(Line(label, x, y, colour, split == "train" and not single))
    ends = [name for name in _OPTIMISATION if name in found]
    first = [name for name in ("loss",) if name in found]
    rest = [name for name in found if name not in (*first, *ends)]
    return [(name, found[name]) for name in [*first, *rest[: _MOST_PLOTS - len(first)], *ends]]


def _heading(name: str, lines: Sequence[Line]) -> str:
    return name if name in _OPTIMISATION or len(lines) > 1 else f"{name} ({lines[0].label})"


def _plot(name: str, lines: Sequence[Line], *, legend: bool) -> str:
    values = [value for line in lines for value in line.y]
    wide = name == "loss" and min(values) > 0 and max(values) > 30 * min(values)
    return chart(lines, title=f"{name} over optimiser steps", log=wide, legend=legend)


def _names(runs: Sequence[Shown]) -> list[tuple[str, str]]:
    """(split, metric) of every number that a run has, the rows of the comparison."""
    pairs = dict.fromkeys(
        (split, name) for split in ("test", "val") for run in runs for name in run.results["metrics"].get(split, {})
    )
    return list(pairs)


def _table(run: Shown) -> list[dict[str, Any]]:
    """For each split the model's metrics beside every baseline's, as {split, names, rows: [(name, values)]}."""
    tables = []
    for split in ("test", "val"):
        mine = run.results["metrics"].get(split)
        if mine:
            theirs = {name: found.get(split, {}) for name, found in run.results["baselines"].items()}
            rows = [(run.results["app"], [mine.get(n) for n in mine])]
            rows += [(name, [found.get(n) for n in mine]) for name, found in theirs.items() if found]
            tables.append({"split": split, "names": list(mine), "rows": rows})
    return tables


def _pictures(run: Shown, number: int) -> list[tuple[str, Markup]]:
    return [
        (figure["caption"], Markup(inline_svg(figure["svg"], f"run{number}-{i}") + figure["html"]))
        for i, figure in enumerate(run.figures)
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{0 if abs(value) < 1e-9 else value:.4g}"


def _bytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB"
