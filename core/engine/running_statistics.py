"""Batch norms' running averages when several processes work on one step: as if one had seen all of its micro-batches.

K micro-batches of a step, F running averages of all batch norms together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from isoform.core.engine.distributed import Process

_MOMENTUM = 0.1  # of a batch norm that names none (core/norms.py)


class RunningStatistics:
    """Keeps what each micro-batch adds to the averages, and adds it in the order of the micro-batches everywhere.

    A forward pass makes r <- (1 - m) r + m s of an average r (Ioffe & Szegedy 2015). What is kept of it is m s, so the
    averages after a step are those of one process but for rounding. One process keeps nothing.
    """

    def __init__(self, model: nn.Module, process: Process) -> None:
        self.process = process
        self.norms = [m for m in model.modules() if process.size > 1 and _averages(m)]
        self._added: dict[int, Tensor] = {}

    @contextmanager
    def set_apart(self, micro: int, counts: bool) -> Iterator[None]:
        """The forward passes of one micro-batch, after which the averages are what they were before.

        `counts`: it is this process that works on it, and not only along with others.
        """
        if not self.norms:
            yield
            return
        before = [[r.clone() for r in _averages(norm)] for norm in self.norms]
        seen = [_seen(norm) for norm in self.norms]
        yield
        row = []
        for norm, old, count in zip(self.norms, before, seen, strict=True):
            averages = _averages(norm)
            moved = any(not new.equal(r) for new, r in zip(averages, old, strict=True))
            times = (_seen(norm) - count) or int(moved)
            kept = (1 - _momentum(norm)) ** times
            row.append(averages[0].new_tensor([times]))
            for new, r in zip(averages, old, strict=True):
                row.append(new - kept * r)
                new.copy_(r)
            if (counter := _counter(norm)) is not None:
                counter.fill_(count)
        if counts:
            self._added[micro] = torch.cat(row).double()

    def merge(self, micros: int) -> None:
        """Adds what the step's `micros` micro-batches brought, whichever process worked on them."""
        if not self.norms:
            return
        width = sum(1 + sum(r.numel() for r in _averages(norm)) for norm in self.norms)
        device = _averages(self.norms[0])[0].device
        added_KF = torch.zeros(micros, width, dtype=torch.float64, device=device)
        for micro, row in self._added.items():
            added_KF[micro] = row
        self._added = {}
        self.process.sum(added_KF)
        for row in added_KF:
            self._add(row)

    def _add(self, row: Tensor) -> None:
        place = 0
        for norm in self.norms:
            times = int(row[place])
            place += 1
            for average in _averages(norm):
                term = row[place : place + average.numel()]
                average.copy_((1 - _momentum(norm)) ** times * average.double() + term)
                place += average.numel()
            if (counter := _counter(norm)) is not None:
                counter.add_(times)


def _averages(module: nn.Module) -> list[Tensor]:
    found = [getattr(module, name, None) for name in ("running_mean", "running_var")]
    return [average for average in found if isinstance(average, Tensor)]


def _counter(norm: nn.Module) -> Tensor | None:
    found = getattr(norm, "num_batches_tracked", None)
    return found if isinstance(found, Tensor) else None


def _seen(norm: nn.Module) -> int:
    counter = _counter(norm)
    return 0 if counter is None else int(counter)


def _momentum(norm: nn.Module) -> float:
    return float(getattr(norm, "momentum", None) or _MOMENTUM)
