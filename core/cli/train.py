"""`isoform DOMAIN train`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from isoform.core import api
from isoform.core.cli.context import Context
from isoform.core.cli.folds import train_folds
from isoform.core.cli.launch import is_launched, launch
from isoform.core.errors import Preempted, UserError
from isoform.core.report.formatting import several

_FLAGS = {
    "init": "train.init",
    "freeze": "train.freeze",
    "epochs": "train.epochs",
    "seed": "train.seed",
}

_WIDE = 10  # metrics in a line


def train(context: Context) -> int:
    """Trains an app (with one seed, or several, or in folds) and shows its metrics beside the baselines."""
    args, console = context.args, context.console
    if args.launch is not None:
        return launch(context)
    given = {key: getattr(args, flag) for flag, key in _FLAGS.items()}
    flags = {key: value for key, value in given.items() if value is not None}
    request = api.Request(context.domain, args.app, args.apps, tuple(args.sets), flags)
    options: dict[str, Any] = {
        "resume": args.resume,
        "progress": not console.json,
        "strict": args.strict,
        "log": args.log,
        "say": console.say,
    }
    if args.folds is not None and args.seeds is not None:
        raise UserError(
            "--folds with --seeds: a fold is trained with one seed; repeat --folds with another --seed and --run-dir"
        )
    if is_launched() and (args.folds is not None or args.seeds is not None):
        raise UserError(
            "--seeds and --folds train their runs in one process; launch each run by itself"
        )
    try:
        if args.folds is not None:
            run = train_folds(request, args.folds, args.run_dir, **options)
        elif args.seeds is None:
            run = api.train(request, args.run_dir, **options)
        else:
            run = api.train_seeds(request, args.seeds, args.run_dir, **options)
    except KeyboardInterrupt:
        raise Preempted("interrupted; the same command with --resume goes on") from None
    if console.quiet:
        return 0
    if args.folds is not None:
        _show_spread(context, run.metrics)
    elif args.seeds is None:
        _show(context, run.metrics, run.results.get("baselines", {}))
    else:
        _show_seeds(context, run.metrics, run.results.get("ensemble", {}))
    console.say(
        f"run folder: {run.folder}",
        f"isoform report {shlex.quote(str(run.folder))}  # its page again",
    )
    console.result = {"run": str(run.folder), **run.results}
    return 0


def _show(context: Context, metrics: Mapping[str, Any], baselines: Mapping[str, Any]) -> None:
    split = "test" if metrics.get("test") else "val"
    mine = metrics.get(split, {})
    rows = [["model", *mine.values()]]
    for name, splits in baselines.items():
        theirs = splits.get(split, {})
        rows.append([name, *map(theirs.get, mine)])
    if len(mine) > _WIDE:  # several targets, each with metrics of its own: one a line
        context.console.table(
            [split, *(str(row[0]) for row in rows)],
            [[metric, *(row[k] for row in rows)] for k, metric in enumerate(mine, 1)],
        )
    elif mine:
        context.console.table([split, *mine], rows)


def _show_spread(
    context: Context,
    metrics: Mapping[str, Any],
) -> None:
    rows = [
        [split, name, spread["mean"], spread["std"], several(spread["values"])]
        for split, spreads in metrics.items()
        for name, spread in spreads.items()
    ]
    context.console.table(["split", "metric", "mean", "std", "values"], rows)


def _show_seeds(
    context: Context, metrics: Mapping[str, Any], ensemble: Mapping[str, Mapping[str, float]]
) -> None:
    rows = []
    for split, spreads in metrics.items():
        for name, spread in spreads.items():
            each = [spread["mean"], spread["std"], several(spread["values"])]
            rows.append([split, name, *each, ensemble.get(split, {}).get(name)])
    context.console.table(["split", "metric", "mean", "std", "values", "ensemble"], rows)
