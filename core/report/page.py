"""report.html: one page, self-contained, that opens offline: headline, pictures, results beside baselines, curves.

Everything that comes from a user's data is escaped: jinja2's autoescape in the page, `tojson` in the embedded JSON.
Curves are inline SVG whose colours are CSS variables, so that they follow the reader's light or dark setting.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from isoform.core.config import toml
from isoform.core.config.keys import flatten
from isoform.core.data.writers import plain_json
from isoform.core.errors import UserError
from isoform.core.report.chart import Line, chart
from isoform.core.report.files import link, relative, table_of
from isoform.core.report.formatting import number
from isoform.core.report.scenes import kind_of, scripts_of, sources_of
from isoform.core.report.templates import template
from isoform.core.runs.folder import SUSPECTS, RunFolder
from isoform.core.runs.results import (
    Headline,
    beaten_by,
    describe_importance,
    headline,
    is_better,
)
from isoform.core.supervised.suspects import RULE

_BOOKKEEPING = {"step", "epoch", "split", "seconds", "samples_per_second"}
_OPTIMISATION = ("lr", "grad_norm")
_MOST_PLOTS = 8
_MOST_TILES = 6
_WIDE_COLUMNS = 9  # a table of this many scrolls on a desk's screen, and says so
_TROUBLED = ("interrupted", "failed")


@dataclass
class Shown:
    """What a page says of one run."""

    title: str
    folder: str
    status: str
    results: dict[str, Any]
    lines: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    command: str
    config: str
    link: str  # to the run's own page, from the folder of this one; "" where it has none
    suspects: str = ""  # to its suspected labels, likewise

    @property
    def headline(self) -> Headline | None:
        """That of its results; of a run without results yet, its best validation so far."""
        results = self.results
        if not results["metrics"] and "monitor" in results:
            best = _best_validation(self.lines, results["monitor"], results["monitor_mode"])
            results = {**results, "metrics": {"val": best}, "baselines": {}}
        return headline(results)

    @property
    def trouble(self) -> str:
        """Where a run stopped that didn't end."""
        if self.status not in _TROUBLED:
            return ""
        step = max((line["step"] for line in self.lines), default=0)
        return f"{self.status} after step {step}; the same command with --resume goes on from its last checkpoint"

    @property
    def warning(self) -> str:
        """That a baseline is better, with the numbers of all that are; "" where none is."""
        found = headline(self.results)
        if found is None or found.verdict != "worse":
            return ""
        mine, split, metric = self.results["baselines"], found.split, found.metric
        better = {name: mine[name][split][metric] for name in beaten_by(self.results)}
        best_first = sorted(better, key=lambda name: better[name], reverse=found.mode == "max")
        numbers = ", ".join(f"{name} {number(better[name])}" for name in best_first)
        sentence = verdict_of(found, self.results.get("stored_baselines", []))
        return f"{sentence} By {split} {metric}: {numbers}, the model {number(found.value)}."

    @property
    def importance(self) -> str:
        """What its error hangs on, as sentences."""
        splits = self.results.get("importance", {}).items()
        return "; ".join(describe_importance(shares, split) for split, shares in splits)

    @property
    def picture(self) -> dict[str, Any] | None:
        """The first of its pictures, for a card."""
        return next((figure for figure in self.figures if figure["svg"]), None)


def write_report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Writes one page about one run, or about several side by side; returns it.

    Runs of several domains, which share no metric, get a card each. `out` defaults to report.html in the run's folder,
    or beside the first of several runs. Raises UserError for a folder that isn't a run.
    """
    first = Path(runs[0])
    final = (
        Path(out)
        if out is not None
        else (first if len(runs) == 1 else first.parent) / "report.html"
    )
    page = render([_read(RunFolder(run), final.parent) for run in runs])
    final.parent.mkdir(
        parents=True,
        exist_ok=True,
    )
    return RunFolder(final.parent).write_text(final.name, page)


def render(runs: Sequence[Shown]) -> str:
    """The page as text."""
    comparable = len({run.results["domain"] for run in runs}) == 1
    scripts = scripts_of(
        kind_of(figure["scene"])
        for run in runs
        for figure in run.figures
        if comparable and figure.get("scene")
    )
    return template("page.html.j2").render(
        runs=runs,
        heading=runs[0].title if len(runs) == 1 else f"{len(runs)} runs",
        comparable=comparable,
        scripts=[Markup(script) for script in scripts],
        script_sources=Markup(sources_of(scripts)),
        verdict_of=verdict_of,
        cards=[] if comparable else [_card_picture(run, at) for at, run in enumerate(runs)],
        tiles=_tiles(runs[0]),
        plots=list(_plots(runs)) if comparable else [],
        names=_names(runs),
        tables=[_tables(run) for run in runs],
        wide=_WIDE_COLUMNS,
        differences=_differences(runs) if comparable else [],
        rule=RULE,
        pictures=[_pictures(run, at) for at, run in enumerate(runs)],
        data=[{"folder": run.folder, "results": run.results, "metrics": run.lines} for run in runs],
    )


def verdict_of(headline: Headline, stored: Sequence[str] = ()) -> str:
    """Which is better, model or best baseline, as a sentence; "" where there is no baseline.

    Of a better one that the run stored also how to predict with it.
    """
    use = f" Predict with it: --with {headline.baseline}." if headline.baseline in stored else ""
    return {
        "better": "The model is better than every baseline.",
        "equal": f"The baseline {headline.baseline} is as good as the model.",
        "worse": f"The baseline {headline.baseline} is better than the model.{use}",
        "alone": "",
    }[headline.verdict]


def inline_svg(svg: str, prefix: str) -> str:
    """An SVG file as a part of a page: no prolog, no metadata, no namespaces, ids that begin with `prefix`."""
    svg = svg[svg.index("<svg") :] if "<svg" in svg else ""
    svg = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<script\b.*?</script\s*>", "", svg, flags=re.S
    )
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)


def _read(run: RunFolder, beside: Path) -> Shown:
    results = run.results()
    if not results:
        raise UserError(f"{run.path} has no results.json: is it the folder of a run?")
    config = (
        (run.path / "config.toml").read_text(encoding="utf-8")
        if (run.path / "config.toml").exists()
        else ""
    )
    first = config.split("\n", 1)[0]
    figures = run.read_json("figures.json") if (run.path / "figures.json").exists() else []
    for figure in figures:
        figure["rows"] = table_of(
            figure,
            run.path,
            beside,
        )
    own = run.path / "report.html"
    return Shown(
        title=f"{results['domain']}/{results['app']}",
        folder=run.path.resolve().name,
        status=status_of(run, results),
        results={"environment": {}, **plain_json(results)},
        lines=plain_json(run.metrics()),
        figures=figures,
        command=first[2:] if first.startswith("# isoform ") and " train " in first else "",
        config=config,
        link=relative(own, beside) if own.exists() else "",
        suspects=link(SUSPECTS, run.path, beside),
    )


def status_of(run: RunFolder, results: Mapping[str, Any]) -> str:
    """That of results.json, but for a run that was stopped or killed: such a one can't say so itself."""
    status = str(results["status"])
    killed = status == "running" and not run.is_training()
    return "interrupted" if killed or status == "preempted" else status


def _best_validation(
    lines: Sequence[Mapping[str, Any]], monitor: str, mode: str
) -> Mapping[str, Any]:
    best: Mapping[str, Any] = {}
    for line in lines:
        if line.get("split") != "val" or line.get(monitor) is None:
            continue
        if not best or is_better(line[monitor], best[monitor], mode):
            best = line
    return best


def _tiles(run: Shown) -> list[tuple[str, Any]]:
    """The first metrics of the headline's split, beside it."""
    first = run.headline
    split = "test" if "test" in run.results["metrics"] else "val"
    metrics = run.results["metrics"].get(split, {})
    rest = [
        (f"{split} {name}", value)
        for name, value in metrics.items()
        if first is None or name != first.metric
    ]
    return rest[:_MOST_TILES]


def _plots(runs: Sequence[Shown]) -> Iterator[tuple[str, Markup]]:
    single = len(runs) == 1
    for name, lines in _curves(runs):
        only = single and len(lines) == 1 and name not in _OPTIMISATION
        heading = f"{name} ({lines[0].label})" if only else name
        values = [value for line in lines for value in line.y]
        log = name == "loss" and min(values) > 0 and max(values) > 30 * min(values)
        yield (
            heading,
            Markup(chart(lines, title=f"{name} over optimiser steps", log=log, legend=single)),
        )


def _curves(runs: Sequence[Shown]) -> list[tuple[str, list[Line]]]:
    lines_of: dict[str, list[Line]] = {}
    single = len(runs) == 1
    for at, run in enumerate(runs):
        for split in ("train", "val"):
            lines = [line for line in run.lines if line.get("split") == split]
            label = split if single else f"{run.folder} ({split})"
            colour = ("train", "val").index(split) if single else at
            names = dict.fromkeys(
                name for line in lines for name in line if name not in _BOOKKEEPING
            )
            for name in names:
                points = [
                    (line["step"], line[name])
                    for line in lines
                    if isinstance(line.get(name), int | float)
                ]
                if points:
                    x, y = zip(*points, strict=True)
                    faint = split == "train" and not single
                    lines_of.setdefault(name, []).append(Line(label, x, y, colour, faint))
    ends = [name for name in _OPTIMISATION if name in lines_of]
    first = [name for name in ("loss",) if name in lines_of]
    rest = [name for name in lines_of if name not in (*first, *ends)]
    return [(name, lines_of[name]) for name in [*first, *rest[: _MOST_PLOTS - len(first)], *ends]]


def _names(runs: Sequence[Shown]) -> list[tuple[str, str]]:
    """(split, metric) of every number that a run has, the rows of the comparison."""
    pairs = dict.fromkeys(
        (split, name)
        for split in ("test", "val")
        for run in runs
        for name in run.results["metrics"].get(split, {})
    )
    return list(pairs)


def _differences(runs: Sequence[Shown]) -> list[tuple[str, list[str]]]:
    """(setting, its value in each run) of the settings in which runs differ."""
    each = [dict(flatten(tomllib.loads(run.config))) for run in runs]
    paths = sorted({path for one in each for path in one})
    rows = [
        (path, [toml.value(one[path]) if path in one else "-" for one in each]) for path in paths
    ]
    return [(".".join(path), values) for path, values in rows if len(set(values)) > 1]


def _tables(run: Shown) -> list[dict[str, Any]]:
    """For each split the model's metrics beside every baseline's, as {split, names, rows: [(name, values)], ends}.

    `ends` are those of the model's 95 % intervals, None where a metric has none; empty where none has.
    """
    tables = []
    for split in ("test", "val"):
        mine = run.results["metrics"].get(split)
        if mine:
            theirs = {name: own.get(split, {}) for name, own in run.results["baselines"].items()}
            rows = [(run.results["app"], list(mine.values()))]
            unseen = run.results.get("unseen", {})
            if unseen.get("split") == split and unseen["metrics"]:
                name = f"without {unseen['known']:,} of {unseen['samples']:,} known from training"
                rows.append((name, [unseen["metrics"].get(n) for n in mine]))
            rows += [(name, [own.get(n) for n in mine]) for name, own in theirs.items() if own]
            ranges = run.results.get("intervals", {}).get(split, {})
            ends = [ranges.get(name) for name in mine] if ranges else []
            tables.append({"split": split, "names": list(mine), "rows": rows, "ends": ends})
    return tables


def _pictures(run: Shown, at: int) -> list[dict[str, Any]]:
    """{caption, drawn, scene, columns of its table, head, rows} of each of the domain's pictures."""
    pictures = []
    for number_, figure in enumerate(run.figures):
        drawn = Markup(inline_svg(figure["svg"], f"run{at}-{number_}") + figure["html"])
        columns = figure["html"].split("</tr>")[0].count("<th>")
        more = {"drawn": drawn, "columns": columns, "head": figure.get("head", ())}
        more["scene"] = figure.get("scene")
        pictures.append({"caption": figure["caption"], "rows": figure["rows"], **more})
    return pictures


def _card_picture(run: Shown, at: int) -> Markup:
    return Markup("" if run.picture is None else inline_svg(run.picture["svg"], f"card{at}"))
