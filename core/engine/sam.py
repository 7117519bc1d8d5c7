"""Sharpness-aware minimisation: the gradient is taken where the loss is high nearby, and the step made from here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isoform.core.engine.distributed import ALONE, Process
from isoform.core.engine.sharded import part_of, total_norm


class Sam:
    """The climb and the way back of one step (Foret et al. 2021, arXiv:2010.01412, algorithm 1 with p = 2).

        loss(batch).backward();  sam.climb()     w + rho g / |g|, one norm over all parameters
        loss(batch).backward();  sam.back()      w again, bit for bit, with the gradient of up there
        optimizer.step()

    Nothing is kept from one step to the next, so a checkpoint needs none of it. The weights' copy costs as much memory
    as the weights.
    """

    def __init__(self, parameters: Sequence[Tensor], rho: float, process: Process = ALONE) -> None:
        self.parameters, self.rho, self.process = list(parameters), rho, process
        self._start: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def climb(self) -> Tensor:
        """Moves the weights by `rho` along the gradient and clears it; returns the gradient's norm.

        Parameters without a gradient stay. Raises RuntimeError where the last climb hasn't been taken back.
        """
        if self._start:
            raise RuntimeError("two climbs without a way back")
        climbing = [p for p in self.parameters if p.grad is not None]
        norm = total_norm([p.grad for p in climbing if p.grad is not None], self.process)
        moved = [part_of(p) for p in climbing]
        gradients = [p.grad for p in moved if p.grad is not None]
        self._start = [(p, p.detach().clone()) for p in moved]
        up = torch._foreach_mul(gradients, self.rho / (norm + 1e-12))
        torch._foreach_add_(moved, up)
        for p in climbing:
            p.grad = None
        return norm

    @torch.no_grad()
    def back(self) -> None:
        """Puts the weights back where `climb` started; gradients stay."""
        for p, start in self._start:
            p.copy_(start)
        self._start = []
