"""Graphormer's official checkpoints in isoform's layout, and back: what `isoform molecules import` and `export` run.

layout.py has the layouts and their names, official.py the hyper-parameters, export_official.py the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import TRAINING_KEYS, need, refuse_other, settings_of, table, widths_of
from isoform.core.pretrained.source import Source, choose_layout, read_source
from isoform.molecules.config import HeadConfig, ModelConfig, MoleculesApp, TokeniserConfig
from isoform.molecules.graphormer.export_official import export_official
from isoform.molecules.graphormer.layout import ENCODER, HEADS, LAYER, LAYOUTS, SPARE, layout_of, trunk_layout
from isoform.molecules.graphormer.model import TRUNK, Graphormer
from isoform.molecules.graphormer.official import graphormer_settings

# What a file can't tell and a setting may choose, beside what changes nothing in evaluation.
CHOSEN = {"channel", "score_hops", "score_reach"} | TRAINING_KEYS
# What of the tokeniser changes nothing in evaluation, or how SMILES are featurised in front of it.
FREE_TOKENISER = TRAINING_KEYS | {"hf_compat"}
NOTES = {
    "channel": "its activation: gelu, the official default (backbone.channel)",
    "score_hops": "how long a path it reads: 5 bonds, the official default (backbone.score_hops)",
    "score_reach": "beyond which distance atoms are hidden: none, as by default (backbone.score_reach)",
}


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: MoleculesApp | None = None
) -> ImportedModel:
    """An official Graphormer, whole, in isoform's names, with the app config that rebuilds it.

    source   a checkpoint file, a folder with config.json, or hf:OWNER/NAME[@REVISION]
    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what the source can't tell (activation, longest path, reach) is taken from the keys that somebody
             set, else it is the official default and a note says so; a key that contradicts the source is refused.
             data.task, data.targets and data.classes say what the outputs are, else regression targets without names
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    found = read_source(source)
    model_type = found.config.get("model_type")
    if found.folder is not None and model_type != "graphormer":
        raise UserError(f"{found.name}: config.json is of a {model_type!r} model, not of 'graphormer'")
    kind = choose_layout(found, layout, LAYOUTS, recognise, "Graphormer with its head")
    told = graphormer_settings(found.config) if found.config else None
    tables, notes = _tables(found, kind, told, config)
    base = config or MoleculesApp(domain="molecules", app="imported")
    app = base.model_copy(update=tables)
    spare = {own: list(found.state[name].shape) for name, own in SPARE.items() if name in found.state}
    outputs = app.head.outputs
    if outputs < 1:
        raise UserError(f"{found.name}: its last layer has no outputs")
    with torch.device("meta"):
        own = Graphormer(app, outputs, spare).state_dict()
    loaded = layout_of(app, kind).read(found.state, own, where=found.name)
    origin: dict[str, Any] = {"layout": kind, "spare": spare}
    if found.config:
        origin["config"] = found.config
    portable: dict[str, Any] = {"source": origin}
    if app.data.task != "auto":
        portable["kind"] = app.data.task
    names = app.data.classes if app.data.task == "multiclass" else app.data.targets
    if names:
        if len(names) != outputs:
            raise UserError(f"{found.name}: has {outputs} outputs, and {len(names)} names are set for them")
        portable["names"] = list(names)
    return ImportedModel(app, loaded.weights, portable, kind, (*notes, *loaded.notes), found.licence)


def recognise(source: Source) -> str | None:
    """One of LAYOUTS, or None where no Graphormer with its head has such names."""
    state = source.state
    if f"{ENCODER}.graph_node_feature.atom_encoder.weight" not in state:
        return None
    kind = next((kind for kind, (out, _) in HEADS.items() if out in state), None)
    old = any(".self_attn.in_proj_" in name for name in state)
    return "fairseq-old" if old and kind == "fairseq" else kind


def _tables(
    found: Source, kind: str, told: MoleculesApp | None, config: MoleculesApp | None
) -> tuple[dict[str, Any], list[str]]:
    """What the tensors, then config.json and the settings say of each table; UserError where they disagree."""
    state, where = found.state, found.name
    backbone, tokeniser, outputs = _shapes(state, kind, where)
    if settings_of(config, "model").get("family", "graphormer") != "graphormer":
        raise UserError(f'model.family = "gt" is set, but {where} is a Graphormer: leave it out')
    chosen = {key: value for key, value in settings_of(told, "backbone").items() if key in CHOSEN}
    set_ = {key: value for key, value in settings_of(config, "backbone").items() if key in CHOSEN}
    notes = [f"the file doesn't say {note}" for key, note in NOTES.items() if key not in {*chosen, *set_}]
    for source, origin in ((told, "config.json says"), (config, "is set")):
        _agree(source, origin, {**backbone, **(chosen if source is config else {})}, tokeniser, outputs, where)
    if told is not None:  # config.json speaks of the function; a setting may change what training does
        refuse_other("backbone", set_, chosen, where, TRAINING_KEYS)
    given = {**settings_of(told, "tokeniser"), **settings_of(config, "tokeniser")}
    kept = {key: value for key, value in given.items() if key in FREE_TOKENISER}
    head = {key: value for key, value in settings_of(config, "head").items() if key in TRAINING_KEYS}
    trunk = table(BackboneConfig, {**backbone, **chosen, **set_}, where)
    tables: dict[str, Any] = {
        "model": ModelConfig(),
        "backbone": trunk,
        "tokeniser": table(TokeniserConfig, {**tokeniser, **kept}, where),
        "head": table(HeadConfig, {**head, "outputs": outputs}, where),
    }
    if backbone["score_matrices"] < trunk.score_hops:
        raise UserError(
            f"{where}: holds matrices of {backbone['score_matrices']} hops, fewer than backbone.score_hops = "
            f"{trunk.score_hops}"
        )
    return tables, notes


def _shapes(state: Mapping[str, Tensor], kind: str, where: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The tables' keys that the tensors tell. Raises UserError for shapes that make no Graphormer."""
    bias, node, layer = (f"{ENCODER}.{name}" for name in ("graph_attn_bias", "graph_node_feature", "layers.0"))
    if f"{bias}.edge_dis_encoder.weight" not in state:
        raise UserError(
            f"{where}: has no matrices of hops, and isoform's Graphormer knows edge_type = 'multi_hop' alone"
        )
    spatial = need(state, f"{bias}.spatial_pos_encoder.weight", 2, where)
    stored = need(state, f"{bias}.edge_dis_encoder.weight", 2, where).numel()
    atoms = need(state, f"{node}.atom_encoder.weight", 2, where)
    (rows, dim), (distances, heads) = atoms.shape, spatial.shape
    degrees = [len(need(state, f"{node}.{n}_degree_encoder.weight", 2, where)) for n in ("in", "out")]
    if heads == 0 or dim % heads or stored == 0 or stored % heads**2:
        raise UserError(f"{where}: {heads} heads fit neither {dim} features nor {stored} numbers of hop matrices")
    pre = f"{ENCODER}.final_layer_norm.weight" in state
    backbone = {
        **{key: value for key, value in TRUNK.items() if key != "score_hops"},
        "dim": dim, "depth": 1 + max((int(m[1]) for n in state if (m := LAYER.match(n))), default=-1), "heads": heads,
        "mlp_dim": len(need(state, f"{layer}.fc1.weight", 2, where)), "order": "pre" if pre else "post",
        "score_ids": distances, "score_matrices": stored // heads**2,
        "score_edge_ids": len(need(state, f"{bias}.edge_encoder.weight", 2, where)),
    }  # fmt: skip
    attention = "in_proj_bias" if kind == "fairseq-old" else "q_proj.bias"
    if f"{layer}.self_attn.{attention}" not in state:
        backbone |= {"qkv_bias": False, "proj_bias": False}
    tokeniser = {
        "atom_ids": rows, "degree_ids": degrees[0], "out_degree_ids": degrees[1],
        "norm": f"{ENCODER}.emb_layer_norm.weight" in state,
    }  # fmt: skip
    out = need(state, HEADS["transformers" if kind == "transformers" else "fairseq"][0], 2, where)
    return backbone, tokeniser, len(out)


def _agree(
    source: MoleculesApp | None, origin: str, backbone: dict[str, Any], tokeniser: dict[str, Any], outputs: int,
    where: str,
) -> None:  # fmt: skip
    """Raises UserError for a key of `source` that says something else than the tensors do."""
    have = widths_of(table(BackboneConfig, backbone, where))
    wanted = widths_of(table(BackboneConfig, {**backbone, **settings_of(source, "backbone")}, where))
    pairs = [(f"backbone.{k}", wanted[k], have[k]) for k in settings_of(source, "backbone") if k not in CHOSEN]
    plain = {**TokeniserConfig().model_dump(), **tokeniser}
    free = {"dropout", "hf_compat", "bond_ids"}
    pairs += [(f"tokeniser.{k}", v, plain[k]) for k, v in settings_of(source, "tokeniser").items() if k not in free]
    head = {**HeadConfig().model_dump(), "outputs": outputs}
    pairs += [(f"head.{k}", v, head[k]) for k, v in settings_of(source, "head").items() if k != "dropout"]
    for key, value, has in pairs:
        if value != has and not (key == "head.outputs" and value == 0):
            raise UserError(f"{key} = {value!r} {origin}, but the weights of {where} have {has!r}")


def initial_weights(source: str | Path | Source, config: MoleculesApp) -> InitialWeights:
    """The weights of an official checkpoint that `train.init` names.

    Other outputs are no contradiction: a head of another size starts fresh. Matrices of hops beyond what the app's
    score holds are left out.
    """
    opened, b = read_source(source), config.backbone
    backbone = BackboneConfig(channel=b.channel, score_hops=b.score_hops, score_reach=b.score_reach)
    asked = MoleculesApp(domain=config.domain, app=config.app, backbone=backbone)
    imported = import_checkpoint(opened, None, asked)
    weights = {name: tensor for name, tensor in imported.weights.items() if not name.startswith("spare.")}
    weights["backbone.score.hops"] = weights["backbone.score.hops"][: b.score_matrices or b.score_hops]
    return InitialWeights(weights, opened.name, config.domain, imported.licence)


__all__ = [
    "LAYOUTS",
    "export_official",
    "import_checkpoint",
    "initial_weights",
    "layout_of",
    "recognise",
    "trunk_layout",
]
