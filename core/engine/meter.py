"""Running means of training metrics, and the watch for NaN, which waits for the device only where it is told to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from isoform.core.engine.distributed import ALONE, Process
from isoform.core.engine.left_out import LeftOut, names_of
from isoform.core.errors import RunError


class Meter:
    """Weighted running means, summed in float64 on the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float) -> None:
        """Scalars that stand for `weight` samples."""
        for name, value in values.items():
            term = value.detach().double() * weight
            if name in self._sums:
                term = self._sums[name] + term
            self._sums[name] = term
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def take(self, process: Process = ALONE) -> dict[str, float]:
        """The means since the last call over all processes, for the main one; and starts again."""
        means = {name: total / weight for name, (total, weight) in self.state(process).items()}
        self._sums = {}
        self._weights = {}
        return means

    def state(self, process: Process = ALONE) -> dict[str, tuple[float, float]]:
        """{NAME: (sum, weight)} over all processes, for the main one; JSON that `load` takes back exactly."""
        mine = {name: (float(total), self._weights[name]) for name, total in self._sums.items()}
        together: dict[str, tuple[float, float]] = {}
        for one in process.collect(mine):
            for name, (total, weight) in one.items():
                before, weighed = together.get(name, (0.0, 0.0))
                together[name] = before + total, weighed + weight
        return together

    def load(self, state: Mapping[str, Sequence[float]], device: torch.device) -> None:
        """The inverse of `state`."""
        self._sums = {}
        self._weights = {}
        for name, (total, weight) in state.items():
            self._sums[name] = torch.tensor(total, dtype=torch.float64, device=device)
            self._weights[name] = weight


class NonFiniteGuard:
    """Watches the loss and the gradient of every step for NaN and infinity.

    train.nonfinite = "stop" ends the run: at once on the CPU, at the next log line on a GPU. "skip" knows before each
    step whether it may be made, and puts back what the forward pass has already changed: buffers such as the running
    statistics of a batch norm.
    """

    def __init__(self, model: nn.Module, left_out: LeftOut, skip: bool, device: torch.device):
        self._left_out, self._skip = left_out, skip
        self._at_once = device.type == "cpu"
        self._pending: list[tuple[int, Sequence[int], Tensor]] = []
        self._buffers = [b for b in model.buffers() if b.is_floating_point()] if skip else []
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Before the forward pass of a step."""
        self._before = [buffer.clone() for buffer in self._buffers]

    def watch(self, step: int, indices: Sequence[int], loss: Tensor, norm: Tensor) -> bool:
        """Whether the optimiser may step: of its samples, their loss and the norm of its gradients.

        Raises RunError as `check`, and after too many steps in a row that may not be made.
        """
        values = torch.stack([loss.float(), norm.float()])
        if not self._skip:
            self._pending.append((step, indices, values))
            if self._at_once:
                self.check()
            return True
        if torch.isfinite(values).all():
            self._left_out.made()
            return True
        with torch.no_grad():
            for buffer, before in zip(self._buffers, self._before, strict=True):
                buffer.copy_(before)
        self._left_out.skipped(step, _what(values), indices)
        return False

    def check(self) -> None:
        """Raises RunError naming the first step whose loss or gradient wasn't finite, and its samples."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        together = torch.stack([values for _, _, values in pending])
        if torch.isfinite(together).all():  # the only wait for the device
            return
        for step, indices, values in pending:
            if not torch.isfinite(values).all():
                shown = names_of(self._left_out.task, indices)
                raise RunError(
                    f"the {_what(values)} at step {step}, training samples {shown}; earlier checkpoints are intact: "
                    "look at these samples, lower train.lr, or set train.clip"
                )


def _what(values: Tensor) -> str:
    loss, norm = values.tolist()
    return f"gradient's norm is {norm}" if math.isfinite(loss) else f"loss is {loss}"
