"""The switches that make a run repeatable, and the seed of one forward pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def seed_forward(seed: int, device: torch.device) -> None:
    """Seeds the generator that dropout on `device` draws from.

    torch.manual_seed seeds every kind of device that there might be, a millisecond that no micro-batch should pay.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic algorithms where torch has them; what the process had set and its random state come back after."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # cuBLAS repeats its sums only with a fixed workspace
    was = torch.get_deterministic_debug_mode()
    deterministic: Any = torch.utils.deterministic
    fill = deterministic.fill_uninitialized_memory
    torch.set_deterministic_debug_mode(
        "warn"
    )  # unlike use_deterministic_algorithms it doesn't import the compiler
    deterministic.fill_uninitialized_memory = False  # a cost of its own, and no part of any result
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_deterministic_debug_mode(was)
        deterministic.fill_uninitialized_memory = fill
