"""What a run leaves besides its weights: results.json, card.md, and the spread over seeds."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isoform.core.domain import Task
from isoform.core.version import __version__


def environment(device: torch.device) -> dict[str, Any]:
    """What results depend on besides the code; no host name and no path."""
    found: dict[str, Any] = {
        "isoform": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    elif hasattr(torch.cpu, "get_capabilities"):
        found["cpu"] = torch.cpu.get_capabilities().get("cpu_name", "unknown")
    return found


def peak_memory() -> int:
    """The most memory that this process has held, in bytes (VmHWM; elsewhere than on Linux getrusage)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def summarise_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation and values of every metric over the results.json of several seeds.

    {"seeds": n, "metrics": {split: {name: {"mean", "std", "values"}}}}; a metric that a run lacks is left out, and the
    deviation of a single run is 0.
    """
    summary: dict[str, dict[str, Any]] = {}
    splits = [split for split in ("val", "test") if all(split in r["metrics"] for r in results)]
    for split in splits:
        found = [r["metrics"][split] for r in results]
        summary[split] = {}
        for name in found[0]:
            values = [metrics.get(name) for metrics in found]
            if all(value is not None for value in values):
                summary[split][name] = {
                    "mean": statistics.fmean(values),
                    "std": statistics.stdev(values) if len(values) > 1 else 0.0,
                    "values": values,
                }
    return {"seeds": len(results), "metrics": summary}


def beaten_by(task: Task, metrics: Mapping[str, Mapping[str, float]], baselines: Mapping[str, Any]) -> list[str]:
    """The baselines that are better than the model, on the test split's monitored metric (else on validation's)."""
    split = "test" if "test" in metrics else "val"
    mine = metrics.get(split, {}).get(task.monitor)
    if mine is None:
        return []
    sign = 1 if task.monitor_mode == "max" else -1
    theirs = {name: found.get(split, {}).get(task.monitor) for name, found in baselines.items()}
    return [name for name, value in theirs.items() if value is not None and sign * value > sign * mine]


def card(task: Task, results: Mapping[str, Any], *, command: str, weights_sha256: str, initial: str) -> str:
    """card.md: data, licences, metrics with their command, and the hash of the weights."""
    about = {
        "parameters": f"{results['parameters']:,}",
        "precision": results["precision"],
        **task.card(),
        "initial weights": initial or "random",
        "SHA-256 of the weights": weights_sha256,
    }
    rows = "\n".join(f"- **{name}**: {_line(value)}" for name, value in about.items())
    metrics = "\n".join(
        f"| {split} | {_line(name)} | {'' if value is None else format(value, '.6g')} |"
        for split, found in results["metrics"].items()
        for name, value in found.items()
    )
    return (
        f"# {task.config.domain}/{task.config.app}\n\n{_line(task.config.summary)}\n\n{rows}\n\n"
        f"## Metrics\n\n    {command}\n\n| split | metric | value |\n|---|---|---|\n{metrics}\n"
    )


def _line(text: Any) -> str:
    # Names from a user's data can hold anything; in Markdown, HTML and table bars would be markup.
    return " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
