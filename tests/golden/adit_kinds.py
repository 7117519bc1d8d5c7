"""Adapters of the all-atom diffusion transformer's kinds: a case in, an assertion out.

Padding of the stored tensors holds no meaning here, where structures are packed: it is filled in from the case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checks import assert_close_named, assert_same_bits
from golden.cases import Case
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.head import Decoded
from isoform.molecules.adit.losses import (
    denoising_losses,
    reconstruction_losses,
    targets_of,
    total,
    weighted,
    weights_of,
)
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.official import adit_settings
from isoform.molecules.adit.pretrained import export_official, import_checkpoint
from isoform.molecules.adit.sampler import centred_noise, sample_latents

DESCRIBING = ("structures", "sizes")  # of a case's data
# official -> ours
LOSSES = {"atom_types": "types", "frac_coords": "fractional", "pos": "positions",
          "lengths": "lengths", "angles": "angles", "kl": "kl"}  # fmt: skip


def imported(case: Case, tmp_path: Path, **trunk: Any) -> tuple[AditApp, Any]:
    """The model of a Lightning file of the case's weights, after these came back bit for bit.

    `trunk`: keys of encoder and decoder that are set otherwise.
    """
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": case.weights, "hyper_parameters": {}}, file)
    names = {name: value for name, value in case.config.items() if name not in DESCRIBING}
    settings = adit_settings(names)
    if trunk:
        tables = {n: getattr(settings, n).model_copy(update=trunk) for n in ("encoder", "decoder")}
        settings = settings.model_copy(update=tables)
    found = import_checkpoint(file, None, settings)
    assert_same_bits(export_official(found.config, found.weights, found.state), case.weights)
    model = build_model(found.config)
    model.load_state_dict(dict(found.weights))
    return found.config, model.eval()


def gradients(config: AditApp, model: torch.nn.Module) -> dict[str, Tensor]:
    """Those of every parameter, under the official names."""
    return export_official(config, {n: p.grad for n, p in model.named_parameters()})


def structures(case: Case) -> dict[str, Tensor]:
    """The case's batch."""
    given = case.input
    return {
        "offsets": torch.cat([torch.zeros(1, dtype=torch.long), given["num_atoms"].cumsum(0)]),
        "numbers": given["atom_types"],
        "positions": given["pos"],
        "fractional": given["frac_coords"],
        "lengths": given["lengths"],
        "angles": given["angles"],
        "periodic": given["dataset_idx"] == 0,
        "order": given["token_idx"],
    }


def named(decoded: Decoded, group: str) -> dict[str, Tensor]:
    """What the decoder says, under the case's names."""
    return {
        f"{group}/atom_types": decoded.types,
        f"{group}/frac_coords": decoded.fractional,
        f"{group}/pos": decoded.positions,
        f"{group}/lengths": decoded.lengths,
        f"{group}/angles": decoded.angles,
    }


def both_halves(model: Any, case: Case) -> dict[str, Tensor]:
    """Encoder, posterior, and the decoder of the stored latents."""
    tokens = model.tokeniser(structures(case))
    states = model.encoder(tokens)
    posterior = model.posterior(states)
    decoded = model.decode(tokens.with_x(case.input["latents"]))
    return {
        "encoder_states": states.x,
        "posterior_mean": posterior.mean,
        "posterior_logvar": posterior.logvar,
        **named(decoded, "decoded_latents"),
    }


def adit_vae(case: Case, tmp_path: Path) -> None:
    """States, posterior, what is decoded, every loss and the gradients; and both forms of GELU."""
    config, model = imported(case, tmp_path)
    batch, noise = structures(case), case.input["posterior_noise"]
    targets = targets_of(batch)
    for ours, official in (("lengths", "lengths_scaled"), ("angles", "angles_radians")):
        assert_close_named({ours: targets[ours]}, {ours: case.input[official]}, atol=1e-6)

    posterior, decoded = model(batch, noise)
    plain = reconstruction_losses(decoded, posterior, batch)
    losses = weighted(plain, batch, config.loss)
    output = {
        **both_halves(model, case),
        **named(decoded, "decoded_sample"),
        "posterior_sample": posterior.sample(noise),
        "weighted_loss/loss": total(losses),
    }
    for there, ours in LOSSES.items():
        output[f"unweighted_loss/loss_{there}"] = plain[ours]
        output[f"weighted_loss/loss_{there}"] = losses[ours]
    total(losses).backward()
    case.compare(output=output, grad=gradients(config, model))
    if case.inference:
        _, exact = imported(case, tmp_path, channel="gelu")
        with torch.no_grad():
            case.compare(inference=both_halves(exact, case))


def packed(case: Case, name: str) -> Tensor:
    """[T, ...] the real rows of a stored [B, N, ...]."""
    return case.input[name][case.input["mask"].bool()]


def offsets_of(case: Case) -> Tensor:
    """[B + 1]"""
    return torch.cat([torch.zeros(1, dtype=torch.long), case.input["mask"].long().sum(1).cumsum(0)])


def labels_of(case: Case) -> Tensor:
    """[B, 2] as the denoiser takes them."""
    return torch.stack([case.input["dataset_idx"], case.input["spacegroup"]], dim=1).long()


def filled(case: Case, **rows: Tensor) -> dict[str, Tensor]:
    """Packed rows [..., T, L] in the place of the real ones of the stored outputs."""
    mask = case.input["mask"].bool()
    result = {}
    for name, value in rows.items():
        whole = case.output[name].clone()
        whole[..., mask, :] = value.detach()
        result[name] = whole
    return result


def adit_dit(case: Case, tmp_path: Path) -> None:
    """Predictions with, without self-conditioning and guided, every block, the losses and the gradients."""
    config, model = imported(case, tmp_path)
    labels, offsets, t_B = labels_of(case), offsets_of(case), case.input["t"][:, 0]
    noisy = Tokens(packed(case, "x_t"), offsets=offsets)
    clean = noisy.with_x(packed(case, "x_1"))
    previous = packed(case, "x_sc")
    prediction = model(noisy, t_B, labels, previous)
    each = denoising_losses(prediction, clean, weights_of(t_B, config.flow))
    each.mean().backward()

    taps = list(range(config.backbone.depth))
    _, blocks = model.backbone.tapped(model.tokens(noisy, t_B, labels, previous), taps)
    null = model(noisy, t_B, None, previous)
    assert config.sampling.guidance is not None
    output = filled(
        case,
        pred_with_self_conditioning=prediction,
        pred_without=model(noisy, t_B, labels),
        pred_guided=null + config.sampling.guidance * (prediction - null),
        **{f"block{i}": block for i, block in enumerate(blocks)},
    )
    output |= {"loss_each": each, "loss": each.mean()}
    case.compare(output=output, grad=gradients(config, model))


def adit_flow(case: Case, tmp_path: Path) -> None:
    """The official sampler: noise centred over padding, Euler's steps, every state and prediction on the way."""
    config, model = imported(case, tmp_path)
    sizes = case.input["mask"].long().sum(1).tolist()
    start = centred_noise(case.input["noise"], sizes)
    assert_close_named({"x_0": start}, {"x_0": packed(case, "x_0")}, atol=1e-6)
    seen: list[tuple[Tensor, float, Tensor]] = []
    sample = sample_latents(
        model,
        Tokens(start, offsets=offsets_of(case)),
        labels_of(case),
        config.sampling,
        observe=lambda *parts: seen.append(parts),
    )
    states, times, cleans = zip(*seen, strict=True)
    torch.testing.assert_close(torch.tensor(times), case.input["times"])
    output = filled(
        case,
        trajectory=torch.stack([*states, sample.x]),
        clean_trajectory=torch.stack(cleans),
        sample=sample.x,
    )
    case.compare(output=output)


KINDS = {"adit-vae": adit_vae, "adit-dit": adit_dit, "adit-flow": adit_flow}
