from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from checks import assert_close_named
from isoform.core.ops.ragged import places_of
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import FlowConfig, app_of_size
from isoform.molecules.adit.model import build_model, labels_of

from .structures import LATENT, SIZES, app, batch, born, offsets_of

PER_ATOM = ("numbers", "positions", "fractional")


def encoded(model: Any, tokens: Tokens) -> dict[str, Tensor]:
    posterior = model.encode(tokens)
    decoded = model.decode(tokens.with_x(posterior.mean))
    return {"mean": posterior.mean, "logvar": posterior.logvar, **vars(decoded)}


def noisy(sizes: tuple[int, ...] = SIZES) -> tuple[Tokens, Tensor, Tensor, Tensor]:
    """Latents, times, labels and earlier predictions."""
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(sum(sizes), LATENT, generator=generator)
    previous = torch.randn(sum(sizes), LATENT, generator=generator)
    t_B = torch.rand(len(sizes), generator=generator)
    return Tokens(latents, offsets=offsets_of(sizes)), t_B, labels_of(batch(sizes)), previous


def test_packing_equals_padding() -> None:
    autoencoder = born(app("autoencoder"))
    packed = autoencoder.tokeniser(batch())
    padded = packed.unpad()
    want, got = encoded(autoencoder, packed), encoded(autoencoder, padded)
    got = {n: v[padded.valid] if v.dim() == 3 else v for n, v in got.items()}
    assert_close_named(got, want, atol=1e-5)

    denoiser = born(app("denoiser"))
    latents, t_B, labels, previous = noisy()
    padded = latents.unpad()
    before = latents.with_x(previous).unpad().x
    assert_close_named(
        {"x": denoiser(padded, t_B, labels, before)[padded.valid]},
        {"x": denoiser(latents, t_B, labels, previous)},
        atol=1e-5,
    )


@pytest.mark.parametrize("index", [True, False])
def test_the_order_of_atoms_permutes_the_outputs(index: bool) -> None:
    """With their places, if the model reads any; without `model.index` by themselves."""
    sizes, offsets = SIZES, offsets_of(SIZES)
    shuffled = torch.cat([offsets[b] + torch.randperm(n) for b, n in enumerate(sizes)])
    autoencoder = born(app("autoencoder", index=index))
    first = batch()
    second = {name: v[shuffled] if name in PER_ATOM else v for name, v in first.items()}
    order = places_of(first["offsets"])[shuffled] if index else None
    if order is not None:
        unlike = encoded(autoencoder, autoencoder.tokeniser(second))
        second["order"] = order
    want, got = (encoded(autoencoder, autoencoder.tokeniser(b)) for b in (first, second))
    want = {n: v[shuffled] if len(v) == len(shuffled) else v for n, v in want.items()}
    assert_close_named(got, want, atol=1e-5)
    if index:
        assert (unlike["mean"] - want["mean"]).abs().max() > 1e-3

    denoiser = born(app("denoiser", index=index))
    latents, t_B, labels, previous = noisy()
    moved = replace(latents.with_x(latents.x[shuffled]), order=order)
    assert_close_named(
        {"x": denoiser(moved, t_B, labels, previous[shuffled])},
        {"x": denoiser(latents, t_B, labels, previous)[shuffled]},
        atol=1e-5,
    )


def test_a_structures_latents_do_not_depend_on_its_batch() -> None:
    autoencoder = born(app("autoencoder"))
    together = batch()
    mean = autoencoder.encode(autoencoder.tokeniser(together)).mean
    start, end = together["offsets"][2:4].tolist()
    alone = {name: together[name][start:end] for name in PER_ATOM}
    alone["offsets"] = torch.tensor([0, end - start])
    torch.testing.assert_close(
        autoencoder.encode(autoencoder.tokeniser(alone)).mean,
        mean[start:end],
        atol=1e-5,
        rtol=0,
    )


def test_time_labels_and_the_earlier_prediction_reach_the_denoiser() -> None:
    denoiser = born(app("denoiser"))
    latents, t_B, labels, previous = noisy()
    want = denoiser(latents, t_B, labels, previous)
    others = {
        "time": (latents, t_B / 2, labels, previous),
        "kind": (latents, t_B, labels * torch.tensor([0, 1]), previous),
        "spacegroup": (latents, t_B, labels * torch.tensor([1, 0]), previous),
        "previous": (latents, t_B, labels, None),
    }
    for name, arguments in others.items():
        assert (denoiser(*arguments) - want).abs().max() > 1e-3, name


def test_latents_are_the_posteriors_mean_and_the_first_stage_stays_fixed() -> None:
    model = born(app()).train()
    assert not model.autoencoder.training and model.denoiser.training
    trained = {n.partition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"denoiser"}
    latents = model.latents(batch())
    posterior, decoded = model.autoencoder(batch())
    assert torch.equal(latents.x, posterior.mean) and not latents.x.requires_grad
    structures = decoded.structures(latents.offsets)
    torch.testing.assert_close(structures["positions"][5], torch.zeros(3))  # one atom is centred
    volume = structures["lengths"] / decoded.lengths
    torch.testing.assert_close(volume**3, torch.tensor(SIZES)[:, None].expand(4, 3).float())


def test_scaled_latents_decode_to_the_same_structures() -> None:
    plain, scaled = born(app()), born(app().model_copy(update={"flow": FlowConfig(scale=3.7)}))
    one, other = plain.latents(batch()), scaled.latents(batch())
    torch.testing.assert_close(other.x, 3.7 * one.x)
    torch.testing.assert_close(
        scaled.decode(other).positions, plain.decode(one).positions, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("size", "millions"), [("S", 32.56), ("B", 129.71), ("L", 457.03)])
def test_the_sizes_are_the_official_ones(size: str, millions: float) -> None:
    config = app_of_size(denoiser=size)
    with torch.device("meta"):
        model = build_model(config)
    count = sum(p.numel() for p in model.denoiser.parameters()) / 1e6
    assert abs(count - millions) < 0.01, count


def test_both_forms_of_gelu_can_be_chosen_and_the_one_of_training_is_the_default() -> None:
    config = app("autoencoder")
    assert config.encoder.channel == config.backbone.channel == "gelu_tanh"
    exact = {
        n: getattr(config, n).model_copy(update={"channel": "gelu"}) for n in ("encoder", "decoder")
    }
    model, other = born(config), born(config.model_copy(update=exact))
    difference = model(batch())[1].positions - other(batch())[1].positions
    assert 0 < difference.abs().max() < 0.1
