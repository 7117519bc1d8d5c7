"""FLAG's perturbed passes; the losses themselves are those of every labelled task (core/supervised/losses.py).

N atoms (padded), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from isoform.molecules.atoms import Batch


def flag(
    loss: Callable[[Batch], Mapping[str, Tensor]],
    batch: Batch,
    dim: int,
    *,
    steps: int,
    size: float,
) -> Iterator[dict[str, Tensor]]:
    """FLAG: the passes of one step over perturbed atoms (Kong et al. 2022, arXiv:2010.09891, algorithm 1).

    The atoms' vectors get a perturbation, at first uniform within `size`; each of `steps` passes yields its losses
    divided by their number, waits for their backward pass, and moves the perturbation by `size` along the sign of its
    gradient. For Task.passes; `loss` is of a batch with "perturb" [B, N, dim]. Raises ValueError for no step at all.
    """
    if steps < 1:
        raise ValueError(f"FLAG takes at least one step, got {steps}")
    shape: Sequence[int] = (*batch["atoms"].shape[:2], dim)
    perturb = torch.empty(shape, device=batch["atoms"].device).uniform_(-size, size)
    for _ in range(steps):
        perturb.requires_grad_()
        yield {name: value / steps for name, value in loss({**batch, "perturb": perturb}).items()}
        assert perturb.grad is not None, "the losses of the last pass went through no backward pass"
        perturb = perturb.detach() + size * perturb.grad.sign()
