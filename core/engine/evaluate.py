"""The one evaluation loop, and the evaluation of a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from isoform.core.domain import Domain, Tally, Task
from isoform.core.engine import distributed, loader, precision
from isoform.core.errors import Preempted, UserError
from isoform.core.runs.folder import RunFolder


def evaluate(
    task: Task,
    model: nn.Module,
    split: str,
    *,
    precision_name: str = "fp32",
    device: torch.device | None = None,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics over a whole split, and what the task's tally keeps: by default Task.predict's outputs in sample order.

    The model is used as it stands, in evaluation mode (its mode is put back). Raises UserError for a split that the
    task lacks, Preempted as soon as `stop()` is true.
    """
    size = task.sizes().get(split, 0)
    if not size:
        raise UserError(f"there is no {split} split to evaluate on; the splits are {', '.join(task.sizes()) or 'none'}")
    device = device or next(model.parameters()).device
    keys = [loader.Key(0, i, b) for i, b in enumerate(task.batches(split, task.config.eval.batch, None))]
    # Starting workers costs more than a few batches.
    workers = min(loader.workers_of(task) if workers is None else workers, len(keys) // 4)
    tally = task.tally(split)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            batches = loader.read(task, split, keys, workers=workers)
            for key, batch in zip(keys, batches, strict=True):
                if stop():
                    raise Preempted(f"stopped during the evaluation on {split}")
                with precision.autocast(precision_name, device):
                    predicted = task.predict(model, to_device(batch, device))
                tally.add(key.indices, {name: _array(value) for name, value in predicted.items()})
    finally:
        model.train(training)
    return {name: float(value) for name, value in tally.metrics().items()}, tally.outputs()


class Collect(Tally):
    """Keeps everything, puts it into sample order and lets Task.metrics judge it."""

    def __init__(self, task: Task, split: str) -> None:
        self.task, self.split = task, split
        self.indices: list[int] = []
        self.parts: dict[str, list[np.ndarray]] = {}
        self.joined: dict[str, np.ndarray] | None = None

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See Tally.add."""
        self.joined = None
        self.indices += indices
        for name, value in outputs.items():
            self.parts.setdefault(name, []).append(value)

    def metrics(self) -> dict[str, float]:
        """Task.metrics of the outputs."""
        return self.task.metrics(self.split, self.outputs())

    def outputs(self) -> dict[str, np.ndarray]:
        """Task.predict's outputs, first axis the sample, in sample order."""
        if self.joined is None:
            order = np.argsort(self.indices, kind="stable")
            self.joined = {name: np.concatenate(found)[order] for name, found in self.parts.items()}
            self.indices = [self.indices[i] for i in order]
            self.parts = {name: [value] for name, value in self.joined.items()}  # one copy, not two
        return self.joined


def evaluate_run(
    domain: Domain,
    run_dir: str | Path,
    *,
    split: str = "test",
    data: str | Path | None = None,
    checkpoint: str | int = "best",
) -> dict[str, Any]:
    """Evaluates a run's checkpoint (its average where it has one) on `split` of its own data, or of the data at `data`.

    Computes in the precision that the run's metrics were measured in, and writes predictions.* into the run folder
    (predictions.SPLIT.* of another split, with the name of other data behind it).
    Raises UserError for a folder that isn't a run, an unknown checkpoint, or a domain that can't take other data.
    """
    from isoform.core.config import load_run_config

    run = RunFolder(run_dir)
    config = load_run_config(run.path, domain)
    portable = run.portable()
    if domain.task_of_run is not None:
        task = domain.task_of_run(config, portable, None if data is None else Path(data))
    elif data is None:
        task = domain.task(config)
    else:
        raise UserError(f"{domain.name} can't evaluate a run on other data: leave --data out")
    model = load_model(domain, run, checkpoint=checkpoint)
    device = distributed.this_process().device
    metrics, outputs = evaluate(task, model.to(device), split, precision_name=run.precision())
    stem = "predictions" if split == "test" else f"predictions.{split}"
    task.write_predictions(run.path, split, outputs, stem if data is None else f"{stem}.{Path(data).stem}")
    return {
        "app": config.app,
        "domain": domain.name,
        "split": split,
        "checkpoint": run.step_of(checkpoint),
        "samples": task.sizes()[split],
        "metrics": metrics,
    }


def load_model(domain: Domain, run: RunFolder, *, checkpoint: str | int = "best") -> nn.Module:
    """A run's model in evaluation mode, rebuilt without its data; the averaged weights where the run has them."""
    from isoform.core.config import load_run_config

    model = domain.rebuild(load_run_config(run.path, domain), run.portable())
    load_weights(model, run.load_weights(checkpoint), f"{run.path} (checkpoint {checkpoint})")
    return model.eval()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Strict loading; raises UserError naming the first names that differ."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(f"{source}: the weights don't fit the model of its config.toml: {first}") from error


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor of a batch on `device`."""
    if device.type == "cpu":
        return batch
    return tree_map(lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, batch)


def _array(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
