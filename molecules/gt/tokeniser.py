"""Molecule -> tokens and edges: atoms with Laplacian positions, and every bond as two directed edges.

B molecules, N atoms (padded), U directed bonds of the batch, Fb features a bond, D features.
"""

from __future__ import annotations

from torch import nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import Edges
from isoform.core.norms import make_norm
from isoform.core.tokens import Tokens
from isoform.molecules.atoms import Atoms, Batch, Features, valid_of
from isoform.molecules.config import TokeniserConfig


class GtTokeniser(nn.Module):
    """Atoms by features and Laplacian eigenvectors, bonds by features (Dwivedi & Bresson 2021, section 2.2)."""

    def __init__(self, config: TokeniserConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.atoms = Atoms(config, backbone.dim, std=1.0)  # as PyTorch's embeddings start
        self.bonds = Features(config.bond_ids, backbone.dim, std=1.0)
        self.norm = make_norm(
            "layer" if config.norm else "none",
            backbone.dim,
            backbone.eps,
            backbone.norm_bias,
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Batch) -> dict[str, Tokens | Edges]:
        """Tokens [B, N, D] as "main" and Edges [U, D] as "edges".

        Of what `Atoms` reads, "valid" [B, N], "bond_index" [U, 2] (atoms b * N + i) and "bond_ids" [U, Fb].
        """
        x_BND = self.dropout(self.norm(self.atoms(batch)))
        edges_UD = self.bonds(batch["bond_ids"])
        return {
            "main": Tokens(x_BND, valid_of(batch)),
            "edges": Edges(edges_UD, batch["bond_index"]),
        }
