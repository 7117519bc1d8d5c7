"""What both stages minimise. B structures, T atoms of all of them, L latent features, C kinds of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from isoform.core.objectives.flow import (
    Preconditioned,
    draw_times,
    drop_labels,
    first_guess,
    interpolate,
    time_weights,
)
from isoform.core.ops.ragged import centred, mean_by_sample, samples_of
from isoform.core.supervised.losses import class_losses
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import FlowConfig, ReconstructionConfig
from isoform.molecules.adit.head import NANOMETRE, Decoded
from isoform.molecules.adit.model import Adit, Denoiser, Posterior
from isoform.molecules.adit.tokeniser import Batch

OF_STRUCTURES = ("lengths", "angles")  # the other losses have an entry an atom


def targets_of(batch: Batch) -> dict[str, Tensor]:
    """What `Decoded` should say of a batch, in its units; positions are centred on their own mean."""
    offsets = batch["offsets"]
    lengths = batch["lengths"]
    atoms = offsets.diff().to(lengths.dtype)
    return {
        "types": batch["numbers"].long(),
        "positions": centred(batch["positions"] / NANOMETRE, offsets),
        "fractional": batch["fractional"],
        "lengths": lengths / atoms[:, None] ** (1 / 3),
        "angles": batch["angles"] * (math.pi / 180),
    }


def reconstruction_losses(
    decoded: Decoded, posterior: Posterior, batch: Batch
) -> dict[str, Tensor]:
    """Each loss of each atom [T] or, of the lattice, structure [B], without its weight.

    Cross-entropy of the elements; squared errors, a mean over three numbers each; divergence of the posterior.
    Predicted positions are centred as their targets are, so that a shift costs nothing.
    """
    target = targets_of(batch)
    said = {
        "positions": centred(decoded.positions, batch["offsets"]),
        "fractional": decoded.fractional,
        "lengths": decoded.lengths,
        "angles": decoded.angles,
    }
    losses = {"types": class_losses("ce", decoded.types, target["types"])}
    losses |= {name: ((value - target[name]) ** 2).mean(-1) for name, value in said.items()}
    losses["kl"] = posterior.kl()
    return losses


def weighted(
    losses: Mapping[str, Tensor], batch: Batch, config: ReconstructionConfig
) -> dict[str, Tensor]:
    """The losses times the weights of crystals and molecules, [T] or [B] as they were."""
    result = {}
    for name, loss in losses.items():
        by_kind = loss.new_tensor(getattr(config, name))
        weight = by_kind[(~batch["periodic"]).long()]
        if name not in OF_STRUCTURES:
            weight = weight[samples_of(batch["offsets"])]
        result[name] = loss * weight
    return result


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of the means over all atoms, or all structures, of a batch: those of weight 0 count in the divisor.

    As in the official code; a loss of crystals alone therefore fades with the share of molecules in a batch.
    """
    return torch.stack([loss.mean() for loss in losses.values()]).sum()


def denoising_losses(prediction: Tensor, clean: Tokens, weight_B: Tensor) -> Tensor:
    """[B] the mean squared error of each structure's latents [T, L] times its weight."""
    assert clean.offsets is not None
    error_T = ((prediction - clean.x) ** 2).mean(-1)
    return mean_by_sample(error_T, clean.offsets) * weight_B


def weights_of(t_B: Tensor, config: FlowConfig) -> Tensor:
    """[B] what the errors at these times count, so that what the network itself gives is of like weight at all."""
    if config.form == "preconditioned":
        return Preconditioned(t_B, config.scale).out ** -2
    return time_weights(t_B, config.cap)


def flow_loss(
    model: Denoiser | Adit,
    clean: Tokens,
    labels_BC: Tensor,
    config: FlowConfig,
    generator: torch.Generator | None = None,
    *,
    evenly: bool = False,
) -> Tensor:
    """[B] the flow-matching losses of packed latents [T, L], at times, from noise and with labels drawn here.

    generator   a CPU generator, so that every device draws the same; torch's global one if None
    evenly      every batch passes through the network as often, whether or not it is told its own guess
    """
    assert clean.offsets is not None
    device, dtype = clean.x.device, clean.x.dtype
    noise = torch.randn(clean.x.shape, generator=generator).to(device, dtype)
    times = draw_times(clean.batch, config.earliest, config.latest, generator)
    t_B = times.to(device, dtype)
    told = drop_labels(labels_BC, config.label_dropout, generator)
    x_0 = centred(noise, clean.offsets)
    noisy = clean.with_x(interpolate(x_0, clean.x, clean.per_token(t_B[:, None])))
    previous = first_guess(
        lambda: model(noisy, t_B, told),
        config.self_condition,
        generator,
        evenly=evenly,
    )
    prediction = model(noisy, t_B, told, previous)
    return denoising_losses(prediction, clean, weights_of(t_B, config))
