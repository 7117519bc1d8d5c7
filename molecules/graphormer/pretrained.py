"""Graphormer's official checkpoints in isoform's layout, and back: what `isoform molecules import` and `export` run.

layout        where it comes from
fairseq       microsoft/Graphormer: {"model": state dict}
fairseq-old   the same with queries, keys and values in one in_proj
transformers  GraphormerForGraphClassification: a folder with config.json, hf:OWNER/NAME, or its state dict alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Rule, hub, join, rename, reshape, state_dict_of
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.pretrained.settings import CHANGEABLE, need, settings_of, table, widths_of
from isoform.molecules.config import HeadConfig, ModelConfig, MoleculesApp, TokeniserConfig
from isoform.molecules.graphormer.model import TRUNK
from isoform.molecules.graphormer.official import graphormer_settings
from isoform.molecules.models import build_model
from isoform.molecules.state import MoleculesState, SourceState

LAYOUTS = ("fairseq", "fairseq-old", "transformers")
STATE_KEYS = ("model", "state_dict", "model_state_dict")
ENCODER = "encoder.graph_encoder"
LAYER = re.compile(rf"{re.escape(ENCODER)}\.layers\.(\d+)\.")
HEADS = {
    "fairseq": ("encoder.embed_out.weight", "encoder.lm_output_learned_bias"),
    "transformers": ("classifier.classifier.weight", "classifier.lm_output_learned_bias"),
}
# What files hold and nothing reads.
SPARE = {
    f"{foreign}.{leaf}": f"{own}.{leaf}"
    for foreign, own in ((f"{ENCODER}.final_layer_norm", "final_norm"), ("encoder.masked_lm_pooler", "pooler"))
    for leaf in ("weight", "bias")
}
# What a file can't tell and a setting may choose, beside what changes nothing in evaluation.
CHOSEN = {"channel", "score_hops", "score_reach"} | CHANGEABLE
NOTES = {
    "channel": "its activation: gelu, the official default (backbone.channel)",
    "score_hops": "how long a path it reads: 5 bonds, the official default (backbone.score_hops)",
    "score_reach": "beyond which distance atoms are hidden: none, as by default (backbone.score_reach)",
}


def _named(foreign: str, own: str) -> Rule:
    return rename(foreign + ".{p}", own + ".{p}")


def trunk_layout(pre: bool, *, own: str = "", old: bool = False) -> Layout:
    """The encoder layers' names beside the Backbone's; `old`: queries, keys and values are one tensor."""
    layer, block = f"{ENCODER}.layers.{{i}}", f"{own}blocks.{{i}}"
    norms = ("mixer.norm", "channel.norm") if pre else ("norms.mixer", "norms.channel")
    qkv = f"{block}.mixer.inner.qkv.{{p}}"
    return Layout("graphormer trunk", (
        rename(f"{layer}.self_attn.in_proj_{{p}}", qkv)
        if old else join([f"{layer}.self_attn.{n}_proj.{{p}}" for n in "qkv"], qkv),
        _named(f"{layer}.self_attn.out_proj", f"{block}.mixer.inner.proj"),
        _named(f"{layer}.fc1", f"{block}.channel.inner.fc1"),
        _named(f"{layer}.fc2", f"{block}.channel.inner.fc2"),
        _named(f"{layer}.self_attn_layer_norm", f"{block}.{norms[0]}"),
        _named(f"{layer}.final_layer_norm", f"{block}.{norms[1]}"),
    ))  # fmt: skip


def layout_of(kind: str, backbone: BackboneConfig) -> Layout:
    """The rules of one of LAYOUTS for a trunk of that table.

    A pre-norm encoder's final_layer_norm, and fairseq's masked_lm_pooler, are stored and read by nothing.
    """
    heads, matrices = backbone.heads, backbone.score_matrices or backbone.score_hops
    node, bias = f"{ENCODER}.graph_node_feature", f"{ENCODER}.graph_attn_bias"
    out, scalar = HEADS["transformers" if kind == "transformers" else "fairseq"]
    hops = reshape((matrices * heads * heads, 1), (matrices, heads, heads))
    return Layout(kind, (
        rename(f"{node}.atom_encoder.weight", "tokeniser.atoms.features.weight"),
        rename(f"{node}.in_degree_encoder.weight", "tokeniser.atoms.in_degree.weight"),
        rename(f"{node}.out_degree_encoder.weight", "tokeniser.atoms.out_degree.weight"),
        rename(f"{node}.graph_token.weight", "tokeniser.graph_token"),
        rename(f"{bias}.spatial_pos_encoder.weight", "backbone.score.spatial"),
        rename(f"{bias}.edge_encoder.weight", "backbone.score.edges"),
        rename(f"{bias}.edge_dis_encoder.weight", "backbone.score.hops", hops),
        rename(f"{bias}.graph_token_virtual_distance.weight", "backbone.score.virtual"),
        _named(f"{ENCODER}.emb_layer_norm", "tokeniser.norm"),
        _named(f"{ENCODER}.final_layer_norm", "spare.final_norm"),
        *trunk_layout(backbone.order == "pre", own="backbone.", old=kind == "fairseq-old").rules,
        _named("encoder.lm_head_transform_weight", "head.transform"),
        _named("encoder.layer_norm", "head.norm"),
        _named("encoder.masked_lm_pooler", "spare.pooler"),
        rename(scalar, "head.bias"),
        rename(out, "head.out.weight"),
    ))  # fmt: skip


@dataclass(frozen=True)
class Source:
    """An official checkpoint: its tensors, its config.json where it has one, and where it comes from."""

    state: Mapping[str, Tensor]
    where: str
    config: dict[str, Any] = field(default_factory=dict)
    licence: str = "unknown"


def import_checkpoint(
    source: str | Path, layout: str | None = None, config: MoleculesApp | None = None
) -> ImportedModel[MoleculesApp, MoleculesState]:
    """An official Graphormer, whole, in isoform's names, with the app config that rebuilds it.

    source   a checkpoint file, a folder with config.json, or hf:OWNER/NAME[@REVISION]
    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what the source can't tell (activation, longest path, reach) is taken from the keys that somebody
             set, else it is the official default and a note says so; a key that contradicts the source is refused.
             data.task, data.targets and data.classes say what the outputs are, else regression targets without names
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: there is no such layout; there are {', '.join(LAYOUTS)}")
    found = _open(str(source))
    kind = layout or recognise(found.state, found.where)
    told = graphormer_settings(found.config) if found.config else None
    tables, notes = _tables(found, kind, told, config)
    base = config or MoleculesApp(domain="molecules", app="imported")
    app = base.model_copy(update=tables)
    spare = {own: list(found.state[name].shape) for name, own in SPARE.items() if name in found.state}
    with torch.device("meta"):
        own = build_model(app, spare=spare).state_dict()
    loaded = layout_of(kind, app.backbone).read(found.state, own, where=found.where)
    outputs = app.head.outputs
    names = app.data.classes if app.data.task == "multiclass" else app.data.targets
    if names and len(names) != outputs:
        raise UserError(f"{found.where}: has {outputs} outputs, and {len(names)} names are set for them")
    state = MoleculesState(
        kind=None if app.data.task == "auto" else app.data.task,
        names=names or None,
        source=SourceState.model_validate({"layout": kind, "spare": spare, "config": found.config or None}),
    )
    return ImportedModel(app, loaded.weights, state, kind, (*notes, *loaded.notes), found.licence)


def recognise(state: Mapping[str, Tensor], where: str) -> str:
    """The layout of a checkpoint with these names. Raises UserError where none fits."""
    if f"{ENCODER}.graph_node_feature.atom_encoder.weight" in state:
        for kind, (out, _) in HEADS.items():
            if out in state:
                old = any(".self_attn.in_proj_" in name for name in state)
                return "fairseq-old" if old and kind == "fairseq" else kind
    some = ", ".join(list(state)[:4])
    raise UserError(f"{where}: no layout of Graphormer with its head has names such as {some}; name one with --layout")


def _open(text: str) -> Source:
    if text.startswith("hf:"):
        return _folder(hub.fetch(text.removeprefix("hf:")), text)
    path = Path(text)
    if path.is_dir():
        return _folder(path, path.name)
    return Source(state_dict_of(read_checkpoint(path), *STATE_KEYS, where=path.name), path.name)


def _folder(folder: Path, where: str) -> Source:
    config = hub.read_json(folder / "config.json", where)
    if config.get("model_type") != "graphormer":
        raise UserError(f"{where}: config.json is of a {config.get('model_type')!r} model, not of 'graphormer'")
    return Source(hub.read_weights(folder, where), where, config, hub.licence_of(folder))


def _tables(
    found: Source, kind: str, told: MoleculesApp | None, config: MoleculesApp | None
) -> tuple[dict[str, Any], list[str]]:
    """What the tensors, then config.json and the settings say of each table; UserError where they disagree."""
    state, where = found.state, found.where
    backbone, tokeniser, outputs = _shapes(state, kind, where)
    if settings_of(config, "model").get("family", "graphormer") != "graphormer":
        raise UserError(f'model.family = "gt" is set, but {where} is a Graphormer: leave it out')
    chosen = {key: value for key, value in settings_of(told, "backbone").items() if key in CHOSEN}
    set_ = {key: value for key, value in settings_of(config, "backbone").items() if key in CHOSEN}
    notes = [f"the file doesn't say {note}" for key, note in NOTES.items() if key not in {*chosen, *set_}]
    for source, origin in ((told, "config.json says"), (config, "is set")):
        _agree(source, origin, {**backbone, **(chosen if source is config else {})}, tokeniser, outputs, where)
    if told is not None:  # config.json speaks of the function; a setting may change what training does
        for key in set_.keys() & chosen.keys() - CHANGEABLE:
            if set_[key] != chosen[key]:
                raise UserError(f"backbone.{key} = {set_[key]!r} is set, but {where} has {chosen[key]!r}: leave it out")
    free = {"dropout", "hf_compat"}
    kept = {k: v for s in (told, config) for k, v in settings_of(s, "tokeniser").items() if k in free}
    head = {k: v for k, v in settings_of(config, "head").items() if k == "dropout"}
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


def initial_weights(source: str, config: MoleculesApp) -> InitialWeights:
    """The weights of an official checkpoint, as `train.init` names it. Raises UserError as `import_checkpoint`.

    Other outputs are no contradiction: a head of another size starts fresh. Matrices of hops
    beyond what the app's score holds are left out.
    """
    b = config.backbone
    asked = MoleculesApp(
        domain=config.domain, app=config.app,
        backbone=BackboneConfig(channel=b.channel, score_hops=b.score_hops, score_reach=b.score_reach),
    )  # fmt: skip
    imported = import_checkpoint(source, None, asked)
    weights = {name: tensor for name, tensor in imported.weights.items() if not name.startswith("spare.")}
    weights["backbone.score.hops"] = weights["backbone.score.hops"][: b.score_matrices or b.score_hops]
    name = source if source.startswith("hf:") else Path(source).name
    return InitialWeights(weights, name, config.domain, imported.licence)


__all__ = ["LAYOUTS", "import_checkpoint", "initial_weights", "layout_of", "recognise", "trunk_layout"]
