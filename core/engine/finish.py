"""The first and the last files of a run folder: configuration, results, card, predictions, figures, report."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from isoform.core.config import dump_toml
from isoform.core.config.keys import PLACES, flatten
from isoform.core.config.schema import AppConfig
from isoform.core.domain import Task
from isoform.core.engine import kept, seen
from isoform.core.engine.baselines import fit_baselines
from isoform.core.engine.evaluate import load_weights
from isoform.core.engine.groups import describe_groups, group_figure, judge_groups
from isoform.core.engine.progress import Display
from isoform.core.engine.suspects import describe_suspects, write_suspects
from isoform.core.errors import UserError, join_names
from isoform.core.report import page
from isoform.core.report.files import figure_json
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs import results
from isoform.core.runs.folder import RunFolder

_SHOWN = 12  # metrics on a line


@dataclass(frozen=True)
class Outcome:
    """What a training hands over: its best checkpoint, and how to go on speaking, timing and stopping."""

    task: Task
    run: RunFolder
    model: nn.Module  # the one that is judged; its weights are replaced by the best checkpoint's
    best_step: int
    best_metrics: Mapping[str, float]  # on validation
    averaged: bool  # the checkpoints hold averaged weights, which are the ones judged
    initial: str  # what the weights started from, and its licence
    precision: str
    device: torch.device
    seconds: Callable[[], float]  # of work so far
    stopping: Callable[[], bool]
    show: Display
    left_out: Mapping[
        str, Any
    ]  # samples and steps that the run went on without, see LeftOut.to_json

    def evaluate(
        self, split: str, digests: np.ndarray | None = None
    ) -> tuple[dict[str, float], dict[str, Any], seen.Unseen | None]:
        """Metrics and outputs of the model on a split, and the metrics without what is among `digests`."""
        return seen.evaluate_apart(
            self.task,
            self.model,
            split,
            digests,
            precision_name=self.precision,
            device=self.device,
            stop=self.stopping,
        )


def write_start(
    run: RunFolder, task: Task, command: str, initial: str, before: np.ndarray | None = None
) -> list[str]:
    """config.toml, task.json, split.json and seen.npz, before the first step; says how much of test is known already.

    `before`: digests of what the initial weights were trained on.
    """
    text = dump_toml(task.config, threads=torch.get_num_threads())
    run.write_text("config.toml", f"# {' '.join(command.split())}\n{text}")
    state = task.inference_state()
    if initial:
        state = state.model_copy(update={"initial": initial})
    run.write_json("task.json", state.to_json())
    run.write_split(task.kept_split())
    digests = seen.gather(task, before)
    run.write_seen(digests)
    if not task.sizes().get("test"):
        return []
    return seen.describe_known(task, "test", seen.find_known(task, "test", digests), _who(initial))


def _who(initial: str) -> str:
    return "the starting run" if initial else "it"


def refuse_changes(run: RunFolder, config: AppConfig) -> None:
    """Raises UserError naming what differs between a run's config.toml and `config`, but for where its data lie."""
    path = run.path / "config.toml"
    try:
        then = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"{path}: can't be read ({error}); the run can't go on without it"
        ) from error
    with suppress(
        ValidationError
    ):  # a key that the run's version didn't know is as it is by default
        then = tomllib.loads(dump_toml(type(config).model_validate(then)))
    old, new = (_by_key(tree) for tree in (then, tomllib.loads(dump_toml(config))))
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if keys := [key for key in keys if key not in PLACES]:
        unequal = "; ".join(f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys)
        raise UserError(
            f"{run.path} was trained with other settings ({unequal}); a resumed run keeps its own"
        )


def accept_changes(run: RunFolder, task: Task) -> list[str]:
    """Refuses other settings and other data than the run's; see refuse_changes and accept_data."""
    refuse_changes(run, task.config)
    return accept_data(run, task)


def accept_data(run: RunFolder, task: Task) -> list[str]:
    """Refuses data other than the run's; of data at a new place config.toml tells from now on, as a line says."""
    path = run.path / "config.toml"
    text = path.read_text(encoding="utf-8")
    old = _by_key(tomllib.loads(text))
    new = _by_key(tomllib.loads(dump_toml(task.config)))
    moved = {key: new.get(key) for key in PLACES if old.get(key) != new.get(key)}
    kept.refuse_other_data(run, task, bool(moved))
    if not moved:
        return []
    comments = "".join(line for line in text.splitlines(keepends=True)[:2] if line.startswith("#"))
    body = dump_toml(task.config).partition("\n")[2]
    run.write_text("config.toml", comments + body)
    places = ", ".join(f"{key} = {value}" for key, value in moved.items())
    return [f"the same data at another place, which config.toml names from now on: {places}"]


def write_results(
    outcome: Outcome,
    status: str,
    metrics: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Any],
    unseen: seen.Unseen | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """results.json; of `more` what isn't empty."""
    config = outcome.task.config
    results_json = {
        "app": config.app,
        "domain": config.domain,
        "status": status,
        "parameters": sum(p.numel() for p in outcome.model.parameters()),
        "precision": outcome.precision,
        "seconds": round(outcome.seconds(), 3),
        "peak_memory_bytes": results.peak_memory(),
        "monitor": outcome.task.monitor,
        "monitor_mode": outcome.task.monitor_mode,
        "metrics": metrics,
        "baselines": baselines,
        "environment": results.environment(outcome.device),
    }
    if stored := outcome.run.stored_baselines():
        results_json["stored_baselines"] = stored
    if unseen is not None:
        results_json["unseen"] = unseen.to_json()
    results_json |= {name: value for name, value in (more or {}).items() if value}
    if outcome.left_out:
        results_json["left_out"] = outcome.left_out
    if outcome.task.notes:
        results_json["notes"] = list(outcome.task.notes)
    outcome.run.write_json("results.json", results_json)
    return outcome.run.results()


def finish(
    outcome: Outcome, command: str, baselines: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Evaluates the best checkpoint once on test and writes everything a finished run has; returns results.json.

    `baselines` are fitted here unless they are handed in. Raises Preempted where a signal came before all were.
    """
    task, run, best = outcome.task, outcome.run, outcome.best_step
    checkpoints.gather(run.checkpoints, best)
    load_weights(outcome.model, _best_weights(run, best), f"{run.path} (step {best})")
    sizes = task.sizes()
    metrics: dict[str, Mapping[str, float]] = (
        {"val": outcome.best_metrics} if outcome.best_metrics else {}
    )
    judged: dict[str, Mapping[str, Any]] = {}
    if sizes.get("val") and (found := _calibrate(outcome)) is not None:
        judged["val"] = found
    outputs = unseen = groups = None
    ranges: dict[str, tuple[float, float]] = {}
    if sizes.get("test"):
        metrics["test"], outputs, unseen = outcome.evaluate("test", run.seen())
        judged["test"] = outputs
        task.write_predictions(run.path, "test", outputs)
        ranges = task.intervals("test", outputs)
        groups = judge_groups(task, "test", outputs)
    beside = baselines
    if beside is None:
        beside = fit_baselines(task, outcome.show, outcome.stopping, run)
    split = "test" if "test" in metrics else "val"
    shares = task.importance(outcome.model, split) if metrics else {}
    importance = {split: shares} if shares else {}
    suspected = write_suspects(task, run, judged) if task.has_labels else {}
    intervals = {"test": ranges} if ranges else {}
    more = {
        "intervals": intervals,
        "importance": importance,
        "suspected_labels": suspected,
        "groups": {"test": groups} if groups else {},
    }
    results_json = write_results(outcome, "running", metrics, beside, unseen, more)
    kind = "ema.safetensors" if outcome.averaged else "model.safetensors"
    digest = checkpoints.manifest(checkpoints.place(run.checkpoints, best))[kind][1]
    card = results.card(
        task, results_json, command=command, weights_sha256=digest, initial=outcome.initial
    )
    run.write_text("card.md", card)
    if outputs is not None:
        figures = task.figures(outcome.model, outputs)
        if groups is not None and task.groups("test") is not None:
            figures.append(group_figure(groups, "test"))
        run.write_json("figures.json", [figure_json(figure, run.path) for figure in figures])
    # Last, as a run that says so is never taken up again; the report tells it.
    results_json["status"] = "finished"
    run.write_json("results.json", results_json)
    page.write_report([run.path])
    if metrics:
        outcome.show.say(f"{split} (best checkpoint, step {best}): {_shown(metrics[split])}")
    if task.monitor in ranges:
        low, high = ranges[task.monitor]
        outcome.show.say(f"95 % interval of test {task.monitor}: {low:.4g} to {high:.4g}")
    if unseen is not None:
        outcome.show.say(seen.describe_unseen(task, unseen, _who(outcome.initial)))
    if groups is not None:
        outcome.show.say(describe_groups(groups, task.monitor, "test"))
    if shares:
        outcome.show.say(results.describe_importance(shares, split))
    if suspected:
        outcome.show.say(describe_suspects(suspected))
    for name in results.beaten_by(results_json):
        theirs = beside[name][split][task.monitor]
        hint = f"; predict with it: --with {name}" if name in run.stored_baselines() else ""
        outcome.show.say(
            f"warning: the baseline {name} is better: {split} {task.monitor} {theirs:.4g}{hint}"
        )
    return results_json


def write_missing_report(run: RunFolder) -> None:
    """report.html of a finished run that was killed in front of it."""
    if not (run.path / "report.html").exists():
        page.write_report([run.path])


def _best_weights(run: RunFolder, step: int) -> dict[str, torch.Tensor]:
    path = checkpoints.place(run.checkpoints, step)
    try:
        return checkpoints.read_weights(path)
    except checkpoints.Damaged as error:
        raise UserError(
            f"{path} is damaged ({error}), and it is the best by validation, which no other can stand for: put a copy "
            "in its place and go on with --resume, or judge the last as it is: eval --checkpoint last"
        ) from error


def _calibrate(outcome: Outcome) -> Mapping[str, Any] | None:
    """calibration.npz, from the best checkpoint on validation, for a task that asks for it; what it was made from.

    None where another pass over validation would be for nothing.
    """
    task = outcome.task
    if not (task.calibrates or task.has_labels):
        return None
    _, outputs, _ = outcome.evaluate("val")
    if task.calibrates:
        known = set(task.notes)
        outcome.run.write_arrays("calibration.npz", task.calibrate(outputs))
        for note in task.notes:
            if note not in known:
                outcome.show.say(note)
    return outputs


def _shown(metrics: Mapping[str, float]) -> str:
    named = [f"{name} {value:.4g}" for name, value in metrics.items()]
    return join_names(named, _SHOWN, "  ")  # of many targets the table below says more


def _by_key(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {".".join(path): value for path, value in flatten(tree)}
