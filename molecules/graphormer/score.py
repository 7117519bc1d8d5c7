"""Graphormer's bias on attention scores: how far two atoms are apart, and over which bonds (Ying et al. 2021, 3.1).

B molecules, N tokens, P hops, K kinds of bonds, F features a bond, V table rows, H heads.

    pair feature                        what it is
    distance_ids  [B, N, N]             bonds on the shortest path + 1; 0: padding
    path_bond_ids [B, N, N, P, F]       rows of the table of bonds along that path; 0: no bond; or, in its place,
    path_kinds    [B, N, N, P]          the kinds of those bonds, with a codebook [K, F] of each kind's rows

These are the names in a batch (data/collate.py, which says what the numbers mean) and in Tokens.pair alike; a path's
length in bonds, as the path table divides by it, is distance_ids - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isoform.core.attention.bias import Bias, PathTable, Table
from isoform.core.attention.embedding_sum import sum_rows, without_first
from isoform.core.score import pair_with
from isoform.core.tokens import Pair, Tokens
from isoform.molecules.config import ScoreConfig


class GraphScore(nn.Module):
    """Graphormer's spatial encoding, edge encoding and virtual node (arXiv:2106.05234, section 3.1).

    A pair with a token outside the graph gets the virtual distance and no bonds. Row 0 of both tables counts where it
    is looked up and never learns: it starts, and so stays, 0.
    """

    def __init__(self, config: ScoreConfig, heads: int) -> None:
        super().__init__()
        matrices = config.hop_matrices or config.hops
        if matrices < config.hops:
            raise ValueError(
                f"score.hop_matrices = {matrices} must not be below score.hops = {config.hops}"
            )
        self.reach, self.max_hops = config.reach, config.hops
        self.spatial = nn.Parameter(torch.empty(config.distance_ids, heads))
        self.edges = nn.Parameter(torch.empty(config.bond_ids, heads))
        self.virtual = nn.Parameter(torch.empty(1, heads))
        self.hops = nn.Parameter(torch.eye(heads).repeat(matrices, 1, 1))
        for table in (self.spatial, self.edges, self.virtual):
            nn.init.normal_(table, std=0.02)
        with torch.no_grad():
            self.spatial[0], self.edges[0] = 0.0, 0.0

    def forward(self, tokens: Tokens) -> Bias:
        """The sum of a table and a path table, on a CPU a table of the batch's few distinct paths.

        -inf from `score.reach` on.
        """
        pair = pair_with(tokens, "distance_ids")
        if self._countable(pair):
            return self._of_distinct_paths(pair)
        known, ids = pair.known(), pair.view("distance_ids").int()
        rows = self._distance_rows()
        distances = Table(torch.where(known, ids, rows.shape[0]), torch.cat([rows, self.virtual]))
        name = "path_kinds" if "path_kinds" in pair.features else "path_bond_ids"
        path = pair_with(tokens, name).view(name)[:, :, :, : self.max_hops].int()
        if path.shape[3] == 0:  # molecules of one atom
            return distances
        if name == "path_kinds":
            path, rows = path[..., None], self._kind_rows(pair)
        else:
            rows = without_first(self.edges)
        # One more row, of zeros, for pairs without a path.
        path = torch.where(known[..., None, None], path, rows.shape[0])
        return distances + PathTable(
            path, ids - 1, torch.cat([rows, torch.zeros_like(rows[:1])]), self.hops
        )

    def _distance_rows(self) -> Tensor:
        """What each distance adds [V, H]."""
        rows = without_first(self.spatial)
        if self.reach is None:
            return rows
        far = torch.arange(rows.shape[0], device=rows.device) > self.reach
        return rows.masked_fill(far[:, None], -torch.inf)

    def _kind_rows(self, pair: Pair) -> Tensor:
        """[K, H]: of a kind, the mean of its features' rows, so that a hop is one lookup."""
        kinds = pair.codebooks["path_kinds"]
        return sum_rows(kinds.int(), without_first(self.edges)) / kinds.shape[1]

    def _countable(self, pair: Pair) -> bool:
        """Whether paths can be numbered: each is one integer, and a tensor's size may depend on how many there are."""
        path = pair.features.get("path_kinds")
        if path is None or path.device.type != "cpu" or path.numel() == 0:
            return False
        if (
            torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or torch.is_autocast_enabled("cpu")
        ):
            return False
        hops = min(self.max_hops, path.shape[3])
        return self.spatial.shape[0] * pair.codebooks["path_kinds"].shape[0] ** hops < 2**63

    def _of_distinct_paths(self, pair: Pair) -> Table:
        """The bias of every distinct distance and path, looked up by pair.

        Molecules are made of few kinds of paths: 10,000 pairs of QM9 have about 300.
        """
        kinds = pair.codebooks["path_kinds"].shape[0]
        hops = pair.features["path_kinds"][..., : self.max_hops].unbind(-1)
        number = pair.features["distance_ids"].long()
        for hop in hops:
            number = number * kinds + hop
        number, place = torch.unique(number, return_inverse=True)
        n_paths = len(number)
        path: list[Tensor] = []
        for _ in hops:
            path.insert(0, number % kinds)
            number = number // kinds
        ids = number[:, None, None]
        kinds_along = torch.stack(path, -1)[:, None, None, :, None]
        # Distances first, as everywhere: sums are the same bit for bit.
        distances = Table(ids, self._distance_rows())
        bias = (
            distances + PathTable(kinds_along, ids - 1, self._kind_rows(pair), self.hops)
        ).to_dense()
        table = torch.cat([bias[:, :, 0, 0], self.virtual])
        return Table(Pair({"path": place}, pair.index).view("path", absent=n_paths), table)
