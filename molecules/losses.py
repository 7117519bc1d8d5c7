"""What training minimises: per-label losses that skip missing labels, scaled targets, and FLAG's perturbed passes.

B molecules, N atoms (padded), D features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.molecules.atoms import Batch

LABEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda y, target: (y - target).abs(),
    "mse": lambda y, target: (y - target).square(),
    "huber": lambda y, target: F.smooth_l1_loss(y, target, reduction="none"),
    "bce": lambda y, target: F.binary_cross_entropy_with_logits(y, target, reduction="none"),
}


def label_loss(kind: str, outputs_BK: Tensor, targets_BK: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean over all labels that are there of "l1", "mse", "huber" (bend at 1) or, of logits, "bce".

    A missing label is NaN; it counts for nothing, and a batch without any label gives 0 and no gradient. `weight`
    weighs molecules [B] or labels [B, K]. Raises ValueError for another name and for shapes that differ.
    """
    if kind not in LABEL_LOSSES:
        raise ValueError(f"no loss is called {kind!r}; there are {', '.join(LABEL_LOSSES)}")
    if outputs_BK.shape != targets_BK.shape:
        raise ValueError(f"outputs {list(outputs_BK.shape)} and targets {list(targets_BK.shape)} differ in shape")
    known = ~targets_BK.isnan()
    counts = known.to(outputs_BK.dtype)
    if weight is not None:
        counts = counts * (weight if weight.dim() == 2 else weight[:, None]).to(outputs_BK.dtype)
    # Missing targets are replaced before the loss: NaN times a weight of 0 is NaN, in the gradient too.
    losses = LABEL_LOSSES[kind](outputs_BK, torch.where(known, targets_BK, 0).to(outputs_BK.dtype))
    return (losses * counts).sum() / _nonzero(counts.sum())


def class_loss(
    outputs_BC: Tensor, classes_B: Tensor, weight_B: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """The mean cross-entropy of logits over the molecules whose class is known; a missing one is negative."""
    losses = F.cross_entropy(outputs_BC, classes_B.clamp(min=0), reduction="none", label_smoothing=smoothing)
    weight = (classes_B >= 0).to(losses.dtype)
    if weight_B is not None:
        weight = weight * weight_B.to(losses.dtype)
    return (losses * weight).sum() / _nonzero(weight.sum())


def _nonzero(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, 1)


@dataclass(frozen=True)
class Scaling:
    """Targets by mean and standard deviation, one of each a target, as float64 Python numbers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fitted(cls, targets_nK: Tensor) -> Scaling:
        """Of training targets [n, K]; NaN is left out, and a target without spread or labels is not scaled."""
        targets = targets_nK.double()
        known = ~targets.isnan()
        count = known.sum(0).clamp(min=1)
        filled = torch.where(known, targets, 0)
        mean = filled.sum(0) / count
        std = (torch.where(known, targets - mean, 0).square().sum(0) / count).sqrt()
        return cls(tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1).tolist()))

    @classmethod
    def none(cls, targets: int) -> Scaling:
        """The identity."""
        return cls((0.0,) * targets, (1.0,) * targets)

    def scaled(self, targets_BK: Tensor) -> Tensor:
        """[..., K] in the data's units -> scaled; float64 inside, as a mean may be thousands of deviations large."""
        mean, std = (torch.tensor(v, dtype=torch.float64, device=targets_BK.device) for v in (self.mean, self.std))
        return ((targets_BK.double() - mean) / std).to(targets_BK.dtype)

    def units(self, outputs_BK: Tensor) -> Tensor:
        """The inverse of `scaled`, float64."""
        mean, std = (torch.tensor(v, dtype=torch.float64, device=outputs_BK.device) for v in (self.mean, self.std))
        return outputs_BK.double() * std + mean


def flag(
    loss: Callable[[Batch], Mapping[str, Tensor]], batch: Batch, dim: int, *, steps: int, size: float
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
