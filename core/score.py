"""Score biases: modules that hold the tables and turn a batch's lazy pair features into bias values for attention.

B samples, N tokens, H heads, V table rows. A domain hands in a score of its own with `Backbone(config, score=...)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from isoform.core.attention.bias import Bias, Dense, Distance, Gaussians, Table
from isoform.core.config.schema import BackboneConfig
from isoform.core.tokens import Pair, Tokens


def pair_with(tokens: Tokens, needs: str) -> Pair:
    """The tokens' pair features. Raises ValueError where the feature `needs` isn't among them."""
    if tokens.pair is None or needs not in tokens.pair.features:
        have = sorted(tokens.pair.features) if tokens.pair else "no pair features"
        raise ValueError(
            f"this score bias reads Tokens.pair.features[{needs!r}], but the tokens have {have}"
        )
    return tokens.pair


class DenseScore(nn.Module):
    """The bias is given: Tokens.pair.features["bias"], [B, N, N, H] or [B, N, N, 1]."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Bias:
        """Dense bias [B, H, N, N]."""
        return Dense(pair_with(tokens, "bias").view("bias").permute(0, 3, 1, 2))


class TableScore(nn.Module):
    """A learned number a head for each id in Tokens.pair.features["ids"] (Graphormer, section 3.1.2)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        assert config.score_ids is not None
        self.table = nn.Parameter(torch.zeros(config.score_ids, config.heads))

    def forward(self, tokens: Tokens) -> Bias:
        """Table bias; id 0 is what tokens without pair features get."""
        return Table(pair_with(tokens, "ids").view("ids"), self.table)


class DistanceScore(nn.Module):
    """Gaussian basis functions of the distance between Tokens.coords, weighted per head."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        n_basis = config.score_gaussians
        self.centres = nn.Parameter(torch.linspace(0, 5, n_basis))
        self.widths = nn.Parameter(torch.full((n_basis,), 5 / n_basis))
        self.weight = nn.Parameter(torch.zeros(n_basis, config.heads))

    def forward(self, tokens: Tokens) -> Bias:
        """Distance bias, symmetric in the two tokens."""
        if tokens.coords is None:
            raise ValueError(
                "the distance score reads Tokens.coords, which these tokens don't have"
            )
        return Distance(
            tokens.coords,
            tokens.coords,
            Gaussians(self.centres, self.widths, self.weight),
        )


SCORES: dict[str, Callable[[BackboneConfig], nn.Module]] = {
    "dense": DenseScore,
    "table": TableScore,
    "distance": DistanceScore,
}


def make_score(config: BackboneConfig) -> nn.Module | None:
    """The score bias that the table names; None for "none". Raises ValueError where its size is missing."""
    if config.score == "table" and config.score_ids is None:
        raise ValueError('backbone.score = "table" needs backbone.score_ids, the rows of its table')
    if config.score == "none":
        return None
    return SCORES[config.score](config)


__all__ = [
    "SCORES",
    "DenseScore",
    "DistanceScore",
    "TableScore",
    "make_score",
    "pair_with",
]
