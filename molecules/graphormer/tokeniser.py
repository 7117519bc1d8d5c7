"""Molecule -> tokens: a graph token in front of its atoms, and what is known of every two of them.

B molecules, N atoms (padded), P hops, Fb features a bond, K kinds of bonds, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.norms import make_norm
from isoform.core.ops.decay import without_decay
from isoform.core.tokens import Pair, Tokens
from isoform.molecules.atoms import Atoms, Batch, valid_of
from isoform.molecules.config import TokeniserConfig

PAIR_FEATURES = ("distance_ids", "path_bond_ids", "path_kinds")


class GraphormerTokeniser(nn.Module):
    """Atoms by features and degree behind a learned graph token, normed (Ying et al. 2021, section 3.1.1).

    Distances and paths stay ids in Tokens.pair, which `GraphScore` turns into a bias.
    """

    def __init__(self, config: TokeniserConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.atoms = Atoms(config, backbone.dim)
        self.graph_token: Tensor | None = None
        if config.graph_token:
            self.graph_token = without_decay(nn.Parameter(torch.empty(1, backbone.dim)))
            nn.init.normal_(self.graph_token, std=0.02)
        kind = "layer" if config.norm else "none"
        self.norm = make_norm(kind, backbone.dim, backbone.eps, backbone.norm_bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Batch) -> Tokens:
        """Tokens [B, 1 + N, D] of what `Atoms` reads, "valid" [B, N] and the pair features.

        "distance_ids" [B, N, N] and "path_bond_ids" [B, N, N, P, Fb], or "path_kinds" [B, N, N, P] with "kind_bond_ids"
        [K, Fb]; what they are stands in score.py.
        """
        x_BND, valid = self.atoms(batch), valid_of(batch)
        n_batch, n, _ = x_BND.shape
        index = torch.arange(n, device=x_BND.device).expand(n_batch, n)
        if self.graph_token is not None:
            x_BND = torch.cat([self.graph_token.expand(n_batch, 1, -1), x_BND], dim=1)
            valid = torch.cat([valid.new_ones(n_batch, 1), valid], dim=1)
            index = torch.cat([index.new_full((n_batch, 1), -1), index], dim=1)
        x_BND = self.dropout(self.norm(x_BND))
        prefix = 0 if self.graph_token is None else 1
        return Tokens(x_BND, valid, pair=pair_of(batch, index), prefix=prefix)


def pair_of(batch: Batch, index: Tensor) -> Pair:
    """A batch's pair features under their own names; see score.py."""
    features = {name: batch[name] for name in PAIR_FEATURES if name in batch}
    codebooks = {"path_kinds": batch["kind_bond_ids"]} if "path_kinds" in batch else {}
    return Pair(features, index, codebooks)
