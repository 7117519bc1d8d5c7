"""What a run was trained on, as digests in its folder, and what it is judged on although it knows it.

N samples of a split, D digests of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from isoform.core.data.digests import NOTHING
from isoform.core.domain import MetricAccumulator, Task
from isoform.core.engine.evaluate import evaluate
from isoform.core.errors import join_names

_SHOWN = 12  # metrics in a sentence


@dataclass(frozen=True)
class Unseen:
    """A split judged without the samples that were trained on; no metrics where none is left."""

    split: str
    samples: int
    known: int
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """For results.json and --json."""
        return asdict(self)


def gather(task: Task, before: np.ndarray | None) -> np.ndarray | None:
    """uint64, ascending: what the task trains and validates on, with `before`, which its starting run was trained on.

    None where neither is known.
    """
    found = [] if before is None else [before]
    for split in ("train", "val"):
        digests = task.digests(split) if task.sizes().get(split) else None
        found += [] if digests is None else [digests.ravel()]
    if not found:
        return None
    return np.setdiff1d(np.concatenate(found), np.array([NOTHING], np.uint64))


def find_known(task: Task, split: str, seen: np.ndarray | None) -> np.ndarray | None:
    """bool [N]: which samples of a split share a digest with `seen`; None where that can't be known."""
    digests_ND = None if seen is None else task.digests(split)
    if seen is None or digests_ND is None:
        return None
    return np.asarray(np.isin(digests_ND, seen).any(1))


class Apart(MetricAccumulator):
    """One pass judged twice: as a whole, and without the samples that are `known`."""

    def __init__(self, task: Task, split: str, known: np.ndarray) -> None:
        self.split, self.known = split, known
        self.whole, self.rest = task.accumulator(split), task.accumulator(split)

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        self.whole.add(indices, outputs)
        new = np.flatnonzero(~self.known[np.asarray(indices)]).tolist()
        if new:
            self.rest.add_part(indices, outputs, new)

    def metrics(self) -> dict[str, float]:
        """Of the whole."""
        return self.whole.metrics()

    def outputs(self) -> dict[str, np.ndarray]:
        """Of the whole."""
        return self.whole.outputs()

    def unseen(self) -> Unseen:
        """What is left without the known ones."""
        metrics = {} if self.known.all() else self.rest.metrics()
        named = {name: float(value) for name, value in metrics.items()}
        return Unseen(self.split, len(self.known), int(self.known.sum()), named)


def evaluate_apart(
    task: Task, model: nn.Module, split: str, seen: np.ndarray | None, **options: Any
) -> tuple[dict[str, float], dict[str, np.ndarray], Unseen | None]:
    """See `evaluate`; and the metrics without the samples in `seen`, None where none is there or nothing is known."""
    known = find_known(task, split, seen) if task.sizes().get(split) else None
    if known is None or not known.any():
        return *evaluate(task, model, split, **options), None
    both = Apart(task, split, known)
    return *evaluate(task, model, split, accumulator=both, **options), both.unseen()


def describe_known(task: Task, split: str, known: np.ndarray | None, who: str) -> list[str]:
    """How many samples of a split `who` was trained on, as a sentence; nothing where there are none."""
    if known is None or not known.any():
        return []
    count = f"{known.sum():,} of {len(known):,} {task.items} of {split}"
    return [
        f"{count} are among those that {who} was trained on: {split} is judged without them, too"
    ]


def describe_unseen(task: Task, found: Unseen, who: str) -> str:
    """The metrics without them, as a sentence."""
    if not found.metrics:
        return (
            f"{who} was trained on all {found.samples:,} {task.items} of {found.split}: its metrics say nothing about "
            "new ones"
        )
    named = [f"{name} {value:.4g}" for name, value in found.metrics.items()]
    values = join_names(named, _SHOWN, "  ")
    count = f"{found.known:,} of {found.samples:,} {task.items}"
    return f"{found.split} without {count} that {who} was trained on: {values}"
