"""Muon: the momentum of a block's matrices, made orthogonal, is their step; all other parameters move by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the factor 0.2 sqrt(max(rows, columns)) of Liu et al. 2025
(arXiv:2502.16982), by which a step is as long as AdamW's: one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MOMENTUM = 0.95
STEPS = 5
# Of the quintic whose repetition brings every singular value near 1, as published.
A, B, C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Groups with "orthogonal" true hold matrices [R, C] and move by Muon, the others by AdamW.

    The state of a matrix is "momentum_buffer", of another parameter what torch.optim.AdamW keeps.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], lr: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients; `closure` is not called."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in moved]
            if group["orthogonal"]:
                self._orthogonal(moved, gradients, group)
            elif moved:
                self._adamw(moved, gradients, group)

    def _orthogonal(
        self, matrices: list[Tensor], gradients: list[Tensor], group: Mapping[str, Any]
    ) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for matrix, gradient in zip(matrices, gradients, strict=True):
            momentum = self._kept(matrix, "momentum_buffer")
            momentum.lerp_(gradient, 1 - MOMENTUM)
            update = gradient.lerp(momentum, MOMENTUM)  # Nesterov's
            by_shape.setdefault(matrix.shape, []).append((matrix, update))
        for shape, pairs in by_shape.items():
            steps = orthogonal(torch.stack([update for _, update in pairs]))
            length = 0.2 * max(shape) ** 0.5 * group["lr"]
            for (matrix, _), step in zip(pairs, steps, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(step, alpha=length)

    def _adamw(
        self, parameters: list[Tensor], gradients: list[Tensor], group: Mapping[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            gradients,
            [self._kept(p, "exp_avg") for p in parameters],
            [self._kept(p, "exp_avg_sq") for p in parameters],
            [],
            [self._kept(p, "step", ()) for p in parameters],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )

    def _kept(self, parameter: Tensor, kind: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor of the parameter's state, zeros the first time; of its shape if None."""
        state = self.state[parameter]
        if kind not in state:
            state[kind] = parameter.new_zeros(parameter.shape if shape is None else shape)
        kept: Tensor = state[kind]
        return kept


def orthogonal(x_NRC: Tensor) -> Tensor:
    """Matrices of the same singular vectors, with values near 1 (0.7 to 1.2), by Newton and Schulz's method."""
    tall = x_NRC.shape[-2] > x_NRC.shape[-1]
    x = x_NRC.mT if tall else x_NRC
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x
