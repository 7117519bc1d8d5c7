"""Where a run stands: all that a checkpoint holds besides tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class TrainState:
    """Where a run stands: all of its state that isn't a tensor."""

    step: int = 0  # optimiser steps made
    epoch: int = 0  # epochs completed, validation included
    batch: int = 0  # micro-batches of the present epoch done
    best: float | None = None  # the monitored metric of the best validation
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations since the best
    seconds: float = 0.0  # of work, over all stretches of the run
    log_bytes: int = 0  # of metrics.jsonl
    meter: dict[str, tuple[float, float]] = field(default_factory=dict)
    initial: str = ""  # what the weights started from, and its licence
    left_out: dict[str, Any] = field(default_factory=dict)  # samples and steps: LeftOut.state

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> TrainState:
        """What a checkpoint tells of it, where a number that isn't finite is null."""
        state = cls(**told)
        state.best_metrics = {name: _number(value) for name, value in state.best_metrics.items()}
        state.meter = {
            name: (_number(total), weight) for name, (total, weight) in state.meter.items()
        }
        return state


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def surroundings(precision: str) -> dict[str, Any]:
    """What the last bits of a result depend on besides the configuration."""
    threads = torch.get_num_threads()
    return {"threads": threads, "torch": str(torch.__version__), "precision": precision}


def describe_surroundings(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A warning for each of the `surroundings` that differs from a checkpoint's."""
    return [
        f"warning: {what} was {then.get(what)} and is {value}: the result may differ in the last bits"
        for what, value in now.items()
        if then.get(what) != value
    ]
