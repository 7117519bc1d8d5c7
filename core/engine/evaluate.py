"""The one evaluation loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from isoform.core.domain import MetricAccumulator, Task
from isoform.core.engine import loader, precision
from isoform.core.engine.distributed import ALONE, Process
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
    process: Process = ALONE,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics over a whole split, and what the task keeps of it: by default Task.predict's outputs in sample order.

    The model is used as it stands, in evaluation mode (its mode is put back). What it predicts goes to `accumulator`,
    the task's own if None. Several processes predict a batch each at a time; the main one takes them in the order of
    one process and so finds its metrics, which all return, and it alone the outputs. Raises UserError for a split that
    the task lacks, Preempted as soon as `stop()` is true in any of them.
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
    mine = process.share(keys)
    # Starting workers costs more than a few batches.
    workers = min(loader.workers_of(task) if workers is None else workers, len(mine) // 4)
    accumulator = task.accumulator(split) if accumulator is None else accumulator
    training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            closing(loader.read_batches(task, split, mine, workers=workers)) as batches,
        ):
            for start in range(0, len(keys), process.size):
                if process.any(stop()):
                    raise Preempted(
                        f"stopped by a signal during the evaluation on {split}; go on with --resume"
                    )
                together = keys[start : start + process.size]
                outputs: dict[str, np.ndarray] | None = None
                with process.together():
                    if process.rank < len(together):
                        with precision.autocast(precision_name, device):
                            predicted = task.predict(model, to_device(next(batches), device))
                        outputs = {name: array_of(value) for name, value in predicted.items()}
                for key, found in zip(together, process.collect(outputs), strict=False):
                    assert found is not None
                    accumulator.add(key.indices, found)
    finally:
        model.train(training)
    metrics = process.on_main(accumulator.metrics)
    return {name: float(value) for name, value in metrics.items()}, (
        accumulator.outputs() if process.is_main else {}
    )


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
