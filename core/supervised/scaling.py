"""Targets of a regression in units of their spread in training, or in such of their logarithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class TargetScaling:
    """Mean and standard deviation of each of K targets, as float64 Python numbers that JSON and TOML keep exactly.

    log   whether each target is learned as its decimal logarithm, whose mean and std these are then; () if none is
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    log: tuple[bool, ...] = ()

    @classmethod
    def fit(cls, targets_nK: np.ndarray | Tensor, log: Sequence[bool] = ()) -> TargetScaling:
        """Of training targets: the population's deviation, in float64.

        NaN is left out. A target without spread or without labels has the deviation 1, one without labels the mean 0.
        """
        targets_nK = _to_log(torch.as_tensor(targets_nK).double(), log)
        known_nK = ~targets_nK.isnan()
        count_K = known_nK.sum(0).clamp(min=1)
        total_K = torch.where(known_nK, targets_nK, 0).sum(0)
        mean_K = total_K / count_K
        square_nK = torch.where(known_nK, targets_nK - mean_K, 0).square()
        std_K = (square_nK.sum(0) / count_K).sqrt()
        # By the values, as the mean of equal ones may be off by rounding, and so the deviation not 0.
        values_nK = targets_nK.numpy()
        low_K = np.fmin.reduce(values_nK, 0, initial=np.inf)
        high_K = np.fmax.reduce(values_nK, 0, initial=-np.inf)
        std_K = torch.where(torch.from_numpy(low_K < high_K), std_K, 1)
        return cls(tuple(mean_K.tolist()), tuple(std_K.tolist()), tuple(log))

    @classmethod
    def identity(cls, targets: int) -> TargetScaling:
        """Leaves K = `targets` as they are."""
        return cls((0.0,) * targets, (1.0,) * targets)

    @classmethod
    def from_json(cls, stored: Mapping[str, Sequence[float]]) -> TargetScaling:
        """What `to_json` gave."""
        mean = tuple(map(float, stored["mean"]))
        std = tuple(map(float, stored["std"]))
        return cls(mean, std, tuple(map(bool, stored.get("log", ()))))

    def to_json(self) -> dict[str, Any]:
        """{"mean": [K], "std": [K]}, and "log" [K] where a target is learned as its logarithm."""
        log = {"log": list(self.log)} if any(self.log) else {}
        return {"mean": list(self.mean), "std": list(self.std), **log}

    def in_float32(self) -> TargetScaling:
        """The nearest float32 numbers: what a task that computes in float32 uses and stores."""
        mean_K = torch.tensor(self.mean, dtype=torch.float32)
        std_K = torch.tensor(self.std, dtype=torch.float32)
        return TargetScaling(tuple(mean_K.tolist()), tuple(std_K.tolist()), self.log)

    def scale(self, targets: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """[..., K] in the data's units -> scaled, in the targets' dtype.

        Computed in `dtype`: float64 unless told otherwise, as a mean may be thousands of deviations from 0.
        """
        mean_K, std_K = self._tensors(targets.device, dtype)
        scaled = (_to_log(targets.to(dtype), self.log) - mean_K) / std_K
        return scaled.to(targets.dtype)

    def unscale(self, outputs: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """The inverse of `scale`: [..., K] in the data's units, computed and given in `dtype`."""
        mean_K, std_K = self._tensors(outputs.device, dtype)
        found = outputs.to(dtype) * std_K + mean_K
        return (
            torch.where(torch.tensor(self.log, device=outputs.device), 10**found, found)
            if any(self.log)
            else found
        )

    def is_log(self, target: int) -> bool:
        """Whether a target is learned as its decimal logarithm."""
        return bool(self.log) and self.log[target]

    def learned(self, values: np.ndarray) -> np.ndarray:
        """[..., K] in the data's units -> as they are learned, unscaled: the logarithm of those that have one."""
        if not any(self.log):
            return values
        return _to_log(torch.from_numpy(values.astype(np.float64)), self.log).numpy()

    def in_units(self, learned: np.ndarray) -> np.ndarray:
        """The inverse of `learned`."""
        return np.where(self.log, 10**learned, learned) if any(self.log) else learned

    def _tensors(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        mean_K = torch.tensor(self.mean, dtype=dtype, device=device)
        std_K = torch.tensor(self.std, dtype=dtype, device=device)
        return mean_K, std_K


def _to_log(targets: Tensor, log: Sequence[bool]) -> Tensor:
    """[..., K] with the decimal logarithm of the targets that are learned so; NaN where there is none."""
    if not any(log):
        return targets
    return torch.where(torch.tensor(tuple(log), device=targets.device), targets.log10(), targets)
