"""What a run leaves besides its weights: results.json, card.md, and the spread over seeds."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isoform.core.domain import Task
from isoform.core.version import __version__

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def environment(device: torch.device) -> dict[str, Any]:
    """What results depend on besides the code; no host name and no path."""
    facts: dict[str, Any] = {
        "isoform": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "peak_memory_of": "run" if os.access(_CLEAR, os.W_OK) else "process",
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    elif hasattr(torch.cpu, "get_capabilities"):
        facts["cpu"] = torch.cpu.get_capabilities().get("cpu_name", "unknown")
    return facts


def reset_peak_memory() -> bool:
    """Counts `peak_memory` from now on, so that of several runs in one process each has its own.

    False where the system can't (elsewhere than on Linux): then `peak_memory` is of the process's whole life.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """The most memory that this process, without loader workers, has held since the last reset, in bytes.

    VmHWM; elsewhere than on Linux ru_maxrss, which nothing resets. What earlier runs left held counts too.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def describe_importance(shares: Mapping[str, float], split: str) -> str:
    """What exchanging each thing between samples does to the error, as a sentence; see Task.importance."""
    changes = [f"the {name} by {round(100 * share):+d} %" for name, share in shares.items()]
    return f"exchanged between {split} samples, {' and '.join(changes)} change the error"


def summarise_folds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation and values of every metric over the results.json of the folds, and of baselines.

    {"folds": K, "metrics": {split: {name: {"mean", "std", "values"}}}, "baselines": {NAME: the same}}; a fold that
    can't tell a number (a class without samples) has None among the values, and the mean is over the others.
    """
    summary: dict[str, Any] = {"folds": len(results)}
    summary["metrics"] = _splits_of([result.get("metrics", {}) for result in results])
    baselines = [result.get("baselines", {}) for result in results]
    names = [name for name in baselines[0] if all(name in one for one in baselines)]
    summary["baselines"] = {name: _splits_of([one[name] for one in baselines]) for name in names}
    return summary


def _splits_of(each: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    splits = [split for split in ("val", "test") if all(split in one for one in each)]
    return {split: _spreads([one[split] for one in each], partial=True) for split in splits}


def summarise_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation and values of every metric over the results.json of several seeds.

    {"seeds": n, "metrics": {split: {name: {"mean", "std", "values"}}}}, and "importance" likewise where runs have it; a
    number that a run lacks is left out, and the deviation of a single run is 0.
    """
    summary: dict[str, Any] = {"seeds": len(results)}
    for kind in ("metrics", "importance"):
        each = [result.get(kind, {}) for result in results]
        splits = [split for split in ("val", "test") if all(split in one for one in each)]
        if splits or kind == "metrics":
            summary[kind] = {split: _spreads([one[split] for one in each]) for split in splits}
    return summary


def _spreads(each: Sequence[Mapping[str, float]], *, partial: bool = False) -> dict[str, Any]:
    found = {}
    for name in dict.fromkeys(name for one in each for name in one):
        values = [one.get(name) for one in each]
        known = [value for value in values if value is not None]
        if len(known) == len(values) or (partial and known):
            found[name] = {
                "mean": statistics.fmean(known),
                "std": statistics.stdev(known) if len(known) > 1 else 0.0,
                "values": values,
            }
    return found


@dataclass(frozen=True)
class Headline:
    """The one number that a run is judged by, beside that of its best baseline (None where there is none)."""

    split: str
    metric: str
    mode: str  # "min" or "max" is better
    value: float
    baseline: str | None = None
    baseline_value: float | None = None

    @property
    def verdict(self) -> str:
        """ "better", "equal" or "worse" than the best baseline; "alone" without one."""
        if self.baseline_value is None:
            return "alone"
        if self.value == self.baseline_value:
            return "equal"
        return "better" if is_better(self.value, self.baseline_value, self.mode) else "worse"


def is_better(value: float, other: float, mode: str) -> bool:
    """Whether a metric is strictly better than another; `mode`: "min" or "max". NaN is never better."""
    return value > other if mode == "max" else value < other


def headline(results: Mapping[str, Any]) -> Headline | None:
    """The monitored metric on test (without a test split on validation) beside the best baseline's.

    None where results.json holds no such number: an unfinished run, an imported one, one of before it named `monitor`.
    """
    metrics, monitor = results["metrics"], str(results.get("monitor", ""))
    split = "test" if "test" in metrics else "val"
    value = metrics.get(split, {}).get(monitor)
    if value is None:
        return None
    mode = results["monitor_mode"]
    baselines = _baseline_values(results, split, monitor)
    if not baselines:
        return Headline(split, monitor, mode, value)
    best = (max if mode == "max" else min)(baselines, key=lambda name: baselines[name])
    return Headline(split, monitor, mode, value, best, baselines[best])


def beaten_by(results: Mapping[str, Any]) -> list[str]:
    """The baselines that are better than the model by the headline's metric, the first in the table first."""
    best = headline(results)
    if best is None:
        return []
    baselines = _baseline_values(results, best.split, best.metric)
    return [name for name, value in baselines.items() if is_better(value, best.value, best.mode)]


def _baseline_values(results: Mapping[str, Any], split: str, metric: str) -> dict[str, float]:
    values = {
        name: splits.get(split, {}).get(metric) for name, splits in results["baselines"].items()
    }
    return {name: value for name, value in values.items() if value is not None}


def card(
    task: Task, results: Mapping[str, Any], *, command: str, weights_sha256: str, initial: str
) -> str:
    """card.md: data, licences, metrics with their command, and the hash of the weights."""
    about = {
        "parameters": f"{results['parameters']:,}",
        "precision": results["precision"],
        **task.card(),
        "initial weights": initial or "random",
        "SHA-256 of the weights": weights_sha256,
    }
    rows = "\n".join(f"- **{name}**: {_line(value)}" for name, value in about.items())
    ranges = results.get("intervals", {})
    metrics = "\n".join(
        f"| {split} | {_line(name)} | {_number(value)} | {_range(ranges.get(split, {}).get(name))} |"
        for split, values in results["metrics"].items()
        for name, value in values.items()
    )
    if unseen := results.get("unseen"):
        place = (
            f"{unseen['split']} without {unseen['known']} of {unseen['samples']} trained on before"
        )
        metrics += "".join(
            f"\n| {place} | {_line(name)} | {_number(value)} | |"
            for name, value in unseen["metrics"].items()
        )
    return (
        f"# {task.config.domain}/{task.config.app}\n\n{_line(task.config.summary)}\n\n{rows}\n\n"
        f"## Metrics\n\n    {command}\n\n| split | metric | value | 95 % interval |\n|---|---|---|---|\n{metrics}\n"
    )


def _number(value: float | None) -> str:
    return "" if value is None else format(value, ".6g")


def _range(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"


def _line(text: Any) -> str:
    # Names from a user's data can hold anything; in Markdown, HTML and table bars would be markup.
    return (
        " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    )
