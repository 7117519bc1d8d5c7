"""The first and the last files of a run folder: configuration, results, card, predictions, figures, report."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from isoform.core.config import dump_toml
from isoform.core.config.schema import AppConfig
from isoform.core.domain import Task
from isoform.core.engine.evaluate import evaluate, load_weights
from isoform.core.errors import UserError
from isoform.core.report import page
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs import results
from isoform.core.runs.folder import RunFolder

if TYPE_CHECKING:
    from isoform.core.engine.train import Loop


def write_start(run: RunFolder, task: Task, command: str, initial: str) -> None:
    """config.toml and task.json, before the first step."""
    text = dump_toml(task.config, threads=torch.get_num_threads())
    run.write_text("config.toml", f"# {' '.join(command.split())}\n{text}")
    run.write_json("task.json", {**task.portable(), **({"initial": initial} if initial else {})})


def refuse_changes(run: RunFolder, config: AppConfig) -> None:
    """Raises UserError naming what differs between a run's config.toml and `config`."""
    path = run.path / "config.toml"
    try:
        then = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}); the run can't go on without it") from error
    old, new = _flat(then), _flat(tomllib.loads(dump_toml(config)))
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if keys:
        unequal = "; ".join(f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys)
        raise UserError(f"{run.path} was trained with other settings ({unequal}); a resumed run keeps its own")


def write_results(
    loop: Loop, status: str, metrics: Mapping[str, Mapping[str, float]], baselines: Mapping[str, Any]
) -> dict[str, Any]:
    """results.json."""
    loop.tick()
    config = loop.task.config
    found = {
        "app": config.app,
        "domain": config.domain,
        "status": status,
        "parameters": sum(p.numel() for p in loop.model.parameters()),
        "precision": loop.precision,
        "seconds": round(loop.place.seconds, 3),
        "peak_memory_bytes": results.peak_memory(),
        "monitor": loop.task.monitor,
        "monitor_mode": loop.task.monitor_mode,
        "metrics": metrics,
        "baselines": baselines,
        "environment": results.environment(loop.device),
    }
    loop.run_folder.write_json("results.json", found)
    return loop.run_folder.results()


def finish(loop: Loop, command: str) -> dict[str, Any]:
    """Evaluates the best checkpoint once on test and writes everything a finished run has; returns results.json."""
    task, run, place = loop.task, loop.run_folder, loop.place
    best = place.step if place.best_step is None else place.best_step
    model = loop.shown_model
    load_weights(model, run.load_weights(best), f"{run.path} (step {best})")
    sizes = task.sizes()
    metrics: dict[str, dict[str, float]] = {"val": place.best_metrics} if place.best_metrics else {}
    if sizes.get("val"):
        _calibrate(loop, model)
    outputs = None
    if sizes.get("test"):
        metrics["test"], outputs = evaluate(
            task, model, "test", precision_name=loop.precision, device=loop.device, stop=lambda: loop.stop.requested
        )
        task.write_predictions(run.path, "test", outputs)
    baselines = task.baselines()
    found = write_results(loop, "finished", metrics, baselines)
    kind = "model.safetensors" if loop.ema is None else "ema.safetensors"
    digest = checkpoints.manifest(checkpoints.place(run.checkpoints, best))[kind][1]
    run.write_text("card.md", results.card(task, found, command=command, weights_sha256=digest, initial=place.initial))
    if outputs is not None:
        run.write_json("figures.json", [asdict(figure) for figure in task.figures(model, outputs)])
    page.write_report([run.path])
    split = "test" if "test" in metrics else "val"
    if metrics:
        loop.show.say(f"{split} (best checkpoint, step {best}): {_shown(metrics[split])}")
    for name in results.beaten_by(found):
        theirs = baselines[name][split][task.monitor]
        loop.show.say(f"warning: the baseline {name} is better: {split} {task.monitor} {theirs:.4g}")
    return found


def _calibrate(loop: Loop, model: nn.Module) -> None:
    """calibration.npz, from the best checkpoint on validation, for a task that asks for it."""
    task = loop.task
    if type(task).calibrate is Task.calibrate:
        return  # another pass over validation would be for nothing
    _, outputs = evaluate(
        task, model, "val", precision_name=loop.precision, device=loop.device, stop=lambda: loop.stop.requested
    )
    loop.run_folder.write_arrays("calibration.npz", task.calibrate(outputs))


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
