"""Atoms -> tokens of the autoencoder, noisy latents -> tokens of the denoiser.

B structures (molecules and crystals), T atoms of all of them, L latent features, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from isoform.core.ops.ragged import longest_of, places_of
from isoform.core.positions import sincos_1d
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import AditApp

Batch = Mapping[str, Tensor]
"""Structures, their atoms one behind the other:

offsets      [B + 1] structure b owns atoms offsets[b] to offsets[b + 1]
numbers      [T] atomic numbers, 0 for unknown
positions    [T, 3] Cartesian, in Angstrom
fractional   [T, 3] in units of the lattice vectors; 0 for molecules
lengths      [B, 3] of the lattice vectors, in Angstrom; 0 for molecules
angles       [B, 3] between them, in degrees; 0 for molecules
periodic     [B] bool, a crystal; else a molecule
spacegroups  [B] 1 to 230, 0 where it isn't told; absent: nowhere
order        [T] each atom's place in its structure; absent: counted
"""


class AtomTokeniser(nn.Module):
    """Element, Cartesian and fractional coordinates and place in the list, each embedded, and summed.

    The lattice isn't told: it follows from both kinds of coordinates.
    """

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        dim = config.encoder.dim
        self.index = config.model.index
        self.types = nn.Embedding(config.model.elements, dim)
        self.positions = _perceptron(dim)
        self.fractional = _perceptron(dim)

    def forward(self, batch: Batch) -> Tokens:
        """Packed tokens [T, D]."""
        x_TD = self.types(batch["numbers"].long())
        x_TD = x_TD + self.positions(batch["positions"])
        x_TD = x_TD + self.fractional(batch["fractional"])
        return self.placed(Tokens(x_TD, offsets=batch["offsets"], order=batch.get("order")))

    def placed(self, tokens: Tokens) -> Tokens:
        """Tokens with their places embedded, where the model does."""
        return with_index(tokens) if self.index else tokens


class LatentTokeniser(nn.Module):
    """Noisy latents, beside them the prediction before (zeros where there is none), and place in the list."""

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        self.index = config.model.index
        self.linear = nn.Linear(2 * config.model.latent, config.backbone.dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, latents: Tokens, previous: Tensor | None = None) -> Tokens:
        """Tokens [T, L] (padded: [B, N, L]) -> [T, D]."""
        if previous is None:
            previous = torch.zeros_like(latents.x)
        x = self.linear(torch.cat([latents.x, previous], dim=-1))
        tokens = latents.with_x(x)
        return with_index(tokens) if self.index else tokens


def _perceptron(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, dim, bias=False),
        nn.SiLU(),
        nn.Linear(dim, dim),
    )


def with_index(tokens: Tokens) -> Tokens:
    """Tokens and the embedding of `order`, each one's place in its structure; counted where it isn't set."""
    if tokens.order is not None:
        place = tokens.order
        longest = int(place.max()) + 1 if place.numel() else 0
    elif tokens.offsets is not None:
        place, longest = places_of(tokens.offsets), longest_of(tokens.offsets)
    else:
        longest = tokens.x.shape[1]
        place = torch.arange(longest, device=tokens.x.device)[None]
    numbers = torch.arange(longest, device=place.device)
    table = sincos_1d(math.pi * numbers.double(), tokens.x.shape[-1], 2048.0)
    return tokens.with_x(tokens.x + table[place.long()].to(tokens.x.dtype))
