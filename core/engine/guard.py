"""The process around a run: the signals that stop it, and the switches that make it repeatable."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C into `requested`; the second does what it always does."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


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
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its sums only with a fixed workspace
    was = torch.get_deterministic_debug_mode()
    deterministic: Any = torch.utils.deterministic
    fill = deterministic.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn")  # unlike use_deterministic_algorithms it doesn't import the compiler
    deterministic.fill_uninitialized_memory = False  # a cost of its own, and no part of any result
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_deterministic_debug_mode(was)
        deterministic.fill_uninitialized_memory = fill
