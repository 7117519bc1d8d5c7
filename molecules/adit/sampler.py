"""From noise to molecules and crystals, each by itself: an item's noise is a function of (seed, its number).

B structures, T atoms of all of them, L latent features, C kinds of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isoform.core.errors import UserError
from isoform.core.objectives.solvers import Observe, guide, solve, time_points
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import SamplingConfig
from isoform.molecules.adit.model import Adit, Denoiser

NOISE_STREAM, SIZE_STREAM = 1, 2  # of an item's random numbers


@dataclass(frozen=True)
class Wanted:
    """What to sample: the number, atoms and labels [B, C] (see `Denoiser`) of each item."""

    numbers: Sequence[int]
    sizes: Sequence[int]
    labels_BC: Tensor

    @property
    def offsets(self) -> Tensor:
        """[B + 1] where each item's atoms begin."""
        return torch.tensor([0, *np.cumsum(self.sizes)])


def draw_noise(wanted: Wanted, latent: int, seed: int, *, official_padding: bool = False) -> Tensor:
    """[T, L] standard normal numbers, each item's minus their own mean.

    official_padding   the mean runs over as many rows as the largest item has, as in the official code
    """
    longest = max(wanted.sizes, default=0)
    draws = []
    for number, size in zip(wanted.numbers, wanted.sizes, strict=True):
        rng = np.random.default_rng([seed, number, NOISE_STREAM])
        rows = longest if official_padding else size
        draws.append(torch.from_numpy(rng.standard_normal((rows, latent), np.float32)))
    return centred_noise(draws, wanted.sizes)


def centred_noise(draws: Iterable[Tensor], sizes: Sequence[int]) -> Tensor:
    """[T, L] of each item's draw, of its size or longer, the first rows minus the mean of all."""
    parts = [
        draw[:size] - draw.mean(0, keepdim=True) for draw, size in zip(draws, sizes, strict=True)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 0)


@torch.no_grad()
def sample_latents(
    model: Denoiser | Adit,
    start: Tokens,
    labels_BC: Tensor,
    config: SamplingConfig,
    observe: Observe | None = None,
) -> Tokens:
    """Clean latents [T, L] from noise `start`, packed or padded.

    observe   sees the state, its time and the prediction there at each of config.steps times
    """
    scale = 1.0 if config.guidance is None else config.guidance
    untold = torch.zeros_like(labels_BC)

    def predict(x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        noisy, t_B = start.with_x(x), x.new_full((start.batch,), t)
        told: Tensor = model(noisy, t_B, labels_BC, previous)
        if scale == 1.0:
            return told
        return guide(told, model(noisy, t_B, untold, previous), scale)

    times = time_points(config.steps, config.start)
    clean = solve(
        predict,
        start.x,
        times,
        config.solver,
        feed_back=config.self_condition,
        observe=observe,
    )
    return start.with_x(clean)


@torch.no_grad()
def sample(
    model: Adit,
    wanted: Wanted,
    config: SamplingConfig,
    seed: int,
    observe: Observe | None = None,
) -> dict[str, Tensor]:
    """Structures as a batch has them (tokeniser.Batch), and whether they are periodic: Angstrom, degrees.

    An item's structure is a function of (seed, number, size, labels) up to rounding, whatever else is sampled with it,
    unless config.official_padding.
    """
    parameter = next(model.denoiser.parameters())
    latent = model.autoencoder.expand.in_features
    noise = draw_noise(wanted, latent, seed, official_padding=config.official_padding)
    offsets, labels_BC = (t.to(parameter.device) for t in (wanted.offsets, wanted.labels_BC))
    start = Tokens(noise.to(parameter), offsets=offsets)
    latents = sample_latents(model, start, labels_BC, config, observe)
    structures = model.decode(latents).structures(offsets)
    return {**structures, "periodic": labels_BC[:, 0] == 1}


@dataclass(frozen=True)
class SizeCounts:
    """How many training structures of each kind ("molecule", "crystal") have how many atoms.

    Sizes of samples are drawn from it.
    """

    counts: Mapping[str, Mapping[int, int]]

    @classmethod
    def of(cls, sizes: Mapping[str, Sequence[int]]) -> SizeCounts:
        """From the numbers of atoms of every structure, by kind."""
        counted = {}
        for kind, values in sizes.items():
            atoms, times = np.unique(np.asarray(values, np.int64), return_counts=True)
            counted[kind] = dict(zip(atoms.tolist(), times.tolist(), strict=True))
        return cls(counted)

    def draw(self, kind: str, seed: int, number: int, within: range | None = None) -> int:
        """The size of item `number`, as frequent as in training; evenly of sizes that training had none of.

        within   only these sizes; they may be of a kind that training had none of

        Raises UserError for a kind that training had none of.
        """
        counts = self.counts.get(kind) or {}
        if within is not None:
            found = {size: counts[size] for size in within if counts.get(size)}
            counts = found or dict.fromkeys(within, 1)
        if not counts:
            known = ", ".join(name for name, found in self.counts.items() if found) or "nothing"
            raise UserError(
                f"the model was trained on no {kind}: it has learned {known}; ask for that, or name a number of atoms"
            )
        rng = np.random.default_rng([seed, number, SIZE_STREAM])
        atoms = np.array(sorted(counts))
        share = np.array([counts[n] for n in sorted(counts)], np.float64)
        return int(rng.choice(atoms, p=share / share.sum()))
