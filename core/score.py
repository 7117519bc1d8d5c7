"""Score biases: modules that hold the tables and turn a batch's lazy pair features into bias values for attention.

B samples, N tokens, H heads, V table rows, P hops, F features an edge.
"""

from __future__ import annotations

import torch
from torch import nn

from isoform.core.attention.bias import Bias, Dense, Distance, Gaussians, PathTable, Table
from isoform.core.schema import BackboneConfig
from isoform.core.tokens import Pair, Tokens


def _pair(tokens: Tokens, needs: str) -> Pair:
    if tokens.pair is None or needs not in tokens.pair.features:
        have = sorted(tokens.pair.features) if tokens.pair else "no pair features"
        raise ValueError(f"this score bias reads Tokens.pair.features[{needs!r}], but the tokens have {have}")
    return tokens.pair


class DenseScore(nn.Module):
    """The bias is given: Tokens.pair.features["bias"], [B, N, N, H] or [B, N, N, 1]."""

    def forward(self, tokens: Tokens) -> Bias:
        """Dense bias [B, H, N, N]."""
        return Dense(_pair(tokens, "bias").view("bias").permute(0, 3, 1, 2))


class TableScore(nn.Module):
    """A learned number a head for each id in Tokens.pair.features["ids"] (Graphormer, section 3.1.2)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        assert config.score_ids is not None
        self.table = nn.Parameter(torch.zeros(config.score_ids, config.heads))

    def forward(self, tokens: Tokens) -> Bias:
        """Table bias; id 0 is what tokens without pair features get."""
        return Table(_pair(tokens, "ids").view("ids"), self.table)


class PathScore(nn.Module):
    """The mean of edge embeddings along a shortest path, a matrix per hop (Graphormer, section 3.1.3).

    Reads features "edges" [B, N, N, P, F] (row ids, 0 = none) and "distance" [B, N, N] (edges on the path).
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        assert config.score_ids is not None
        self.table = nn.Parameter(torch.zeros(config.score_ids, config.heads))
        self.hops = nn.Parameter(torch.eye(config.heads).repeat(config.score_hops, 1, 1))

    def forward(self, tokens: Tokens) -> Bias:
        """Path bias."""
        pair = _pair(tokens, "edges")
        return PathTable(pair.view("edges"), _pair(tokens, "distance").view("distance"), self.table, self.hops)


class DistanceScore(nn.Module):
    """Gaussian basis functions of the distance between Tokens.coords, weighted per head."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        bases = config.score_ids or 16
        self.centres = nn.Parameter(torch.linspace(0, 5, bases))
        self.widths = nn.Parameter(torch.full((bases,), 5 / bases))
        self.weight = nn.Parameter(torch.zeros(bases, config.heads))

    def forward(self, tokens: Tokens) -> Bias:
        """Distance bias, symmetric in the two tokens."""
        if tokens.coords is None:
            raise ValueError("the distance score reads Tokens.coords, which these tokens don't have")
        return Distance(tokens.coords, tokens.coords, Gaussians(self.centres, self.widths, self.weight))


SCORES = {"dense": DenseScore, "table": TableScore, "path": PathScore, "distance": DistanceScore}


def make_score(config: BackboneConfig) -> nn.Module | None:
    """The score bias that the table names; None for "none". Raises ValueError where its size is missing."""
    if config.score == "none":
        return None
    if config.score in ("table", "path") and config.score_ids is None:
        raise ValueError(f"backbone.score = {config.score!r} needs backbone.score_ids, the rows of its table")
    return DenseScore() if config.score == "dense" else SCORES[config.score](config)


__all__ = ["SCORES", "DenseScore", "DistanceScore", "PathScore", "TableScore", "make_score"]
