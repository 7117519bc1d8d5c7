from __future__ import annotations

import math

import torch

from checks import assert_close_named
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import FlowConfig, ReconstructionConfig
from isoform.molecules.adit.head import Decoded
from isoform.molecules.adit.losses import (
    denoising_losses,
    flow_loss,
    reconstruction_losses,
    targets_of,
    total,
    weighted,
)
from isoform.molecules.adit.model import Posterior, labels_of

from .structures import LATENT, SIZES, app, batch, born, offsets_of


def told(given: dict[str, torch.Tensor]) -> Decoded:
    """A decoder that is right about everything, but far away: positions are shifted."""
    target = targets_of(given)
    logits = 50.0 * torch.nn.functional.one_hot(target["types"], 19)
    return Decoded(
        logits, target["positions"] + 4, target["fractional"], target["lengths"], target["angles"]
    )


def standard(rows: int) -> Posterior:
    return Posterior(torch.zeros(rows, LATENT), torch.zeros(rows, LATENT))


def test_what_is_right_costs_nothing_wherever_it_lies() -> None:
    given = batch()
    losses = reconstruction_losses(told(given), standard(sum(SIZES)), given)
    assert all(loss.abs().max() < 1e-8 for loss in losses.values()), losses
    assert {name: len(loss) for name, loss in losses.items()} == {
        "types": 15, "positions": 15, "fractional": 15, "lengths": 4, "angles": 4, "kl": 15,
    }  # fmt: skip


def test_targets_have_their_units() -> None:
    given = batch()
    target = targets_of(given)
    back = told(given).structures(given["offsets"])
    assert_close_named(
        {name: back[name] for name in ("numbers", "fractional", "lengths", "angles")},
        {name: given[name] for name in ("numbers", "fractional", "lengths", "angles")},
        atol=1e-4,
    )
    first = given["positions"][:5]
    torch.testing.assert_close(10 * target["positions"][:5], first - first.mean(0))
    assert abs(target["angles"][0, 0] - math.radians(given["angles"][0, 0])) < 1e-6


def test_a_weight_of_0_still_counts_in_the_mean() -> None:
    given = batch()
    wrong = told(given)
    wrong.positions = wrong.positions + torch.randn(15, 3)
    losses = reconstruction_losses(wrong, standard(15), given)
    config = ReconstructionConfig(positions=(0.0, 10.0))
    atoms_of_molecules = torch.tensor([False] * 5 + [True] + [False] * 7 + [True] * 2)
    value = total(weighted(losses, given, config))
    want = 10 * losses["positions"][atoms_of_molecules].sum() / 15
    torch.testing.assert_close(value, want, atol=1e-6, rtol=1e-6)


def test_the_divergence_is_that_of_normal_distributions() -> None:
    posterior = Posterior(torch.randn(5, LATENT), torch.randn(5, LATENT))
    normal = torch.distributions.Normal
    found = torch.distributions.kl_divergence(
        normal(posterior.mean, (posterior.logvar / 2).exp()), normal(0.0, 1.0)
    )
    torch.testing.assert_close(posterior.kl(), found.sum(1))


def test_each_structures_denoising_loss_is_a_mean_over_its_own_atoms() -> None:
    clean = Tokens(torch.randn(15, LATENT), offsets=offsets_of(SIZES))
    guess, t_B = torch.randn(15, LATENT), torch.tensor([0.1, 0.5, 0.9, 0.95])
    parts = ((guess - clean.x) ** 2).split(SIZES)
    weight = (1 - torch.tensor([0.1, 0.5, 0.9, 0.9])) ** -2
    want = torch.stack([part.mean() for part in parts]) * weight
    torch.testing.assert_close(denoising_losses(guess, clean, t_B), want)


def test_the_flow_loss_is_drawn_by_its_generator_and_teaches_every_weight() -> None:
    model = born(app("denoiser"))
    clean = Tokens(torch.randn(15, LATENT), offsets=offsets_of(SIZES))
    labels = labels_of(batch())

    def loss(seed: int, **settings: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return flow_loss(model, clean, labels, FlowConfig(**settings), generator)

    assert torch.equal(loss(3), loss(3)) and not torch.equal(loss(3), loss(4))
    assert not torch.equal(loss(3, self_condition=1), loss(3, self_condition=0))
    loss(3, self_condition=1, label_dropout=0).sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still
