"""Tokens behind the decoder -> elements, coordinates and lattice.

B structures, T atoms, E elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from isoform.core.ops.ragged import centred, mean_by_sample
from isoform.core.readout import mean_of
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import AditApp

NANOMETRE = 10.0  # Angstrom


@dataclass
class Decoded:
    """What the decoder says, in the units that it learns in.

    types        [T, E] logits
    positions    [T, 3] Cartesian, in nanometres
    fractional   [T, 3]
    lengths      [B, 3] of the lattice vectors, in Angstrom, divided by the cube root of the number of atoms
    angles       [B, 3] in radians
    """

    types: Tensor
    positions: Tensor
    fractional: Tensor
    lengths: Tensor
    angles: Tensor

    def structures(self, offsets: Tensor) -> dict[str, Tensor]:
        """The likeliest structures, as a batch has them (tokeniser.Batch): Angstrom, degrees, centred positions.

        All have both kinds of coordinates and a lattice; which of them mean something, `periodic` says.
        """
        atoms = offsets.diff().to(self.lengths.dtype)
        return {
            "offsets": offsets,
            "numbers": self.types.argmax(-1),
            "positions": NANOMETRE * centred(self.positions, offsets),
            "fractional": self.fractional,
            "lengths": self.lengths * atoms[:, None] ** (1 / 3),
            "angles": self.angles * (180 / math.pi),
        }


class AtomHead(nn.Module):
    """A linear layer for each of an atom's properties, and one for the lattice of the mean atom."""

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        dim = config.decoder.dim
        self.types = nn.Linear(dim, config.model.elements)
        self.positions = nn.Linear(dim, 3, bias=False)
        self.fractional = nn.Linear(dim, 3, bias=False)
        self.lattice = nn.Linear(dim, 6, bias=False)

    def forward(self, tokens: Tokens) -> Decoded:
        """Tokens [T, D]; of padded ones [B, N, D], atoms have both axes."""
        if tokens.offsets is None:
            mean_BD = mean_of(tokens.x, tokens.valid)
        else:
            mean_BD = mean_by_sample(tokens.x, tokens.offsets)
        lengths, angles = self.lattice(mean_BD).split(3, dim=-1)
        return Decoded(
            self.types(tokens.x),
            self.positions(tokens.x),
            self.fractional(tokens.x),
            lengths,
            angles,
        )
