"""Graphormer (Ying et al. 2021, arXiv:2106.05234) on the shared backbone: distances and paths bias the attention.

B molecules, N atoms (padded), D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from isoform.core.attention.bias import Dense
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.tokens import Tokens
from isoform.molecules.atoms import Batch
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.length_groups import run_by_length
from isoform.molecules.graphormer.score import GraphScore
from isoform.molecules.graphormer.tokeniser import GraphormerTokeniser
from isoform.molecules.head import GraphormerHead, pooled

# What the official trunks are, beside their sizes; apps set the same keys, and others are free to.
TRUNK = {"order": "post", "eps": 1e-5, "final_norm": False}
SCORE = {"distance_ids": 512, "bond_ids": 1537, "hops": 5}
# (depth, dim, mlp_dim, heads) of microsoft/Graphormer's three.
SIZES = {
    "slim": (12, 80, 80, 8),
    "base": (12, 768, 768, 32),
    "large": (24, 1024, 1024, 32),
}


def sized(size: str, **changes: object) -> BackboneConfig:
    """The backbone table of Graphormer slim, base or large, with changes. Raises ValueError for another size."""
    if size not in SIZES:
        raise ValueError(f"no Graphormer is of size {size!r}; there are {', '.join(SIZES)}")
    depth, dim, mlp_dim, heads = SIZES[size]
    table = {
        **TRUNK,
        "depth": depth,
        "dim": dim,
        "mlp_dim": mlp_dim,
        "heads": heads,
        **changes,
    }
    return BackboneConfig.model_validate(table)


class Graphormer(nn.Module):
    """Atoms and a graph token, the trunk of the table `backbone`, a head that reads the graph token or all atoms.

    `spare`: shapes by name of tensors that an official checkpoint holds and nothing reads; they are kept as buffers so
    that it can be written again. `descriptors`: how many numbers a molecule the head reads beside it, from the batch's
    "descriptors". Raises ValueError for tables that contradict each other.
    """

    def __init__(
        self,
        config: MoleculesApp,
        outputs: int,
        spare: Mapping[str, Sequence[int]] | None = None,
        descriptors: int = 0,
    ) -> None:
        super().__init__()
        b, t, h = config.backbone, config.tokeniser, config.head
        if b.position != "none":
            raise ValueError("atoms are a set without positions: backbone.position must be none")
        if h.pool == "graph" and not t.graph_token:
            raise ValueError(
                'head.pool = "graph" reads the graph token, and tokeniser.graph_token is false'
            )
        self.pool, self.whole = h.pool, b.norm == "batch"
        self.tokeniser = GraphormerTokeniser(t, b)
        self.backbone = Backbone(b, ordered=False, score=lambda: GraphScore(config.score, b.heads))
        self.head = GraphormerHead(h, b, outputs, descriptors)
        if spare:
            self.spare = Spare(spare)

    def forward(self, batch: Batch) -> Tensor:
        """A batch, see `GraphormerTokeniser` -> [B, K].

        "bias" [B, 1 + N, 1 + N], where there is one, counts twice, as in the official code; -inf hides a token.
        """
        return self.head(self.features(batch), batch.get("descriptors"))

    def features(self, batch: Batch) -> Tensor:
        """[B, D], what the head reads: the graph token behind the trunk, or the mean or sum of the atoms."""
        tokens, bias = self.tokeniser(batch), given_bias(batch)
        # A batch norm counts its whole batch at once.
        return self._trunk(tokens, bias) if self.whole else run_by_length(tokens, bias, self._trunk)

    def _trunk(self, tokens: Tokens, bias: Dense | None) -> Tensor:
        return pooled(
            self.backbone(tokens, first=1 if self.pool == "graph" else None, bias=bias),
            self.pool,
        )

    def tokens(self, batch: Batch) -> Tokens:
        """Tokens [B, 1 + N, D] in front of the trunk."""
        return self.tokeniser(batch)

    def states(self, batch: Batch) -> Tokens:
        """Tokens [B, 1 + N, D] behind the trunk."""
        return self.backbone(self.tokeniser(batch), bias=given_bias(batch))


def given_bias(batch: Batch) -> Dense | None:
    """The batch's own bias on the scores, twice; None without."""
    return Dense(2 * batch["bias"][:, None]) if "bias" in batch else None


class Spare(nn.Module):
    """Buffers of names such as "final_norm.weight"."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *path, leaf = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_buffer(leaf, torch.zeros(*shape))
