"""train.probe: a model's last layer fitted to what its frozen trunk makes of the samples, without training steps.

Features of training and validation are computed once, without augmentation. By L-BFGS with a line search (Liu and
Nocedal 1989) the task's own loss over all samples at once is minimised, plus the layer's squared weights over 2 C n, on
features of mean 0 and deviation 1; the strength C is chosen on validation (as Kornblith et al. 2019 fit linear
classifiers to frozen features).

n samples, D features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isoform.core.domain import Batch, LastLayer, Task
from isoform.core.engine import loader, precision
from isoform.core.engine.evaluate import array_of, to_device
from isoform.core.errors import Preempted

STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
    10.0,
)  # C, from the strongest regularisation to the weakest
USUAL = 1.0  # without validation
ITERATIONS = 300
LEAST_DEVIATION = 1e-6  # is added to every feature's


@dataclass(frozen=True)
class Fitted:
    """The layer by one strength: weight [K, D] and bias [K] on the trunk's own features, and metrics on validation."""

    strength: float
    metrics: dict[str, float]
    weight: Tensor
    bias: Tensor

    def worth(self, monitor: str, mode: str) -> tuple[float, float]:
        """What validation says of it, more is better; where the monitored metric is as good, by the loss."""
        value, loss = (self.metrics.get(name, math.nan) for name in (monitor, "loss"))
        pair = (value if mode == "max" else -value), -loss
        first, second = (-math.inf if math.isnan(one) else one for one in pair)
        return first, second

    def put_into(self, layer: nn.Linear) -> None:
        """Makes it the layer of a model."""
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)


@dataclass(frozen=True)
class _Split:
    """A split's samples in one batch, the features in the place of what the trunk reads."""

    indices: list[int]
    batch: dict[str, Tensor]


def fit(
    task: Task, last: LastLayer, precision_name: str, stop: Callable[[], bool]
) -> Iterator[Fitted]:
    """The layer of each strength, in their order; without validation of the usual one alone, and without metrics.

    Raises Preempted as soon as `stop()` is true.
    """
    splits = [split for split in ("train", "val") if task.sizes().get(split)]
    read = {split: _read(task, last, split, precision_name, stop) for split in splits}
    features_nD = read["train"].batch[last.name]
    mean_D = features_nD.mean(0)
    std_D = features_nD.std(0, correction=0) + LEAST_DEVIATION
    for one in read.values():
        one.batch[last.name] = (one.batch[last.name] - mean_D) / std_D
    outputs, width = last.layer.weight.shape
    layer = nn.Linear(width, outputs).to(features_nD.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    for strength in STRENGTHS if "val" in read else (USUAL,):
        if stop():
            raise Preempted("stopped while the probe was fitted; --resume starts it again")
        _minimise(task, layer, read["train"], strength)
        with torch.no_grad():
            metrics = _judge(task, layer, read["val"]) if "val" in read else {}
            weight_KD = layer.weight / std_D
            yield Fitted(strength, metrics, weight_KD, layer.bias - weight_KD @ mean_D)


def _read(
    task: Task, last: LastLayer, split: str, precision_name: str, stop: Callable[[], bool]
) -> _Split:
    """The features of a split, as evaluation sees its samples."""
    plan = task.batches(split, task.config.eval.batch, None)
    keys = [loader.BatchKey(0, i, indices) for i, indices in enumerate(plan)]
    workers = min(loader.workers_of(task), len(keys) // 4)
    parts: list[dict[str, Tensor]] = []
    device = last.layer.weight.device
    with torch.no_grad():
        for batch in loader.read_batches(task, split, keys, workers=workers):
            if stop():
                raise Preempted(f"stopped among the features of {split}; --resume starts again")
            parts.append(_with_features(last, to_device(batch, device), precision_name))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return _Split([index for key in keys for index in key.indices], joined)


def _with_features(last: LastLayer, batch: Batch, precision_name: str) -> dict[str, Tensor]:
    with precision.autocast(precision_name, last.layer.weight.device):
        features_nD = last.features(batch)
    return {**batch, last.name: features_nD.float()}


def _minimise(task: Task, layer: nn.Linear, train: _Split, strength: float) -> None:
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def penalised() -> Tensor:
        optimizer.zero_grad()
        penalty = layer.weight.square().sum() / (2 * strength * len(train.indices))
        loss = task.loss(layer, train.batch)["loss"] + penalty
        loss.backward()
        return loss

    optimizer.step(penalised)


def _judge(task: Task, layer: nn.Linear, val: _Split) -> dict[str, float]:
    predicted = task.predict(layer, val.batch)
    accumulator = task.accumulator("val")
    accumulator.add(val.indices, {name: array_of(value) for name, value in predicted.items()})
    return {name: float(value) for name, value in accumulator.metrics().items()}
