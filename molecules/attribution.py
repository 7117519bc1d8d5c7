"""What each atom contributes to a prediction: integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365).

B molecules, N atoms (padded), D features of an atom's vector, K outputs.

The way begins where all atoms have the same vector, the mean of many molecules' atoms: the same graph with the average
atom in every place. Contributions sum to what is predicted minus what is predicted there, which of Graphormer's is
nearly the same for all molecules: attention over equal vectors gives that vector, whatever the bonds. What stays as it
is, bonds and descriptors beside the graph, gets no share.
Zero vectors, the usual beginning, are none here: the norm of the tokens maps c x to the same vector for all c > 0, so
that the whole way would be one step at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from isoform.molecules.atoms import Batch, valid_of

STEPS = 32  # of the quadrature: trained models need them, and ReLU's kinks (family gt) leave some hundredths even so


def vectors(model: nn.Module, batch: Batch) -> Tensor:
    """[B, N, D] of all atoms, without gradients."""
    with torch.no_grad():
        found: Tensor = cast(Any, model).tokeniser.atoms(
            {k: v for k, v in batch.items() if k != "perturb"}
        )
    return found


def average_atom(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """[D], the mean vector of all atoms of some molecules; at least one."""
    sums, count = None, 0
    for batch in batches:
        mine = vectors(model, batch)[valid_of(batch)]
        sums = mine.double().sum(0) if sums is None else sums + mine.double().sum(0)
        count += len(mine)
    assert sums is not None, "no molecule to average over"
    return (sums / count).float()


def contributions(
    model: nn.Module,
    batch: Batch,
    average_D: Tensor,
    output: Callable[[Tensor], Tensor],
    steps: int = STEPS,
) -> Tensor:
    """[B, N] contributions of atoms to `output` (the model's [B, K] -> [B]), 0 for padding.

    They sum to output(model) minus its value where every atom is `average_D`, but for the error of a Gauss-Legendre
    quadrature of `steps` points. The model is used in evaluation mode, and is left as it was.
    """
    away_BND = (average_D - vectors(model, batch)) * valid_of(batch)[..., None]
    points, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(away_BND)
    training = model.training
    model.eval()
    try:
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            perturb = (float(point) * away_BND).requires_grad_()
            with torch.enable_grad():
                value = output(model({**batch, "perturb": perturb}).float()).sum()
                (gradient,) = torch.autograd.grad(value, perturb)
            total += float(weight) * gradient
    finally:
        model.train(training)
    return -(total * away_BND).sum(-1)


def log_odds(outputs_BC: Tensor, classes_B: Tensor) -> Tensor:
    """[B] of one class against all others, from logits."""
    mine = outputs_BC.gather(1, classes_B[:, None])
    others = outputs_BC.scatter(1, classes_B[:, None], -torch.inf)
    return mine[:, 0] - others.logsumexp(1)
