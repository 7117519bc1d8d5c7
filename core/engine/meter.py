"""Running means of training metrics, and the watch for NaN, both without waiting for the device at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

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

    def take(self) -> dict[str, float]:
        """The means since the last call, and starts again."""
        means = {name: total / weight for name, (total, weight) in self.state().items()}
        self._sums = {}
        self._weights = {}
        return means

    def state(self) -> dict[str, tuple[float, float]]:
        """{NAME: (sum, weight)}, JSON that `load` takes back exactly."""
        return {name: (float(total), self._weights[name]) for name, total in self._sums.items()}

    def load(self, state: Mapping[str, Sequence[float]], device: torch.device) -> None:
        """The inverse of `state`."""
        self._sums = {}
        self._weights = {}
        for name, (total, weight) in state.items():
            self._sums[name] = torch.tensor(total, dtype=torch.float64, device=device)
            self._weights[name] = weight


class NonFiniteGuard:
    """Stops a run whose loss or gradient is NaN or infinite: at once on the CPU, at the next log line on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._pending: list[tuple[int, Sequence[int], Tensor]] = []

    def watch(self, step: int, indices: Sequence[int], loss: Tensor, norm: Tensor) -> None:
        """Remembers one optimiser step: its samples, its loss and the norm of its gradients."""
        self._pending.append((step, indices, torch.stack([loss.float(), norm.float()])))
        if self._at_once:
            self.check()

    def check(self) -> None:
        """Raises RunError naming the first step whose loss or gradient wasn't finite, and its samples."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        together = torch.stack([values for _, _, values in pending])
        if torch.isfinite(together).all():  # the only wait for the device
            return
        for step, indices, values in pending:
            loss, norm = values.tolist()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"gradient's norm is {norm}" if math.isfinite(loss) else f"loss is {loss}"
                shown = ", ".join(map(str, indices[:64]))
                if len(indices) > 64:
                    shown += ", ..."
                raise RunError(
                    f"the {what} at step {step}, training samples {shown}; earlier checkpoints are intact: "
                    "look at these samples, lower train.lr, or set train.clip"
                )
