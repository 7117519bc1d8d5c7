"""Losses by hand, missing labels, scaled targets, and the passes of FLAG."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isoform.molecules.losses import LABEL_LOSSES, Scaling, class_loss, flag, label_loss

from .batches import MIXED, batch_of, graphormer

NAN = math.nan
OUTPUTS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.0]])


@pytest.mark.parametrize(
    ("kind", "target", "want"),
    [
        ("l1", [[0.0, -2.0], [NAN, 1.0], [1.0, NAN]], (1 + 0 + 2 + 3) / 4),
        ("mse", [[0.0, -2.0], [NAN, 1.0], [1.0, NAN]], (1 + 0 + 4 + 9) / 4),
        ("huber", [[0.0, -2.5], [NAN, 1.0], [1.0, NAN]], (0.5 + 0.125 + 1.5 + 2.5) / 4),
        ("bce", [[1.0, NAN], [NAN, NAN], [NAN, 0.0]], (math.log(1 + math.exp(-1)) + math.log(2)) / 2),
    ],
)
def test_means_over_the_labels_that_are_there(kind: str, target: list, want: float) -> None:
    assert float(label_loss(kind, OUTPUTS, torch.tensor(target))) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("kind", LABEL_LOSSES)
def test_a_missing_label_counts_for_nothing(kind: str) -> None:
    target = torch.tensor([[0.25, NAN], [NAN, 0.75], [NAN, NAN]])
    out = OUTPUTS.clone().requires_grad_()
    label_loss(kind, out, target).backward()
    assert out.grad[target.isnan()].eq(0).all() and out.grad[~target.isnan()].ne(0).all()
    assert out.grad.isfinite().all()
    nothing = label_loss(kind, out, torch.full_like(target, NAN))
    assert float(nothing) == 0 and torch.autograd.grad(nothing, out)[0].eq(0).all()


def test_molecules_have_weights() -> None:
    target = torch.tensor([[0.0, NAN], [0.5, 1.0], [NAN, NAN]])
    weight = torch.tensor([3.0, 1.0, 7.0])
    assert float(label_loss("l1", OUTPUTS, target, weight)) == pytest.approx((3 * 1 + 0 + 2) / 5)
    classes = torch.tensor([1, -1, 0])
    parts = torch.nn.functional.cross_entropy(OUTPUTS, classes.clamp(min=0), reduction="none")
    assert float(class_loss(OUTPUTS, classes, weight)) == pytest.approx(float((3 * parts[0] + 7 * parts[2]) / 10))


def test_missing_classes_are_negative() -> None:
    out = OUTPUTS.clone().requires_grad_()
    loss = class_loss(out, torch.tensor([1, -1, 0]))
    loss.backward()
    assert float(loss) == pytest.approx((math.log(1 + math.exp(3)) + math.log(1 + math.exp(-4))) / 2, rel=1e-5)
    assert out.grad[1].eq(0).all() and out.grad[0].ne(0).all()
    assert float(class_loss(out, torch.tensor([-1, -1, -1]))) == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no loss is called 'l3'; there are l1, mse, huber, bce"):
        label_loss("l3", OUTPUTS, OUTPUTS)
    with pytest.raises(ValueError, match=r"outputs \[3, 2\] and targets \[3\] differ"):
        label_loss("l1", OUTPUTS, torch.zeros(3))


def test_scaling_by_hand() -> None:
    """The population's standard deviation; no labels and no spread leave a target as it is, but for its mean."""
    targets = torch.tensor([[1.0, NAN, 5.0], [3.0, NAN, 5.0], [NAN, NAN, 5.0], [5.0, NAN, 5.0]])
    scaling = Scaling.fitted(targets)
    assert scaling.mean == (3.0, 0.0, 5.0) and scaling.std == pytest.approx((math.sqrt(8 / 3), 1.0, 1.0))
    scaled = scaling.scaled(targets)
    assert scaled[:, 2].eq(0).all() and scaled.isnan().equal(targets.isnan())
    assert Scaling.none(3).scaled(targets).nan_to_num(7).equal(targets.nan_to_num(7))


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=9), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)
)  # fmt: skip
def test_scaling_and_back(values: list[float], mean: float, std: float) -> None:
    scaling = Scaling((mean,), (std,))
    targets = torch.tensor(values, dtype=torch.float64)[:, None]
    torch.testing.assert_close(scaling.units(scaling.scaled(targets)), targets, atol=1e-9 * (1 + abs(mean)), rtol=1e-9)


def test_a_far_mean_costs_no_digits() -> None:
    """QM9's energies lie thousands of deviations from zero: in float32 the difference must not be what is left."""
    targets = torch.tensor([[-10931.25], [-10931.5]])
    scaled = Scaling((-10931.0,), (0.125,)).scaled(targets)
    assert scaled.tolist() == [[-2.0], [-4.0]]


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
    assert torch.equal(run_flag(1, 0.25, weight)[0], first[0]), "drawn from torch's generator, which the engine seeds"


def test_flag_trains_on_the_mean_of_its_passes() -> None:
    """The gradients add up to the mean over the passes, each at its own perturbation."""
    model, batch = graphormer(spread=0.4).double(), batch_of(*MIXED)
    target = torch.randn(len(MIXED), 3, dtype=torch.float64)
    seen = []

    def loss(given: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(given["perturb"].detach())
        return {"loss": label_loss("mse", model({**given, "perturb": given["perturb"].double()}), target)}

    measured = [float(parts["loss"].detach()) for parts in _through(flag(loss, batch, 24, steps=3, size=0.01))]
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    whole = sum(label_loss("mse", model({**batch, "perturb": p.double()}), target) for p in seen) / 3
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
