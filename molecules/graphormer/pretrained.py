"""Graphormer's official checkpoints in isoform's layout, and back: what `isoform molecules import` and `export` run.

layout.py has the layouts and their names, official.py the hyper-parameters, export_official.py the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.ops.shapes import shapes_alone
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    need,
    refuse_other,
    settings_of,
    table,
    widths_of,
)
from isoform.core.pretrained.source import Source, choose_layout, read_source
from isoform.molecules.config import (
    HeadConfig,
    ModelConfig,
    MoleculesApp,
    ScoreConfig,
    TokeniserConfig,
)
from isoform.molecules.graphormer.collator_ids import from_collator
from isoform.molecules.graphormer.export_official import export_official
from isoform.molecules.graphormer.layout import (
    ENCODER,
    HEADS,
    LAYER,
    LAYOUTS,
    SPARE,
    layout_of,
    trunk_layout,
)
from isoform.molecules.graphormer.model import TRUNK, Graphormer
from isoform.molecules.graphormer.official import graphormer_settings
from isoform.molecules.state import MoleculesState, SourceState

# What a file can't tell and a setting may choose, beside what changes nothing in evaluation.
CHOSEN = {"backbone": {"channel"} | TRAINING_KEYS, "score": {"hops", "reach"}}
# What of the tokeniser changes nothing in evaluation, or how SMILES are featurised in front of it.
FREE_TOKENISER = TRAINING_KEYS | {"hf_compat"}
NOTES = {
    ("backbone", "channel"): "its activation: gelu, the official default (backbone.channel)",
    ("score", "hops"): "how long a path it reads: 5 bonds, the official default (score.hops)",
    ("score", "reach"): "beyond which distance atoms are hidden: none, as by default (score.reach)",
}


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: MoleculesApp | None = None
) -> ImportedModel[MoleculesApp, MoleculesState]:
    """An official Graphormer, whole, in isoform's names, with the app config that rebuilds it.

    source   a checkpoint file, a folder with config.json, or hf:OWNER/NAME[@REVISION]
    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what the source can't tell (activation, longest path, reach) is taken from the keys that somebody
             set, else it is the official default and a note says so; a key that contradicts the source is refused.
             data.task, data.targets and data.classes say what the outputs are, else regression targets without names
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    found = from_collator(read_source(source), settings_of(config, "tokeniser").get("hf_compat"))
    model_type = found.config.get("model_type")
    if found.folder is not None and model_type != "graphormer":
        raise UserError(
            f"{found.name}: config.json is of a {model_type!r} model, not of 'graphormer'"
        )
    kind = choose_layout(found, layout, LAYOUTS, recognise, "Graphormer with its head")
    told = graphormer_settings(found.config) if found.config else None
    tables, notes = _tables(found, kind, told, config)
    base = config or MoleculesApp(domain="molecules", app="imported")
    app = base.model_copy(update=tables)
    spare = {
        own: list(found.state[name].shape) for name, own in SPARE.items() if name in found.state
    }
    outputs = app.head.outputs
    if outputs < 1:
        raise UserError(f"{found.name}: its last layer has no outputs")
    names = app.data.classes if app.data.task == "multiclass" else app.data.targets
    if names and len(names) != outputs:
        raise UserError(
            f"{found.name}: has {outputs} outputs, and {len(names)} names are set for them"
        )
    with shapes_alone():
        own = Graphormer(app, outputs, spare).state_dict()
    loaded = layout_of(app, kind).read(found.state, own, where=found.name)
    state = MoleculesState(
        kind=None if app.data.task == "auto" else app.data.task,
        names=names or None,
        source=SourceState.model_validate(
            {"layout": kind, "spare": spare, "config": found.config or None}
        ),
    )
    return ImportedModel(app, loaded.weights, state, kind, (*notes, *loaded.notes), found.licence)


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
    have, outputs = _shapes(state, kind, where)
    if settings_of(config, "model").get("family", "graphormer") != "graphormer":
        raise UserError(f'model.family = "gt" is set, but {where} is a Graphormer: leave it out')
    chosen, asked = _choices(told), _choices(config)
    notes = [
        f"the file doesn't say {note}"
        for key, note in NOTES.items()
        if key not in {*chosen, *asked}
    ]
    _agree(told, "config.json says", have, outputs, where)
    _agree(config, "is set", have, outputs, where)
    if (
        told is not None
    ):  # config.json speaks of the function; a setting may change what training does
        for table_name in CHOSEN:
            set_ = {key: value for (name, key), value in asked.items() if name == table_name}
            theirs = {key: value for (name, key), value in chosen.items() if name == table_name}
            refuse_other(table_name, set_, theirs, where, TRAINING_KEYS)
    for (name, key), value in {**chosen, **asked}.items():
        have[name][key] = value
    given = {**settings_of(told, "tokeniser"), **settings_of(config, "tokeniser")}
    kept = {key: value for key, value in given.items() if key in FREE_TOKENISER}
    head = {
        key: value for key, value in settings_of(config, "head").items() if key in TRAINING_KEYS
    }
    score = table(ScoreConfig, have["score"], where)
    tables: dict[str, Any] = {
        "model": ModelConfig(),
        "backbone": table(BackboneConfig, have["backbone"], where),
        "score": score,
        "tokeniser": table(TokeniserConfig, {**have["tokeniser"], **kept}, where),
        "head": table(HeadConfig, {**head, "outputs": outputs}, where),
    }
    if (score.hop_matrices or 0) < score.hops:
        raise UserError(
            f"{where}: holds matrices of {score.hop_matrices} hops, fewer than score.hops = {score.hops}"
        )
    return tables, notes


def _choices(config: MoleculesApp | None) -> dict[tuple[str, str], Any]:
    """Of the keys in CHOSEN, those that somebody set."""
    return {
        (name, key): value
        for name, keys in CHOSEN.items()
        for key, value in settings_of(config, name).items()
        if key in keys
    }


def _shapes(
    state: Mapping[str, Tensor], kind: str, where: str
) -> tuple[dict[str, dict[str, Any]], int]:
    """The tables' keys that the tensors tell, and how many outputs there are.

    Raises UserError for shapes that make no Graphormer.
    """
    bias, node, layer = (
        f"{ENCODER}.{name}" for name in ("graph_attn_bias", "graph_node_feature", "layers.0")
    )
    if f"{bias}.edge_dis_encoder.weight" not in state:
        raise UserError(
            f"{where}: has no matrices of hops, and isoform's Graphormer knows edge_type = 'multi_hop' alone"
        )
    spatial = need(state, f"{bias}.spatial_pos_encoder.weight", 2, where)
    stored = need(state, f"{bias}.edge_dis_encoder.weight", 2, where).numel()
    atoms = need(state, f"{node}.atom_encoder.weight", 2, where)
    (rows, dim), (distances, heads) = atoms.shape, spatial.shape
    degrees = [
        len(need(state, f"{node}.{n}_degree_encoder.weight", 2, where)) for n in ("in", "out")
    ]
    if heads == 0 or dim % heads or stored == 0 or stored % heads**2:
        raise UserError(
            f"{where}: {heads} heads fit neither {dim} features nor {stored} numbers of hop matrices"
        )
    layers = [int(match[1]) for name in state if (match := LAYER.match(name))]
    backbone = {
        **TRUNK,
        "dim": dim,
        "depth": 1 + max(layers, default=-1),
        "heads": heads,
        "mlp_dim": len(need(state, f"{layer}.fc1.weight", 2, where)),
        "order": "pre" if f"{ENCODER}.final_layer_norm.weight" in state else "post",
    }
    score = {
        "distance_ids": distances,
        "bond_ids": len(need(state, f"{bias}.edge_encoder.weight", 2, where)),
        "hop_matrices": stored // heads**2,
    }
    attention = "in_proj_bias" if kind == "fairseq-old" else "q_proj.bias"
    if f"{layer}.self_attn.{attention}" not in state:
        backbone |= {"qkv_bias": False, "proj_bias": False}
    tokeniser = {
        "atom_ids": rows,
        "degree_ids": degrees[0],
        "out_degree_ids": degrees[1],
        "norm": f"{ENCODER}.emb_layer_norm.weight" in state,
    }
    out = need(state, HEADS["transformers" if kind == "transformers" else "fairseq"][0], 2, where)
    return {"backbone": backbone, "score": score, "tokeniser": tokeniser}, len(out)


def _agree(
    source: MoleculesApp | None,
    origin: str,
    have: dict[str, dict[str, Any]],
    outputs: int,
    where: str,
) -> None:
    """Raises UserError for a key of `source` that says something else than the tensors do."""
    said = {name: settings_of(source, name) for name in ("backbone", "score", "tokeniser", "head")}
    if "hop_matrices" in said["score"]:
        hops = said["score"].get("hops", ScoreConfig().hops)
        said["score"]["hop_matrices"] = said["score"]["hop_matrices"] or hops
    wanted = {
        **said,
        "backbone": widths_of(
            table(BackboneConfig, {**have["backbone"], **said["backbone"]}, where)
        ),
    }
    stored = {
        "backbone": widths_of(table(BackboneConfig, have["backbone"], where)),
        "score": have["score"],
        "tokeniser": {**TokeniserConfig().model_dump(), **have["tokeniser"]},
        "head": {**HeadConfig().model_dump(), "outputs": outputs},
    }
    asked = {
        "backbone": said["backbone"].keys() - CHOSEN["backbone"],
        "score": said["score"].keys() - CHOSEN["score"],
        "tokeniser": said["tokeniser"].keys() - FREE_TOKENISER - {"bond_ids"},
        "head": said["head"].keys() - TRAINING_KEYS,
    }
    if said["head"].get("outputs") == 0:  # left to the data, or to the file
        asked["head"] -= {"outputs"}
    for name, keys in asked.items():
        for key in sorted(keys):
            value, has = wanted[name][key], stored[name][key]
            if value != has:
                raise UserError(
                    f"{name}.{key} = {value!r} {origin}, but the weights of {where} have {has!r}"
                )


def initial_weights(source: str | Path | Source, config: MoleculesApp) -> InitialWeights:
    """The weights of an official checkpoint, as `train.init` names it. Raises UserError as `import_checkpoint`.

    Other outputs are no contradiction: a head of another size starts fresh. Matrices of hops beyond what the app's
    score holds are left out.
    """
    opened, score = read_source(source), config.score
    asked = MoleculesApp(
        domain=config.domain,
        app=config.app,
        backbone=BackboneConfig(channel=config.backbone.channel),
        score=ScoreConfig(hops=score.hops, reach=score.reach),
    )
    imported = import_checkpoint(opened, None, asked)
    weights = {
        name: tensor for name, tensor in imported.weights.items() if not name.startswith("spare.")
    }
    weights["backbone.score.hops"] = weights["backbone.score.hops"][
        : score.hop_matrices or score.hops
    ]
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
