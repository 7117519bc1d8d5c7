"""The collator of transformers 4.57.6 beside ours; it needs that package, Cython 0.29 and a C compiler."""

import pytest
import torch

from isoform.molecules.data.collate import collate
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import build_store

from .smiles import MOLECULES

pytest.importorskip("pyximport", reason="the collator of transformers is compiled by Cython")
peer = pytest.importorskip(
    "transformers.models.deprecated.graphormer.collating_graphormer", exc_type=ImportError,
    reason="Graphormer is in transformers 4.57.6 and not later",
)  # fmt: skip


def test_ids_are_those_of_the_peer():
    graphs = featurise_many(MOLECULES).graphs
    items = []
    for m in range(len(graphs)):
        atoms, bonds, ends = graphs.graph(m)
        items.append(
            {"node_feat": atoms, "edge_attr": bonds, "edge_index": ends.T, "num_nodes": len(atoms), "y": [0.0]}
        )  # fmt: skip
    want = peer.GraphormerDataCollator(spatial_pos_max=1024, on_the_fly_processing=True)(items)
    got = collate(build_store(graphs), range(len(graphs)), hf_compat=True)
    for own, official in (
        ("atoms", "input_nodes"),
        ("distance_ids", "spatial_pos"),
        ("degree", "in_degree"),
    ):
        assert torch.equal(got[own].long(), want[official]), own
    assert torch.equal(got["path_bond_ids"].long(), want["input_edges"][..., :5, :].long())
