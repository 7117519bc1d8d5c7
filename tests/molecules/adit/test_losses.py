from __future__ import annotations

import math

import torch

from checks import assert_close_named
from isoform.core.objectives.flow import Preconditioned, interpolate
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
    weights_of,
)
from isoform.molecules.adit.model import Posterior, build_model, labels_of

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
    found = denoising_losses(guess, clean, weights_of(t_B, FlowConfig()))
    torch.testing.assert_close(found, want)


def test_preconditioned_errors_count_as_the_networks_own() -> None:
    """The same network on the same input: its distance to its target, whatever the time."""
    config = FlowConfig(form="preconditioned", scale=3.0)
    clean = Tokens(3 * torch.randn(15, LATENT), offsets=offsets_of(SIZES))
    t_B, network = torch.tensor([0.02, 0.3, 0.7, 0.99]), torch.randn(15, LATENT)
    level = Preconditioned(clean.per_token(t_B[:, None]), 3.0)
    noisy = interpolate(torch.randn(15, LATENT), clean.x, level.t)
    target = (clean.x - level.clean(noisy, torch.zeros_like(noisy))) / level.out
    found = denoising_losses(level.clean(noisy, network), clean, weights_of(t_B, config))
    want = torch.stack([part.mean() for part in ((network - target) ** 2).split(SIZES)])
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    assert 0.3 < target.std() < 2.0, "of order 1"


def test_a_fresh_preconditioned_denoiser_gives_the_best_linear_guess() -> None:
    """Fresh networks give 0; at time 1 what was seen is what is said."""
    flow = FlowConfig(form="preconditioned", scale=3.0)
    config = app("denoiser").model_copy(update={"flow": flow})
    model = build_model(config)
    seen = Tokens(torch.randn(15, LATENT), offsets=offsets_of(SIZES))
    for t, factor in ((1.0, 1.0), (0.25, 0.25 * 9 / (0.75**2 + 0.75**2)), (0.0, 0.0)):
        times = torch.full((len(SIZES),), t)
        found = model(seen, times, labels_of(batch()))
        torch.testing.assert_close(found, factor * seen.x)
    times = torch.full((len(SIZES),), 0.5)
    moved = born(config)(seen, times, labels_of(batch())) - model(seen, times, labels_of(batch()))
    assert moved.abs().max() > 0.01, "a network that gives more than 0 counts"


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
