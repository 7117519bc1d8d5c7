"""Graphormer live beside transformers 4.57.6, the last release that has it: same weights, same inputs, same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from isoform.molecules.config import HeadConfig
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.graphormer.export_official import export_official, write_transformers
from isoform.molecules.graphormer.pretrained import import_checkpoint
from isoform.molecules.models import build_model

from .batches import MIXED, QM9, app, batch_of, graphormer

try:
    from transformers.models.deprecated.graphormer.configuration_graphormer import GraphormerConfig
    from transformers.models.deprecated.graphormer.modeling_graphormer import (
        GraphormerForGraphClassification,
    )
except Exception as error:  # noqa: BLE001  a transformers that can't be imported has many ways to say so
    pytest.skip(
        f"no transformers with Graphormer (4.57.6 is the last): {error}", allow_module_level=True
    )

SLIM = {
    "num_hidden_layers": 12,
    "embedding_dim": 80,
    "ffn_embedding_dim": 80,
    "num_attention_heads": 8,
}


def peer(**changes: object) -> nn.Module:
    """A fresh model, its zeros and ones made random as well."""
    torch.manual_seed(0)
    model = GraphormerForGraphClassification(
        GraphormerConfig(**{**SLIM, "encoder_normalize_before": True, **changes})
    )
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, float("norm.weight" in name), 0.1)
        elif "graph_attn_bias" in name:
            nn.init.normal_(parameter, std=0.3)
            with torch.no_grad():
                parameter[0] *= float(
                    "encoder.weight" not in name or "edge_dis" in name
                )  # padding's row is zero
    return model.eval()


def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our batch as the peer takes it."""
    n_batch, n = batch["valid"].shape
    return {
        "input_nodes": batch["atoms"].long(), "input_edges": batch["path_bond_ids"].long(),
        "attn_bias": torch.zeros(n_batch, n + 1, n + 1), "in_degree": batch["degree"].long(),
        "out_degree": batch["degree"].long(), "spatial_pos": batch["distance_ids"].long(),
        "attn_edge_type": torch.zeros(n_batch, n, n, 3, dtype=torch.long),
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pre_layernorm": True},
        {"activation_fn": "relu", "num_classes": 3, "encoder_normalize_before": False},
    ],
    ids=["post", "pre", "relu"],
)
@pytest.mark.parametrize("compat", [False, True], ids=["", "compat"])
def test_slim_on_50_molecules(tmp_path: Path, changes: dict, compat: bool) -> None:
    theirs = peer(**changes)
    theirs.save_pretrained(tmp_path / "peer")
    found = import_checkpoint(tmp_path / "peer")
    ours = build_model(found.config, spare=found.state.spare).eval()
    ours.load_state_dict(dict(found.weights))
    assert len(QM9) == 50
    for molecules in (QM9, MIXED):
        batch = batch_of(*molecules, hf_compat=compat)
        want = theirs(**inputs(batch)).logits
        got = ours(batch)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
        assert want.std() > 1e-3

    # Gradients of every tensor, under its official name.
    weight = torch.sin(torch.arange(got.numel())).view_as(got)
    (want * weight).sum().backward()
    (got * weight).sum().backward()
    grads = {name: parameter.grad for name, parameter in ours.named_parameters()}
    named = {name: grads.get(name, torch.zeros_like(t)) for name, t in ours.state_dict().items()}
    official = export_official(found.config, named, found.state)
    for name, parameter in theirs.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            official[name], grad, atol=3e-5 * max(1.0, float(grad.abs().max())), rtol=0
        )

    # What we write, they read, with the ids of their collator.
    config = found.config.model_copy(
        update={"tokeniser": found.config.tokeniser.model_copy(update={"hf_compat": compat})}
    )
    write_transformers(tmp_path / "ours", config, found.weights, found.state)
    again, told = GraphormerForGraphClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    batch = batch_of(*MIXED, hf_compat=True)
    assert torch.equal(again.eval()(**inputs(batch)).logits, want)


@pytest.mark.parametrize("compat", [False, True], ids=["", "compat"])
def test_their_own_collator_gives_our_numbers(tmp_path: Path, compat: bool) -> None:
    """SMILES to prediction through their whole pipeline: graphs of OGB's features, collator, model."""
    collating = pytest.importorskip(
        "transformers.models.deprecated.graphormer.collating_graphormer",
        reason="their collator needs Cython below 3.1 and a compiler",
        exc_type=ImportError,
    )
    ours = graphormer(spread=0.3, tokeniser__hf_compat=compat)
    config = app("graphormer", ours.backbone.config, tokeniser__hf_compat=compat).model_copy(
        update={"head": HeadConfig(outputs=3)}
    )
    write_transformers(tmp_path / "ours", config, ours.state_dict())
    theirs = GraphormerForGraphClassification.from_pretrained(tmp_path / "ours").eval()
    collator = collating.GraphormerDataCollator(
        spatial_pos_max=theirs.config.spatial_pos_max, on_the_fly_processing=True
    )
    molecules = MIXED + QM9[3:7]
    graphs = featurise_many(molecules).graphs
    given = []
    for i in range(len(molecules)):
        atoms = slice(*graphs.atom_offsets[i : i + 2])
        bonds = slice(*graphs.bond_offsets[i : i + 2])
        given.append(
            {
                "node_feat": graphs.atoms[atoms],
                "num_nodes": atoms.stop - atoms.start,
                "edge_index": graphs.ends[bonds].T,
                "edge_attr": graphs.bonds[bonds],
                "labels": [0.0],
            }
        )
    batch = collator(given)
    del batch["labels"]
    with torch.no_grad():
        got, want = theirs(**batch).logits, ours(batch_of(*molecules, hf_compat=compat))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    assert want.std() > 1e-3
