"""The one evaluation loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from isoform.core.domain import MetricAccumulator, Task
from isoform.core.engine import loader, precision
from isoform.core.errors import Preempted, UserError


def evaluate(
    task: Task,
    model: nn.Module,
    split: str,
    *,
    precision_name: str = "fp32",
    device: torch.device | None = None,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    accumulator: MetricAccumulator | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics over a whole split, and what the task keeps of it: by default Task.predict's outputs in sample order.

    The model is used as it stands, in evaluation mode (its mode is put back). What it predicts goes to `accumulator`,
    the task's own if None. Raises UserError for a split that the
    task lacks, Preempted as soon as `stop()` is true.
    """
    size = task.sizes().get(split, 0)
    if not size:
        raise UserError(
            f"there is no {split} split to evaluate on; the splits are {', '.join(task.sizes()) or 'none'}"
        )
    device = device or next(model.parameters()).device
    keys = [
        loader.BatchKey(0, i, b)
        for i, b in enumerate(task.batches(split, task.config.eval.batch, None))
    ]
    # Starting workers costs more than a few batches.
    workers = min(loader.workers_of(task) if workers is None else workers, len(keys) // 4)
    accumulator = task.accumulator(split) if accumulator is None else accumulator
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            batches = loader.read_batches(task, split, keys, workers=workers)
            for key, batch in zip(keys, batches, strict=True):
                if stop():
                    raise Preempted(f"stopped during the evaluation on {split}")
                with precision.autocast(precision_name, device):
                    predicted = task.predict(model, to_device(batch, device))
                accumulator.add(
                    key.indices, {name: array_of(value) for name, value in predicted.items()}
                )
    finally:
        model.train(training)
    return {
        name: float(value) for name, value in accumulator.metrics().items()
    }, accumulator.outputs()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Strict loading; raises UserError naming the first names that differ."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(
            f"{source}: the weights don't fit the model of its config.toml: {first}"
        ) from error


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor of a batch on `device`."""
    if device.type == "cpu":
        return batch
    return tree_map(
        lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, batch
    )


def array_of(value: Tensor) -> np.ndarray:
    """On the CPU; halves as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
