"""Molecule -> tokens: a graph token in front of its atoms, and what is known of every two of them.

B molecules, N atoms (padded), P hops, Fb features a bond, K kinds of bonds, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.norms import make_norm
from isoform.core.tokens import Pair, Tokens
from isoform.molecules.atoms import Atoms, Batch, valid_of
from isoform.molecules.config import TokeniserConfig


class GraphormerTokeniser(nn.Module):
    """Atoms by features and degree behind a learned graph token, normed (Ying et al. 2021, section 3.1.1).

    Distances and paths stay ids in Tokens.pair, which the trunk's score (backbone.score = "graph") turns into a bias.
    """

    def __init__(self, config: TokeniserConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.atoms = Atoms(config, backbone.dim)
        self.graph_token = nn.Parameter(torch.empty(1, backbone.dim)) if config.graph_token else None
        if self.graph_token is not None:
            nn.init.normal_(self.graph_token, std=0.02)
        kind = "layer" if config.norm else "none"
        self.norm = make_norm(kind, backbone.dim, backbone.eps, backbone.norm_bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Batch) -> Tokens:
        """Tokens [B, 1 + N, D] of what `Atoms` reads, "valid" [B, N] and the pair features.

        "distance" [B, N, N] bonds between two atoms + 1 (0: padding) and the bonds on the way, as "edges"
        [B, N, N, P, Fb], ids of their features, or as "paths" [B, N, N, P], their kinds, with "edge_ids" [K, Fb], the
        ids of a kind's features (0: no bond, in each).
        """
        x_BND, valid = self.atoms(batch), valid_of(batch)
        n_batch, n = x_BND.shape[:2]
        index = torch.arange(n, device=x_BND.device).expand(n_batch, n)
        if self.graph_token is not None:
            x_BND = torch.cat([self.graph_token.expand(n_batch, 1, -1), x_BND], dim=1)
            valid = torch.cat([valid.new_ones(n_batch, 1), valid], dim=1)
            index = torch.cat([index.new_full((n_batch, 1), -1), index], dim=1)
        x_BND = self.dropout(self.norm(x_BND))
        return Tokens(x_BND, valid, pair=Pair(_pairs(batch), index), prefix=int(self.graph_token is not None))


def _pairs(batch: Batch) -> dict[str, Tensor]:
    if "paths" in batch:
        return {"spatial": batch["distance"], "edges": batch["paths"], "edge_ids": batch["edge_ids"]}
    return {"spatial": batch["distance"], "edges": batch["edges"]}
