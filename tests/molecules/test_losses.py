"""The passes of FLAG."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from isoform.core.supervised.losses import label_loss
from isoform.molecules.losses import flag

from .batches import MIXED, batch_of, graphormer


def run_flag(steps: int, size: float, weight: Tensor) -> list[Tensor]:
    """The perturbations of a loss that is linear in them, all backward passes gone through."""
    seen = []

    def loss(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(batch["perturb"].detach().clone())
        return {"loss": (batch["perturb"] * weight).sum(), "other": torch.ones(())}

    for losses in flag(loss, {"atoms": torch.zeros(2, 3, 9)}, 5, steps=steps, size=size):
        assert float(losses["other"]) == pytest.approx(1 / steps)
        losses["loss"].backward()
    return seen


def test_flag_climbs_along_the_sign() -> None:
    weight = torch.randn(2, 3, 5)
    seen = run_flag(3, 0.25, weight)
    assert len(seen) == 3 and seen[0].abs().max() <= 0.25 and seen[0].std() > 0.1
    for before, after in pairwise(seen):
        torch.testing.assert_close(after, before + 0.25 * weight.sign())
    torch.manual_seed(0)
    first = run_flag(1, 0.25, weight)
    torch.manual_seed(0)
    assert torch.equal(run_flag(1, 0.25, weight)[0], first[0]), (
        "drawn from torch's generator, which the engine seeds"
    )


def test_flag_trains_on_the_mean_of_its_passes() -> None:
    """The gradients add up to the mean over the passes, each at its own perturbation."""
    model, batch = graphormer(spread=0.4).double(), batch_of(*MIXED)
    target = torch.randn(len(MIXED), 3, dtype=torch.float64)
    seen = []

    def loss(given: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(given["perturb"].detach())
        return {
            "loss": label_loss(
                "mse", model({**given, "perturb": given["perturb"].double()}), target
            )
        }

    measured = [
        float(parts["loss"].detach())
        for parts in _through(flag(loss, batch, 24, steps=3, size=0.01))
    ]
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    whole = (
        sum(label_loss("mse", model({**batch, "perturb": p.double()}), target) for p in seen) / 3
    )
    whole.backward()
    assert sum(measured) == pytest.approx(float(whole), rel=1e-9) and measured[0] < measured[2]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-12, rtol=1e-9)


def _through(passes):
    for parts in passes:
        parts["loss"].backward()
        yield parts


def test_flag_takes_a_step() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        next(flag(lambda batch: {}, {"atoms": torch.zeros(1, 1, 1)}, 3, steps=0, size=0.1))
