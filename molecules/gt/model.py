"""The graph transformer of Dwivedi & Bresson (2021, arXiv:2012.09699) on the shared backbone: atoms see neighbours.

B molecules, N atoms (padded), U directed bonds of the batch, D features, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from isoform.core.backbone import Backbone
from isoform.core.edges import Edges
from isoform.core.tokens import Tokens
from isoform.molecules.atoms import Batch
from isoform.molecules.config import MoleculesApp
from isoform.molecules.gt.tokeniser import GtTokeniser
from isoform.molecules.head import ReadoutHead, pooled

# What the paper's trunk is, for ZINC: 588,929 parameters with its 28 kinds of atoms, 4 of bonds and 8 eigenvectors.
TRUNK = {
    "dim": 64, "depth": 10, "heads": 8, "mlp_dim": 128, "mixer": "neighbour", "channel": "relu", "norm": "batch",
    "eps": 1e-5, "order": "post", "qkv_bias": False, "final_norm": False, "init": "torch",
}  # fmt: skip


class GraphTransformer(nn.Module):
    """Atoms and bonds, a trunk whose mixer carries both, a head that reads the mean or sum of the atoms.

    Raises ValueError for tables that contradict each other.
    """

    def __init__(self, config: MoleculesApp, outputs: int) -> None:
        super().__init__()
        b, t, h = config.backbone, config.tokeniser, config.head
        check_tables(config)
        self.pool = h.pool
        self.tokeniser = GtTokeniser(t, b)
        self.backbone = Backbone(b, streams=("main", "edges"), ordered=False)
        self.head = ReadoutHead(h, b, outputs)

    def forward(self, batch: Batch) -> Tensor:
        """A batch, see `GtTokeniser` -> [B, K]."""
        return self.head(self.features(batch))

    def features(self, batch: Batch) -> Tensor:
        """[B, D], the mean or sum of the atoms behind the trunk."""
        return pooled(self.states(batch), self.pool)

    def tokens(self, batch: Batch) -> dict[str, Tokens | Edges]:
        """Tokens [B, N, D] ("main") and Edges [U, D] ("edges") in front of the trunk."""
        return self.tokeniser(batch)

    def states(self, batch: Batch) -> Tokens:
        """Tokens [B, N, D] behind the trunk."""
        return self.backbone(self.tokeniser(batch))


def check_tables(config: MoleculesApp) -> None:
    """Raises ValueError with every setting that doesn't fit the family, and what it has to be."""
    b, t, h = config.backbone, config.tokeniser, config.head
    needed = {
        "backbone.mixer=neighbour": b.mixer != "neighbour",
        "tokeniser.graph_token=false": t.graph_token,  # no bond leads to it
        "head.pool=mean": h.pool == "graph",
        "head.descriptors=false": h.descriptors,
    }
    wrong = " ".join(f"--set {setting}" for setting, missing in needed.items() if missing)
    if wrong:
        raise ValueError(f'model.family = "gt" asks for other settings, too: {wrong}')
