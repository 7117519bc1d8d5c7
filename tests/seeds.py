"""Groups of seeds as `train --seeds` leaves them, for the tests of every domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isoform.core.domain import AnyDomain, Prepared, Task
from isoform.core.engine.train import train
from isoform.core.inference.run_model import evaluate_together
from isoform.core.runs.folder import RunFolder


def train_group(
    domain: AnyDomain, kind: type[Task], prepared: Prepared[Any, Any], folder: Path, seeds: int
) -> Path:
    """The folder of tasks of a `kind` trained with seeds 1 to `seeds`, calibrated and judged together."""
    make: Any = kind
    for seed in range(1, seeds + 1):
        settings = prepared.config.train.model_copy(update={"seed": seed})
        config = prepared.config.model_copy(update={"train": settings})
        run = RunFolder(folder / f"seed-{seed}")
        train(make(config, prepared.data), run, progress=False, say=lambda line: None)
    evaluate_together(domain, RunFolder(folder), prepared)
    return folder
