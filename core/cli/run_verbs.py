"""`isoform DOMAIN eval | predict | embed`: what is done with finished runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoform.core import api
from isoform.core.cli.console import Console
from isoform.core.cli.context import Context
from isoform.core.config import load_run_config
from isoform.core.data import writers
from isoform.core.data.folds import is_fold
from isoform.core.domain import AnyDomain, Predictor, Speaker
from isoform.core.engine.groups import Groups, group_rows, groups_of_folds
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.core.report.formatting import several
from isoform.core.runs.exported import is_exported
from isoform.core.runs.results import summarise_folds, summarise_seeds
from isoform.core.supervised.rows import is_undecided, put_in_front


def evaluate(context: Context) -> int:
    """Metrics of a run on a split of its own data or of other data; mean and spread of a group of seeds."""
    args, console = context.args, context.console
    options = {"split": args.split, "data": args.data, "checkpoint": args.checkpoint}
    runs = api.runs_in(args.run_dir)
    place = None if args.out is None else Path(args.out)
    each = []
    for run in runs:  # a group's seeds have a folder each there, as in the group
        out = place / run.name if place and len(runs) > 1 else place
        each.append(evaluate_run(context.domain, run, **options, out=out))
    for note in each[0]["notes"]:
        console.warn(note)
    console.say(each[0]["judged"])
    if len(each) == 1:
        ranges = each[0]["intervals"]
        head = ["metric", args.split, *(["95 % interval"] if ranges else [])]
        values = each[0]["metrics"].items()
        console.table(head, [[name, value, *_ends(ranges, name)] for name, value in values])
        _show_groups(console, each[0].get("groups"))
        console.result = each[0]
        return 0
    # Of a fold's own data some are what the others were trained on.
    fold = args.data is None and is_fold(load_run_config(runs[0], context.domain))
    group = {} if fold else evaluate_run(context.domain, args.run_dir, **options, out=place)
    together = group.get("metrics", {})
    results = [{"metrics": {"test": one["metrics"]}} for one in each]
    summarise = summarise_folds if fold else summarise_seeds
    summary = summarise(results)["metrics"]["test"]
    rows = [
        [name, one["mean"], one["std"], several(one["values"]), together.get(name)]
        for name, one in summary.items()
    ]
    console.table(["metric", f"{args.split} mean", "std", "values", "ensemble"], rows)
    groups = groups_of_folds([one.get("groups") for one in each]) if fold else None
    _show_groups(console, groups)
    console.result = {
        **each[0],
        "checkpoint": args.checkpoint,
        "metrics": summary,
        "ensemble": together,
        "intervals": group.get("intervals", {}),
        **({"groups": groups} if groups else {}),
    }
    return 0


def _show_groups(console: Console, groups: Groups | None) -> None:
    if groups is None:
        return
    names, rows = group_rows(groups)
    more = groups["count"] - len(rows)
    console.table(["group", *names], rows)
    if more:
        console.say(f"and {more:,} smaller groups")


def _ends(ranges: Mapping[str, Sequence[float]], name: str) -> list[str | None]:
    """The cell of a metric's interval, where there are any."""
    found = ranges.get(name)
    shown = None if found is None else f"{found[0]:.4g} to {found[1]:.4g}"
    return [shown] if ranges else []


def predict(context: Context) -> int:
    """One row an input; 0 if at least one succeeded (with --strict, all), else 2."""
    args, console = context.args, context.console
    if args.out is not None:
        writers.format_of(args.out, writers.ROWS)
    predictor = _chosen_predictor(context)
    predictor.adopt(args)
    if args.min_probability is not None:
        if not 0 <= args.min_probability <= 1:
            raise UserError(f"--min-probability {args.min_probability:g}: lies between 0 and 1")
        predictor.demand(args.min_probability)
    predictor.speaker = console
    items = predictor.expand(context.domain.expand_inputs(args.inputs))
    if not items:
        raise UserError(
            f"{' '.join(args.inputs)}: holds nothing that can be predicted on; name files or folders of them"
        )
    with _saying(console):
        rows = predictor.predict(items)
    for row in rows:
        if row.get("error"):
            name, why = str(row["input"]), str(row["error"])
            console.warn(why if why.startswith(name) else f"{name}: {why}")
    page = None if args.draw is None else predictor.draw(rows)
    for line in predictor.remarks(rows):
        console.warn(line)
    failed = sum(bool(row.get("error")) for row in rows)
    console.result = {"inputs": len(rows), "failed": failed}
    if undecided := sum(map(is_undecided, rows)):
        console.warn(f"{undecided} of {len(rows)} are undecided: their top probability is too low")
        console.result["undecided"] = undecided
    if page is not None:
        writers.write_together({args.draw: page})
        console.say(f"drawn: {args.draw}")
    if args.out is not None:
        writers.write_rows(rows, args.out)
        console.say(f"{len(rows) - failed} of {len(rows)} predicted: {args.out}")
        console.result["out"] = args.out
    elif console.json:
        console.result["rows"] = rows
    else:
        console.say(writers.csv_text(writers.columns_of(rows)).rstrip("\n"))
    if failed == len(rows) or (args.strict and failed):
        raise UserError(
            f"{failed} of {len(rows)} inputs failed; mend or leave out those named above"
        )
    return 0


def _chosen_predictor(context: Context) -> Predictor:
    """The run's model, or with --with a baseline that the run stored."""
    args = context.args
    if args.draw is not None and not args.draw.lower().endswith((".html", ".htm")):
        raise UserError(f"--draw {args.draw}: is a page; name it FILE.html")
    if args.baseline is None:
        return api.load_predictor(context.domain, args.run_dir, args.checkpoint, args.engine)
    return api.load_baseline(context.domain, args.run_dir, args.baseline, args.checkpoint)


def embed(context: Context) -> int:
    """Features of a frozen trunk, one row an input."""
    args, console = context.args, context.console
    writers.format_of(args.out, writers.ARRAYS)
    predictor = _any_predictor(context.domain, args.source, args.checkpoint)
    predictor.speaker = console
    items = predictor.expand(context.domain.expand_inputs(args.inputs))
    if not items:
        raise UserError(
            f"{' '.join(args.inputs)}: holds nothing to embed; name files or folders of them"
        )
    with _saying(console):  # an input that can't be read has no features
        features = predictor.embed(items)
    names = [str(item) for item in items]
    writers.write_features(names, features, args.out, _given(predictor, items))
    console.say(f"{features.shape[0]} inputs x {features.shape[1]} features: {args.out}")
    console.result = {"inputs": features.shape[0], "features": features.shape[1], "out": args.out}
    return 0


def _given(predictor: Predictor, items: Sequence[Any]) -> dict[str, list[str]]:
    """The columns of the items' own files, named beside "input" and "features"."""
    ours = {"input": "", "features": ""}
    rows = put_in_front([predictor.cells_of(item) for item in items], [ours] * len(items))
    return {name: [row[name] or "" for row in rows] for name in rows[0] if name not in ours}


@contextmanager
def _saying(console: Speaker) -> Iterator[None]:
    """Warnings of Python's as lines for a person, each once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    for line in dict.fromkeys(str(one.message) for one in said):
        console.warn(line)


def _any_predictor(domain: AnyDomain, source: str, checkpoint: str) -> Predictor:
    """The predictor of a run folder or of an export of one, or of whatever else `import` reads."""
    if (Path(source) / "config.toml").is_file() or is_exported(source):
        return api.load_predictor(domain, source, checkpoint)
    return api.foreign_predictor(domain, api.import_weights(domain, source))
