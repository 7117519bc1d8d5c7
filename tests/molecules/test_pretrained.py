"""Official checkpoints: both forms come back bit for bit, sizes and options are read, contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from checks import assert_same_bits
from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import differences
from isoform.molecules.config import (
    HeadConfig,
    ModelConfig,
    MoleculesApp,
    ScoreConfig,
    TokeniserConfig,
)
from isoform.molecules.graphormer.collator_ids import TABLE
from isoform.molecules.graphormer.export_official import (
    export_official,
    unsupported_by_official,
    write_fairseq,
    write_transformers,
)
from isoform.molecules.graphormer.model import sized
from isoform.molecules.graphormer.official import graphormer_settings, official_config
from isoform.molecules.graphormer.pretrained import import_checkpoint, initial_weights
from isoform.molecules.models import build_model
from isoform.molecules.state import MoleculesState, SourceState

from .batches import MIXED, app, batch_of, graphormer

SIZE = {
    "num_hidden_layers": 2,
    "embedding_dim": 24,
    "ffn_embedding_dim": 29,
    "num_attention_heads": 4,
}


def model_of(found: ImportedModel) -> torch.nn.Module:
    model = build_model(found.config, spare=found.state.spare)
    model.load_state_dict(dict(found.weights))
    return model.eval()


def made(folder: Path, layout: str = "fairseq", **keys: Any) -> tuple[Path, torch.nn.Module]:
    """A checkpoint of a small random model, and the model."""
    model = graphormer(spread=0.4, **keys)
    config = app("graphormer", model.backbone.config, **keys).model_copy(
        update={"head": HeadConfig(outputs=3)}
    )
    path = folder / layout
    if layout == "transformers":
        write_transformers(path, config, model.state_dict())
    else:
        write_fairseq(
            path, config, model.state_dict(), MoleculesState(source=SourceState(layout=layout))
        )
    return path, model


def shifted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With atoms where transformers' collator looks for them: a row later."""
    table = state[TABLE]
    return {**state, TABLE: torch.cat([table[:1], 0 * table[:1], table[1:]])}


# The stored forms --------------------------------------------------------------------------------------------------


def test_the_stored_forms_are_one_model(golden_dir: Path, tmp_path: Path) -> None:
    folder = golden_dir / "graphormer"
    fairseq = import_checkpoint(folder / "graphormer_preln.fairseq_layout.pt")
    hub = import_checkpoint(folder / "graphormer_preln.hf_layout")
    assert (fairseq.layout, hub.layout) == ("fairseq", "transformers")
    pooler = {"spare.pooler.weight", "spare.pooler.bias"}
    assert fairseq.weights.keys() - hub.weights.keys() == pooler
    assert_same_bits({n: t for n, t in fairseq.weights.items() if n not in pooler}, hub.weights)
    assert not differences(hub.config.backbone, fairseq.config.backbone)
    assert not hub.notes and len(fairseq.notes) == 3

    want = load_file(folder / "graphormer_preln.safetensors")
    batch = {
        ours: want[f"input/{name}"]
        for ours, name in (
            ("atoms", "input_nodes"), ("degree", "in_degree"), ("distance_ids", "spatial_pos"),
            ("path_bond_ids", "input_edges"),
        )
    }  # fmt: skip
    for found in (fairseq, hub):
        torch.testing.assert_close(model_of(found)(batch), want["output/logits"], atol=1e-5, rtol=0)

    write_fairseq(tmp_path / "again.pt", fairseq.config, fairseq.weights, fairseq.state)
    write_transformers(tmp_path / "again", hub.config, hub.weights, hub.state)
    stored = torch.load(folder / "graphormer_preln.fairseq_layout.pt", weights_only=True)
    assert_same_bits(torch.load(tmp_path / "again.pt", weights_only=True)["model"], stored["model"])
    for name in ("model.safetensors", "config.json"):
        ours, theirs = tmp_path / "again" / name, folder / "graphormer_preln.hf_layout" / name
        if name.endswith("json"):
            told = json.loads(theirs.read_text())
            told |= {"isoform_hf_compat": False, "num_atoms": told["num_atoms"] + 1}
            assert json.loads(ours.read_text()) == told
        else:
            assert_same_bits(load_file(ours), shifted(load_file(theirs)))
    assert_same_bits(dict(import_checkpoint(tmp_path / "again").weights), dict(hub.weights))


def test_from_one_form_to_the_other(golden_dir: Path, tmp_path: Path) -> None:
    """transformers has no pooler, so that one is left behind; fairseq's class asks for one, which nothing reads."""
    folder = golden_dir / "graphormer"
    fairseq = import_checkpoint(folder / "graphormer_preln.fairseq_layout.pt")
    write_transformers(tmp_path / "hub", fairseq.config, fairseq.weights, fairseq.state)
    hub = import_checkpoint(tmp_path / "hub")
    assert_same_bits(load_file(tmp_path / "hub" / "model.safetensors"),
                     shifted(load_file(folder / "graphormer_preln.hf_layout" / "model.safetensors")))  # fmt: skip
    write_fairseq(tmp_path / "back.pt", hub.config, hub.weights, hub.state)
    back = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    assert (
        back["encoder.masked_lm_pooler.weight"].shape == (24, 24)
        and not back["encoder.masked_lm_pooler.bias"].any()
    )
    again = import_checkpoint(tmp_path / "back.pt")
    batch = batch_of(*MIXED)
    assert torch.equal(model_of(again)(batch), model_of(fairseq)(batch))


# Sizes and options -------------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "post": {},
    "pre": {"order": "pre"},
    "no norm": {"tokeniser__norm": False},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "other tables": {"score__distance_ids": 515, "score__bond_ids": 1549, "tokeniser__atom_ids": 4621,
                     "tokeniser__degree_ids": 13, "tokeniser__out_degree_ids": 17},
    "matrices": {"score__hop_matrices": 11},
    "one layer": {"depth": 1},
}  # fmt: skip


@pytest.mark.parametrize("layout", ["fairseq", "fairseq-old", "transformers"])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_comes_back(tmp_path: Path, name: str, layout: str) -> None:
    path, model = made(tmp_path, layout, **OPTIONS[name])
    found = import_checkpoint(path)
    assert found.layout == layout
    again = model_of(found)
    batch = batch_of(*MIXED)
    assert torch.equal(again(batch), model(batch))
    state = export_official(found.config, found.weights, found.state)
    raw = (
        load_file(path / "model.safetensors")
        if path.is_dir()
        else torch.load(path, weights_only=True)["model"]
    )
    assert_same_bits(shifted(state) if path.is_dir() else state, raw)


def test_what_config_json_says_is_honoured(tmp_path: Path) -> None:
    keys = {"channel": "relu", "score__hops": 3, "score__hop_matrices": 7, "score__reach": 2, "dropout": 0.2,
            "mlp_dropout": 0.1, "attention_dropout": 0.3, "tokeniser__dropout": 0.2}  # fmt: skip
    path, model = made(tmp_path, "transformers", **keys)
    found = import_checkpoint(path)
    b, score = found.config.backbone, found.config.score
    assert (b.channel, score.hops, score.hop_matrices, score.reach) == ("relu", 3, 7, 2)
    assert (b.dropout, b.mlp_dropout, b.attention_dropout, found.config.tokeniser.dropout) == (
        0.2,
        0.1,
        0.3,
        0.2,
    )
    batch = batch_of(*MIXED)
    assert torch.equal(model_of(found)(batch), model(batch)) and not found.notes


def test_what_a_file_can_not_say_is_the_default_with_a_note_or_set(tmp_path: Path) -> None:
    path, model = made(
        tmp_path, channel="relu", score__hops=3, score__hop_matrices=7, score__reach=2
    )
    assert [note.split(": ")[0] for note in import_checkpoint(path).notes] == [
        "the file doesn't say its activation", "the file doesn't say how long a path it reads",
        "the file doesn't say beyond which distance atoms are hidden",
    ]  # fmt: skip
    settings = MoleculesApp(
        domain="molecules",
        app="mine",
        backbone=BackboneConfig(channel="relu"),
        score=ScoreConfig(hops=3, reach=2),
    )
    found = import_checkpoint(path, None, settings)
    batch = batch_of(*MIXED)
    assert found.config.app == "mine" and not found.notes
    assert torch.equal(model_of(found)(batch), model(batch))


def test_official_hyper_parameters_there_and_back() -> None:
    official = {
        **SIZE, "num_classes": 5, "num_atoms": 100, "num_edges": 50, "num_in_degree": 13, "num_out_degree": 17,
        "num_spatial": 40, "num_edge_dis": 9, "multi_hop_max_dist": 7, "spatial_pos_max": 20, "dropout": 0.1,
        "attention_dropout": 0.2, "activation_dropout": 0.3, "activation_fn": "relu", "pre_layernorm": True,
        "encoder_normalize_before": False, "bias": False, "edge_type": "multi_hop",
    }  # fmt: skip
    written = official_config(graphormer_settings(official))
    assert {key: written[key] for key in official} == official
    fairseq = {"encoder_layers": 2, "encoder_embed_dim": 24, "encoder_ffn_embed_dim": 29, "encoder_attention_heads": 4,
               "act_dropout": 0.3}  # fmt: skip
    b = graphormer_settings(fairseq).backbone
    assert (b.depth, b.dim, b.mlp_dim, b.heads, b.mlp_dropout) == (2, 24, 29, 4, 0.3)


def test_an_original_config_is_kept_where_it_says_the_same() -> None:
    original = {
        **SIZE,
        "activation_fn": "gelu_fast",
        "spatial_pos_max": 2048,
        "max_nodes": 77,
        "use_bfloat16": False,
    }
    config = graphormer_settings(original).model_copy(update={"head": HeadConfig(outputs=1)})
    written = official_config(config, original)
    assert {key: written[key] for key in original} == original
    changed = config.model_copy(update={"head": HeadConfig(outputs=3)})
    assert official_config(changed, {**original, "num_classes": 1})["num_classes"] == 3


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("official", "reason"),
    [
        ({"edge_type": "single"}, "edge_type = 'single' can't be honoured"),
        ({"layerdrop": 0.1}, "layerdrop = 0.1"),
        ({"embed_scale": 2.0}, "embed_scale = 2.0"),
        ({"q_noise": 0.1}, "q_noise"),
        ({"self_attention": False}, "self_attention"),
        ({"share_input_output_embed": True}, "share_input_output_embed"),
        ({"num_trans_layers_to_freeze": 2}, "num_trans_layers_to_freeze"),
        ({"embedding_dim": 24, "kdim": 12}, "kdim = 12"),
        ({"activation_fn": "tanh"}, "activation_fn = 'tanh' can't be honoured; there are gelu"),
        ({"pre_layernorm": "yes"}, "pre_layernorm = 'yes'"),
        ({"multi_hop_max_dist": 0}, "hops = 0 can't be honoured"),
        ({"spatial_pos_max": 0}, "reach = 0 can't be honoured"),
        ({"num_attention_heads": "four"}, "heads = 'four'"),
        ({"attn_dropuot": 0.1}, "attn_dropuot: not known"),
        (
            {"hidden_size": 32, "embedding_dim": 24},
            "embedding_dim = 24 contradicts hidden_size = 32",
        ),
        ({"num_atoms": "many"}, "atom_ids = 'many'"),
    ],
)
def test_official_values_that_can_not_be_honoured(official: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        graphormer_settings(official)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"backbone": BackboneConfig(depth=3)},
            "backbone.depth = 3 is set, but the weights of fairseq have 2",
        ),
        ({"backbone": BackboneConfig(heads=8)}, "backbone.heads = 8 is set"),
        ({"backbone": BackboneConfig(order="pre")}, "backbone.order = 'pre' is set"),
        ({"backbone": BackboneConfig(mixer="neighbour")}, "backbone.mixer = 'neighbour' is set"),
        ({"backbone": BackboneConfig(final_norm=True)}, "backbone.final_norm = True is set"),
        ({"score": ScoreConfig(hops=6)}, "matrices of 5 hops, fewer than"),
        (
            {"score": ScoreConfig(hop_matrices=6)},
            "score.hop_matrices = 6 is set, but the weights of fairseq have 5",
        ),
        (
            {"score": ScoreConfig(bond_ids=7)},
            "score.bond_ids = 7 is set, but the weights of fairseq have 1537",
        ),
        ({"tokeniser": TokeniserConfig(norm=False)}, "tokeniser.norm = False is set"),
        ({"tokeniser": TokeniserConfig(graph_token=False)}, "tokeniser.graph_token = False is set"),
        ({"tokeniser": TokeniserConfig(laplacian=8)}, "tokeniser.laplacian = 8 is set"),
        ({"head": HeadConfig(outputs=2)}, "head.outputs = 2 is set"),
        ({"head": HeadConfig(pool="mean")}, "head.pool = 'mean' is set"),
        ({"model": ModelConfig(family="gt")}, 'model.family = "gt" is set'),
    ],
)
def test_settings_that_contradict_the_file(tmp_path: Path, settings: dict, reason: str) -> None:
    path, _ = made(tmp_path)
    with pytest.raises(UserError, match=reason):
        import_checkpoint(path, None, MoleculesApp(domain="molecules", app="mine", **settings))


def test_settings_that_contradict_config_json(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "transformers")
    asked = MoleculesApp(domain="molecules", app="mine", score=ScoreConfig(hops=4))
    with pytest.raises(UserError, match=r"score\.hops = 4 is set, but transformers has 5"):
        import_checkpoint(path, None, asked)
    trained = MoleculesApp(domain="molecules", app="mine", backbone=BackboneConfig(dropout=0.3))
    assert import_checkpoint(path, None, trained).config.backbone.dropout == 0.3
    config = json.loads((path / "config.json").read_text())
    for key, value, reason in (
        (
            "num_hidden_layers",
            3,
            "backbone.depth = 3 config.json says, but the weights of transformers have 2",
        ),
        ("pre_layernorm", True, "backbone.order = 'pre' config.json says"),
        ("num_edge_dis", 6, "score.hop_matrices = 6 config.json says"),
        ("num_classes", 7, "head.outputs = 7 config.json says"),
        ("encoder_normalize_before", False, "tokeniser.norm = False config.json says"),
        ("model_type", "bert", "is of a 'bert' model"),
        ("layerdrop", 0.5, "layerdrop = 0.5 can't be honoured"),
        ("new_thing", 1, "new_thing: not known"),
    ):
        (path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UserError, match=reason):
            import_checkpoint(path)


def without(name: str):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("encoder.embed_out.weight"), "no layout of Graphormer with its head"),
        (without("encoder.graph_encoder.graph_attn_bias.edge_dis_encoder.weight"), "has no matrices of hops"),
        (without("encoder.graph_encoder.layers.1.fc1.weight"), "nothing sets our backbone.blocks.1.channel.inner.fc1"),
        (without("encoder.graph_encoder.layers.0.self_attn.k_proj.bias"), "is there without"),
        (without("encoder.graph_encoder.layers.0.fc1.weight"), "has no tensor encoder.graph_encoder.layers.0.fc1"),
        (lambda s: s.update({"encoder.extra": torch.zeros(1)}), "encoder.extra .* is not known"),
        (lambda s: s.update({"encoder.graph_encoder.graph_attn_bias.spatial_pos_encoder.weight": torch.zeros(512, 5)}),
         "5 heads fit neither 24 features nor"),
        (lambda s: s.update({"encoder.graph_encoder.graph_attn_bias.spatial_pos_encoder.weight": torch.zeros(512)}),
         "not 2 axes"),
        (lambda s: s.update({"encoder.embed_out.weight": torch.zeros(3, 25)}), "head.out.weight has"),
    ],
)  # fmt: skip
def test_damaged_checkpoints(tmp_path: Path, change, reason: str) -> None:
    path, _ = made(tmp_path)
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    change(state)
    torch.save({"model": state}, path)
    with pytest.raises(UserError, match=reason):
        import_checkpoint(path)


def test_layouts_by_name(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    assert import_checkpoint(path, "fairseq").layout == "fairseq"
    with pytest.raises(UserError, match="there is no such layout"):
        import_checkpoint(path, "keras")
    with pytest.raises(UserError, match=r"has no tensor classifier\.classifier\.weight"):
        import_checkpoint(path, "transformers")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"backbone": {"order": "res_post"}}, "backbone.order"),
        ({"backbone": {"channel": "swiglu"}}, "backbone.channel"),
        ({"backbone": {"final_norm": True}}, "backbone.final_norm"),
        ({"backbone": {"layer_scale": 0.1}}, "backbone.layer_scale"),
        ({"tokeniser": {"graph_token": False}}, "tokeniser.graph_token is False"),
        ({"tokeniser": {"degree_ids": 0}}, "tokeniser.degree_ids"),
        ({"head": {"pool": "mean"}}, "head.pool is 'mean'"),
        ({"head": {"hidden": False}}, "head.hidden is False"),
        ({"model": {"family": "gt"}}, "model.family is 'gt'"),
    ],
)
def test_models_that_official_code_has_not(table: dict, reason: str) -> None:
    base = MoleculesApp(domain="molecules", app="x", backbone=sized("slim"))
    assert not unsupported_by_official(base)
    changed = base.model_copy(
        update={name: getattr(base, name).model_copy(update=keys) for name, keys in table.items()}
    )  # fmt: skip
    with pytest.raises(UserError, match=f"no model like this one.*{reason}"):
        export_official(changed, {})


# Starting from them ------------------------------------------------------------------------------------------------


def test_training_starts_from_an_official_file(tmp_path: Path) -> None:
    """The app's own score holds as many matrices as it reads; what nothing reads is left behind."""
    path, model = made(tmp_path, order="pre", score__hop_matrices=11)
    mine = MoleculesApp(
        domain="molecules", app="x", backbone=BackboneConfig(dim=24, depth=2, heads=4, order="pre")
    )
    start = initial_weights(str(path), mine)
    assert start.weights["backbone.score.hops"].shape == (5, 4, 4)
    assert not any(name.startswith("spare") for name in start.weights)
    fresh = graphormer(order="pre")
    missing, unexpected = fresh.load_state_dict(dict(start.weights), strict=False)
    assert not missing and not unexpected
    batch = batch_of(*MIXED)
    assert torch.equal(fresh(batch), model(batch))
