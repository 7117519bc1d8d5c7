"""Score biases: modules that hold the tables and turn a batch's lazy pair features into bias values for attention.

B samples, N tokens, H heads, V table rows, P hops, K kinds of edges, F features an edge.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isoform.core.attention.bias import Bias, Dense, Distance, Gaussians, PathTable, Table
from isoform.core.attention.embedding_sum import sum_rows, without_first
from isoform.core.config.schema import BackboneConfig
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


class GraphScore(nn.Module):
    """Graphormer's spatial encoding, edge encoding and virtual node (Ying et al. 2021, arXiv:2106.05234, section 3.1).

    Reads the pair features "spatial" [B, N, N], 1 + distance in edges (0: padding), and "edges" along a shortest path:
    rows of the edge table [B, N, N, P, F] (0: none), or kinds [B, N, N, P] (0: none), rows of the list "edge_ids"
    [K, F] of such rows. A pair with a token outside the graph gets the virtual distance and no edges. Row 0 of both
    tables counts where it is looked up and never learns: it starts, and so stays, 0.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.score_ids is None or config.score_edge_ids is None:
            raise ValueError(
                'backbone.score = "graph" needs backbone.score_ids and backbone.score_edge_ids, the rows of its tables'
            )
        matrices = config.score_matrices or config.score_hops
        if matrices < config.score_hops:
            raise ValueError(f"backbone.score_matrices = {matrices} must not be below score_hops = {config.score_hops}")
        self.reach, self.max_hops = config.score_reach, config.score_hops
        self.spatial = nn.Parameter(torch.empty(config.score_ids, config.heads))
        self.edges = nn.Parameter(torch.empty(config.score_edge_ids, config.heads))
        self.virtual = nn.Parameter(torch.empty(1, config.heads))
        self.hops = nn.Parameter(torch.eye(config.heads).repeat(matrices, 1, 1))
        for table in (self.spatial, self.edges, self.virtual):
            nn.init.normal_(table, std=0.02)
        with torch.no_grad():
            self.spatial[0], self.edges[0] = 0.0, 0.0

    def forward(self, tokens: Tokens) -> Bias:
        """The sum of a table and a path table, on a CPU a table of the batch's few distinct paths; -inf from
        `score_reach` on.
        """
        pair = _pair(tokens, "spatial")
        if self._countable(pair):
            return self._counted(pair)
        known, ids = pair.known(), pair.view("spatial").int()
        rows = self._distances()
        distances = Table(torch.where(known, ids, rows.shape[0]), torch.cat([rows, self.virtual]))
        edges = _pair(tokens, "edges").view("edges")[:, :, :, : self.max_hops].int()
        if edges.shape[3] == 0:  # molecules of one atom
            return distances
        edges, rows = self._edges(edges, pair)
        # One more row, of zeros, for pairs without a path.
        edges = torch.where(known[..., None, None], edges, rows.shape[0])
        return distances + PathTable(edges, ids - 1, torch.cat([rows, torch.zeros_like(rows[:1])]), self.hops)

    def _distances(self) -> Tensor:
        """What each distance adds [V, H]."""
        rows = without_first(self.spatial)
        if self.reach is None:
            return rows
        far = torch.arange(rows.shape[0], device=rows.device) > self.reach
        return rows.masked_fill(far[:, None], -torch.inf)

    def _edges(self, edges: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
        """Ids [B, N, N, P, F] and their table; a kind is the mean of its features' rows, so that a hop is one lookup.

        `edges` are such ids already, or kinds [B, N, N, P].
        """
        rows = without_first(self.edges)
        if edges.dim() == 5:
            return edges, rows
        kinds = pair.features["edge_ids"]
        return edges[..., None], sum_rows(kinds.int(), rows) / kinds.shape[1]

    def _countable(self, pair: Pair) -> bool:
        """Whether paths can be numbered: each is one integer, and a tensor's size may depend on how many there are."""
        spatial, edges = pair.features["spatial"], pair.features.get("edges")
        if edges is None or edges.dim() != 4 or spatial.device.type != "cpu" or edges.numel() == 0:
            return False
        hops = min(self.max_hops, edges.shape[3])
        plain = not (torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"))
        return plain and self.spatial.shape[0] * pair.features["edge_ids"].shape[0] ** hops < 2**63

    def _counted(self, pair: Pair) -> Table:
        """The bias of every distinct distance and path, looked up by pair.

        Molecules are made of few kinds of paths: 10,000 pairs of QM9 have about 300.
        """
        kinds = pair.features["edge_ids"].shape[0]
        hops = pair.features["edges"][..., : self.max_hops].unbind(-1)
        number = pair.features["spatial"].long()
        for hop in hops:
            number = number * kinds + hop
        number, place = torch.unique(number, return_inverse=True)
        edges: list[Tensor] = []
        for _ in hops:
            edges.insert(0, number % kinds)
            number = number // kinds
        ids = number[:, None, None]
        way, rows = self._edges(torch.stack(edges, -1)[:, None, None], pair)
        found = (Table(ids, self._distances()) + PathTable(way, ids - 1, rows, self.hops)).whole()
        table = torch.cat([found[:, :, 0, 0], self.virtual])
        return Table(Pair({"ids": place}, pair.index).view("ids", absent=len(number)), table)


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


SCORES = {"dense": DenseScore, "table": TableScore, "path": PathScore, "graph": GraphScore, "distance": DistanceScore}


def make_score(config: BackboneConfig) -> nn.Module | None:
    """The score bias that the table names; None for "none". Raises ValueError where its size is missing."""
    if config.score == "none":
        return None
    if config.score in ("table", "path") and config.score_ids is None:
        raise ValueError(f"backbone.score = {config.score!r} needs backbone.score_ids, the rows of its table")
    return DenseScore() if config.score == "dense" else SCORES[config.score](config)


__all__ = ["SCORES", "DenseScore", "DistanceScore", "GraphScore", "PathScore", "TableScore", "make_score"]
