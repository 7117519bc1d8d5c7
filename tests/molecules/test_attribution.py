"""Contributions of atoms: they are complete, belong to the atoms and to nothing else, and leave the model alone."""

from __future__ import annotations

import pytest
import torch

from isoform.molecules.atoms import valid_of
from isoform.molecules.attribution import average_atom, contributions, log_odds, vectors

from .batches import MIXED, QM9, batch_of, graphormer, gt, padded, permuted

MODELS = {
    "post": lambda: graphormer(3, spread=0.1),
    "pre": lambda: graphormer(3, spread=0.1, order="pre", final_norm=True),
    "gt": lambda: gt(3, spread=0.2, tokeniser__laplacian=3),
}


def case(name: str):
    laplacian = 3 if name == "gt" else 0
    batch = batch_of(*MIXED, laplacian=laplacian, bonds=name == "gt")
    return MODELS[name](), batch, batch_of(*QM9[4:17], laplacian=laplacian, bonds=name == "gt")


@pytest.mark.parametrize(
    ("name", "within"), [("post", 1e-4), ("pre", 1e-4), ("gt", 0.05)]
)  # ReLU has kinks
def test_contributions_sum_to_what_the_atoms_change(name, within):
    model, batch, others = case(name)
    average = average_atom(model, [others])
    found = contributions(model, batch, average, lambda y: y[:, 1])
    with torch.no_grad():
        want = (
            model(batch)[:, 1] - model({**batch, "perturb": average - vectors(model, batch)})[:, 1]
        )
    assert want.abs().max() > 0.02
    torch.testing.assert_close(found.sum(1), want, atol=within * float(want.abs().max()), rtol=0)
    assert (found[~valid_of(batch)] == 0).all() and (found[valid_of(batch)] != 0).all()


def test_the_average_atom_by_hand():
    model, batch, others = case("post")
    both = [vectors(model, part)[part["valid"]] for part in (batch, others)]
    torch.testing.assert_close(average_atom(model, [batch, others]), torch.cat(both).mean(0))


def test_a_linear_model_by_hand():
    class Linear(torch.nn.Module):
        def __init__(self, tokeniser):
            super().__init__()
            self.tokeniser = tokeniser

        def forward(self, batch):
            x = self.tokeniser.atoms(batch) * batch["valid"][..., None]
            return torch.stack([x.sum((1, 2)), -2 * x[..., 0].sum(1)], 1)

    model, batch, _ = case("post")
    average = torch.linspace(-1, 1, 24)
    found = contributions(Linear(model.tokeniser), batch, average, lambda y: y[:, 1], steps=3)
    want = -2 * (vectors(model, batch) - average)[..., 0] * batch["valid"]
    torch.testing.assert_close(found, want)


def test_an_atom_that_is_the_average_adds_nothing():
    model, batch, _ = case("post")
    found = contributions(model, batch, vectors(model, batch)[0, 3], lambda y: y[:, 0])
    assert found[0, 3].abs() < 1e-7 and found[0, 4].abs() > 1e-4


def test_padding_and_order_of_atoms_change_nothing():
    model, batch, others = case("pre")
    average = average_atom(model, [others])
    found = contributions(model, batch, average, lambda y: y[:, 2])
    torch.testing.assert_close(
        contributions(model, padded(batch, 5), average, lambda y: y[:, 2])[:, : found.shape[1]],
        found,
        atol=1e-5,
        rtol=0,
    )
    index = torch.arange(found.shape[1], dtype=torch.int16).repeat(len(found), 1)
    moved = permuted({**batch, "degree": index})[
        "degree"
    ].long()  # the same drawn order, of the atoms' numbers
    again = contributions(model, permuted(batch), average, lambda y: y[:, 2])
    torch.testing.assert_close(again, found.gather(1, moved), atol=1e-5, rtol=0)


def test_the_model_stays_as_it_was():
    model, batch, _ = case("post")
    model.train()
    first = contributions(model, batch, torch.zeros(24), lambda y: y[:, 0], steps=2)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():  # as during an evaluation
        torch.testing.assert_close(
            contributions(model.eval(), batch, torch.zeros(24), lambda y: y[:, 0], 2), first
        )
    assert not model.training


def test_log_odds_by_hand():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
    found = log_odds(p.log() + 11, torch.tensor([1, 2]))
    torch.testing.assert_close(found, torch.tensor([0.5 / 0.5, 0.2 / 0.8]).log(), atol=1e-5, rtol=0)
