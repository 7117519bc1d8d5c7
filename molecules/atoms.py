"""Atoms as vectors: what every model of this domain makes of a batch before its own ideas begin.

B molecules, N atoms (padded), F features an atom, D features of a vector, k Laplacian eigenvectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from isoform.core.attention.embedding_sum import sum_rows, without_first
from isoform.core.ops.decay import without_decay
from isoform.core.ops.linear import Linear
from isoform.molecules.config import TokeniserConfig

Batch = Mapping[str, Tensor]


class Features(nn.Module):
    """The sum of a table's rows, one a feature; row 0 is padding: it starts as 0 and never learns."""

    def __init__(self, rows: int, dim: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, dim))
        nn.init.normal_(self.weight, std=std)
        with torch.no_grad():
            self.weight[0] = 0.0

    def forward(self, ids: Tensor, *others: Features) -> Tensor:
        """Integers [..., F] below `rows` -> [..., D]; rows of `others`, of the same size, are added."""
        table = without_first(self.weight)
        for other in others:
            table = table + without_first(other.weight)
        found = sum_rows(ids.reshape(-1, ids.shape[-1]).int(), table)
        return found.view(*ids.shape[:-1], self.weight.shape[1])


class Atoms(nn.Module):
    """The sum of an atom's features, of its degree (Ying et al. 2021, arXiv:2106.05234, equation 5) and of its place.

    The place is a linear function of Laplacian eigenvectors (Dwivedi & Bresson 2021, arXiv:2012.09699, equation 9).
    `std` is what the table of features starts with.
    """

    def __init__(self, config: TokeniserConfig, dim: int, std: float = 0.02) -> None:
        super().__init__()
        self.features = Features(config.atom_ids, dim, std)
        self.in_degree = self.out_degree = None
        if config.degree_ids:
            self.in_degree = Features(config.degree_ids, dim)
            self.out_degree = Features(config.out_degree_ids or config.degree_ids, dim)
        self.positions = Linear(config.laplacian, dim) if config.laplacian else None
        if self.positions is not None:
            without_decay(self.positions.weight)

    def forward(self, batch: Batch) -> Tensor:
        """ "atoms" [B, N, F], "degree" [B, N] ("out_degree" where it differs), "laplacian" [B, N, k] -> [B, N, D].

        "perturb" [B, N, D], if it is there, is added: the gradient at zeros is the attribution of an atom's vector.
        """
        x_BND = self.features(batch["atoms"])
        if self.in_degree is not None and self.out_degree is not None:
            degree, out = batch["degree"][..., None], batch.get("out_degree")
            if out is None and self.in_degree.weight.shape == self.out_degree.weight.shape:
                x_BND = x_BND + self.in_degree(degree, self.out_degree)  # one lookup
            else:
                x_BND = x_BND + self.in_degree(degree)
                x_BND = x_BND + self.out_degree(degree if out is None else out[..., None])
        if self.positions is not None:
            x_BND = x_BND + self.positions(batch["laplacian"].to(x_BND.dtype))
        return x_BND + batch["perturb"] if "perturb" in batch else x_BND


def valid_of(batch: Batch) -> Tensor:
    """[B, N] bool, which atoms are real: "valid", or those whose first feature isn't padding."""
    return batch["valid"] if "valid" in batch else batch["atoms"][..., 0] != 0
