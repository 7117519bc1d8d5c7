"""Adapters of the molecule kinds: a case in, an assertion out; `tmp_path` is where checkpoints for the importer go."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from checks import assert_same_bits
from golden.cases import Case
from golden.losses import molecules_loss, of_model
from isoform.molecules.graphormer.export_official import export_official
from isoform.molecules.graphormer.official import graphormer_settings
from isoform.molecules.graphormer.pretrained import import_checkpoint
from isoform.molecules.models import build_model

# official input -> ours
BATCH = {
    "input_nodes": "atoms", "in_degree": "degree", "out_degree": "out_degree", "spatial_pos": "distance_ids",
    "input_edges": "path_bond_ids", "attn_bias": "bias",
}  # fmt: skip


def graphormer(case: Case, tmp_path: Path) -> None:
    """Embedding, score bias, states, head, logits, loss and gradients, after the weights came back bit for bit."""
    file = tmp_path / "model.safetensors"
    save_file(case.weights, file)
    found = import_checkpoint(file, None, graphormer_settings(of_model(case)))
    assert_same_bits(export_official(found.config, found.weights, found.state), case.weights)
    model = build_model(found.config, spare=found.state.spare)
    model.load_state_dict(dict(found.weights))
    model.eval()

    batch = {ours: case.input[name] for name, ours in BATCH.items()}
    tokens, states = model.tokens(batch), model.states(batch)
    real = tokens.mask()
    logits = model(batch)
    output = {
        "embedding": tokens.x,
        "encoder_states": states.x,
        "head_hidden": model.head.hidden(states.x),
        "attn_bias": (model.backbone.score(tokens).to_dense() + 2 * batch["bias"][:, None]),
        "logits": logits,
    }
    for name in ("encoder_states", "head_hidden"):  # padding holds no meaning behind the trunk
        output[name] = torch.where(real[..., None], output[name], case.output[name])
    grad = {}
    if "labels" in case.input:
        output["loss"] = molecules_loss(case, found.config, model, batch)
        output["loss"].backward()
        known = {name: p.grad for name, p in model.named_parameters()}
        grads = {
            name: known.get(name, torch.zeros_like(t)) for name, t in model.state_dict().items()
        }
        grad = export_official(found.config, grads, found.state)
    case.compare(output=output, grad=grad)


KINDS = {"graphormer": graphormer}
