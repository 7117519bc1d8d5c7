"""Official Point-MAE and Point-BERT checkpoints in isoform's layout, and back: the five functions of core.pretrained.

What tensors tell is taken from them. Numbers of heads, patches and points a patch they don't: these come from the
settings, else are the official ones, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.ops.shapes import shapes_alone
from isoform.core.pretrained import Layout
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    differences,
    need,
    refuse_other,
    refuse_unsupported,
    settings_of,
    table,
    widths_of,
)
from isoform.core.pretrained.source import Source, choose_layout, read_source
from isoform.pointcloud.config import (
    TRUNK,
    ModelConfig,
    PartConfig,
    PatchConfig,
    PointcloudApp,
    PointHeadConfig,
)
from isoform.pointcloud.parts.table import shapenetpart
from isoform.pointcloud.pointmae.layout import LAYOUTS, layout_named
from isoform.pointcloud.pointmae.model import build_model
from isoform.pointcloud.state import PointcloudState, SourceState

KINDS = {"pointmae-pretrain": "pretrain", "pointmae-partseg": "segment"}  # others: classify
# What no tensor tells; the official values are the schema's defaults, but for the rule at the origin.
UNTOLD = {
    "tokeniser": {"groups", "group_size", "origin_rule", "ties"},
    "backbone": {"heads"},
    "decoder": {"heads"},
    "parts": {"blocks"},
}
OFFICIAL_ORIGIN = 1e-3
FIRST = "tokeniser.encoder.point.weight"  # [features, channels], whose columns are x, y, z, ...
PART_POINTS, PART_GROUPS, PART_BATCH = 2048, 128, 16  # of its part segmentation
POINTBERT = "transformer_q."  # in front of the names of its pretraining file


def recognise(source: Source) -> str | None:
    """One of LAYOUTS, None where it is of another family."""
    state = source.state
    if "MAE_encoder.encoder.first_conv.0.weight" in state:
        return "pointmae-pretrain"
    if "encoder.first_conv.0.weight" not in state:
        return None
    if "label_conv.0.weight" in state:
        return "pointmae-partseg"
    if "cls_head_finetune.8.weight" in state:
        return "pointmae"
    return "pointbert" if "reduce_dim.weight" in state else None


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: PointcloudApp | None = None
) -> ImportedModel[PointcloudApp, PointcloudState]:
    """An official model, whole, in isoform's names, with the app config that rebuilds it.

    source   a checkpoint file, hf:OWNER/NAME[@REVISION], or one that was read already
    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what no tensor tells is taken from the keys that somebody set; one that contradicts the tensors
             is refused
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    found = read_source(source)
    if recognise(found) is None and any(name.startswith(POINTBERT) for name in found.state):
        raise UserError(
            f"{found.name}: Point-BERT's pretraining, a trunk without a classifier; start from it with train --init"
        )
    kind = choose_layout(found, layout, LAYOUTS, recognise, "Point-MAE or Point-BERT")
    tables, notes = _tables(found, kind, config)
    base = config or PointcloudApp(domain="pointcloud", app="imported")
    app = base.model_copy(update=tables)
    with shapes_alone():
        own = build_model(app).state_dict()
    loaded = layout_named(kind).read(found.state, own, where=found.name)
    state = PointcloudState(source=SourceState(layout=kind))
    if kind == "pointmae-partseg":
        app, state, more = _with_parts(app, state)
        notes += more
    return ImportedModel(app, loaded.weights, state, kind, (*notes, *loaded.notes), found.licence)


def _with_parts(
    app: PointcloudApp, state: PointcloudState
) -> tuple[PointcloudApp, PointcloudState, list[str]]:
    """What the published part segmentation's sizes say: which parts they are, and how many points it sees."""
    table = shapenetpart()
    if (app.parts.shapes, app.head.outputs) != (len(table.shapes), len(table.outputs)):
        return app, state, []
    state = state.model_copy(update={"classes": table.outputs, "parts": dict(table.codes)})
    notes = ["16 classes of clouds and 50 parts: taken for ShapeNetPart's"]
    for name, key, value in (("data", "points", PART_POINTS), ("eval", "batch", PART_BATCH)):
        if key not in settings_of(app, name):
            changed = getattr(app, name).model_copy(update={key: value})
            app = app.model_copy(update={name: changed})
            notes.append(f"the file doesn't say {name}.{key}: {value:,}")
    return app, state, notes


def layout_of(config: PointcloudApp, layout: str, state: PointcloudState | None = None) -> Layout:
    """The rules of one of LAYOUTS."""
    return layout_named(layout)


def export_official(
    config: PointcloudApp,
    weights: Mapping[str, Tensor],
    state: PointcloudState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """The weights under the names of the code base that they came from, or of `layout`; Point-MAE's otherwise.

    Raises UserError, naming what differs, for a model that the official code can't build.
    """
    asked = layout or (state.source.layout if state is not None and state.source else None)
    kind = asked or _fitting(config)
    if kind not in LAYOUTS:
        raise UserError(
            f"there is no layout {kind!r} of point clouds; it's one of {', '.join(LAYOUTS)}"
        )
    refuse_unsupported(unsupported_by_official(config))
    return layout_named(kind).write(weights)


def initial_weights(source: str | Path | Source, config: PointcloudApp) -> InitialWeights:
    """The weights of an official checkpoint, as `train.init` names it, Point-BERT's pretraining included."""
    opened = read_source(source)
    layout = layout_named("pointbert")
    trunk = {
        name.removeprefix(POINTBERT): tensor
        for name, tensor in opened.state.items()
        if name.startswith(POINTBERT) and layout.knows(name.removeprefix(POINTBERT))
    }
    if not trunk:
        imported = import_checkpoint(opened)
        return InitialWeights(imported.weights, opened.name, config.domain, imported.licence)
    tables, _ = _tables(replace(opened, state=trunk), "pointbert", None)
    app = config.model_copy(update={**tables, "model": ModelConfig()})
    with shapes_alone():
        own = build_model(app).state_dict()
    loaded = layout.read(trunk, own, fresh=("head.{*}",), where=opened.name)
    return InitialWeights(loaded.weights, opened.name, config.domain, opened.licence)


def widen_channels(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights of a model of x, y, z fitted to one that reads features too: these start at 0, the same answers.

    Raises UserError for weights that read other features than the model: nobody knows which.
    """
    first = model.state_dict().get(FIRST)
    if first is None or FIRST not in weights or len(weights[FIRST]) != len(first):
        return dict(weights)
    have, want = weights[FIRST].shape[1], first.shape[1]
    if have not in (3, want):
        raise UserError(
            f"the initial weights read {have} channels of a point and this model {want}: train with their "
            "data.features, or start from weights of x, y, z alone"
        )
    return {**weights, FIRST: F.pad(weights[FIRST], (0, want - have))}


def unsupported_by_official(config: PointcloudApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    free = ("dim", "depth", "heads", "mlp_dim")
    found = []
    for name in ("backbone", "decoder") if config.model.kind == "pretrain" else ("backbone",):
        trunk: BackboneConfig = getattr(config, name)
        like = {key: value for key, value in widths_of(trunk).items() if key in free}
        phrases = differences(trunk, BackboneConfig.model_validate({**TRUNK, **like}))
        found += [phrase.replace("backbone.", f"{name}.") for phrase in phrases]
    if config.tokeniser.channels != 3:
        found.append(f"tokeniser.channels is {config.tokeniser.channels} here and 3 there")
    if config.model.kind == "segment":
        return found + _unsupported_parts(config)
    if config.model.kind != "classify":
        return found
    h, layers = config.head, 1 if config.tokeniser.patch_dim else 2
    if h.pool != "class_max":
        found.append(f"head.pool is {h.pool!r} here and 'class_max' there")
    if len(h.widths) != layers or h.norm != (layers == 2):
        there = "two with a batch norm" if layers == 2 else "one without"
        norm = "a" if h.norm else "no"
        found.append(
            f"the head has {len(h.widths)} layers and {norm} batch norm here, {there} there"
        )
    return found


def _unsupported_parts(config: PointcloudApp) -> list[str]:
    found = []
    if not config.parts.shapes:
        found.append("the model reads no class of a cloud here, and does there")
    for name, count, there in (
        ("parts.blocks", len(config.parts.blocks), 3),
        ("parts.propagation", len(config.parts.propagation), 2),
        ("head.widths", len(config.head.widths), 2),
    ):
        if count != there:
            found.append(f"{name} are {count} here and {there} there")
    return found


def _fitting(config: PointcloudApp) -> str:
    if config.model.kind == "pretrain":
        return "pointmae-pretrain"
    if config.model.kind == "segment":
        return "pointmae-partseg"
    return "pointbert" if config.tokeniser.patch_dim else "pointmae"


def _tables(
    found: Source, kind: str, config: PointcloudApp | None
) -> tuple[dict[str, Any], list[str]]:
    """The tables that the tensors tell, with what the settings say of the rest. Raises UserError where they differ."""
    state, where = found.state, found.name
    prefix = "MAE_encoder." if kind == "pointmae-pretrain" else ""
    have = {
        "model": {"kind": KINDS.get(kind, "classify")},
        "tokeniser": _patches(state, prefix, kind, where),
        "backbone": _trunk(state, f"{prefix}blocks.blocks", where),
    }
    if kind == "pointmae-pretrain":
        have["decoder"] = _trunk(state, "MAE_decoder.blocks", where)
        drawn = need(state, "increase_dim.0.weight", 3, where).shape[0]
        have["tokeniser"]["group_size"] = drawn // 3
    elif kind == "pointmae-partseg":
        have["head"], have["parts"] = _parts(state, where)
    elif "cls_head_finetune.0.weight" in state:
        have["head"] = _head(state, kind, where)
    notes = []
    for name, keys in UNTOLD.items():
        for key in sorted(keys):
            if name not in have or key in have[name]:
                continue
            asked = settings_of(config, name)
            if key in asked:
                have[name][key] = asked[key]
            elif key == "origin_rule":
                have[name][key] = OFFICIAL_ORIGIN
            elif key == "heads":
                have[name][key] = max(1, have[name]["dim"] // 64)
                notes.append(
                    f"the file doesn't say {name}.heads: {have[name][key]}, 64 features each"
                )
    if "groups" not in have["tokeniser"]:
        have["tokeniser"]["groups"] = groups = PART_GROUPS if kind == "pointmae-partseg" else 64
        notes.append(f"the file doesn't say into how many patches: {groups} (tokeniser.groups)")
    for name, values in have.items():
        refuse_other(name, settings_of(config, name), values, where, TRAINING_KEYS)
    schemas: dict[str, Any] = {
        "model": ModelConfig, "tokeniser": PatchConfig, "backbone": BackboneConfig,
        "decoder": BackboneConfig, "head": PointHeadConfig, "parts": PartConfig,
    }  # fmt: skip
    tables = {}
    for name, values in have.items():
        free = {k: v for k, v in settings_of(config, name).items() if k in TRAINING_KEYS}
        tables[name] = table(schemas[name], {**free, **values}, where)
    return tables, notes


def _patches(state: Mapping[str, Tensor], prefix: str, kind: str, where: str) -> dict[str, Any]:
    first = need(state, f"{prefix}encoder.first_conv.0.weight", 3, where)
    second = need(state, f"{prefix}encoder.first_conv.3.weight", 3, where)
    third = need(state, f"{prefix}encoder.second_conv.0.weight", 3, where)
    out = need(state, f"{prefix}encoder.second_conv.3.weight", 3, where)
    return {
        "channels": first.shape[1],
        "widths": (len(first), len(second), len(third)),
        "patch_dim": len(out) if kind == "pointbert" else None,
        "position_hidden": len(need(state, f"{prefix}pos_embed.0.weight", 2, where)),
        **({} if kind in KINDS else {"class_token": True}),
    }


def _trunk(state: Mapping[str, Tensor], prefix: str, where: str) -> dict[str, Any]:
    block = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    numbers = [int(match[1]) for name in state if (match := block.match(name))]
    return {
        **{key: value for key, value in TRUNK.items() if key != "heads"},
        "dim": len(need(state, f"{prefix}.0.attn.proj.weight", 2, where)),
        "depth": 1 + max(numbers, default=-1),
        "mlp_dim": len(need(state, f"{prefix}.0.mlp.fc1.weight", 2, where)),
        "qkv_bias": f"{prefix}.0.attn.qkv.bias" in state,
    }


def _head(state: Mapping[str, Tensor], kind: str, where: str) -> dict[str, Any]:
    places = (0,) if kind == "pointbert" else (0, 4)
    layers = [need(state, f"cls_head_finetune.{i}.weight", 2, where) for i in places]
    last = need(state, f"cls_head_finetune.{3 if kind == 'pointbert' else 8}.weight", 2, where)
    return {
        "pool": "class_max",
        "widths": tuple(len(layer) for layer in layers),
        "norm": kind != "pointbert",
        "outputs": len(last),
    }


def _parts(state: Mapping[str, Tensor], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    shape = need(state, "label_conv.0.weight", 3, where)
    carried = [need(state, f"propagation_0.mlp_convs.{i}.weight", 3, where) for i in range(2)]
    layers = [need(state, f"convs{i}.weight", 3, where) for i in (1, 2, 3)]
    head = {"widths": tuple(len(layer) for layer in layers[:2]), "outputs": len(layers[2])}
    parts = {
        "propagation": tuple(len(layer) for layer in carried),
        "shapes": shape.shape[1],
        "shape_dim": len(shape),
    }
    return head, parts


__all__ = [
    "LAYOUTS",
    "export_official",
    "import_checkpoint",
    "initial_weights",
    "layout_of",
    "recognise",
    "widen_channels",
]
