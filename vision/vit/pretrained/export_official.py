"""The way back: our weights in timm's names, and in those of the code base that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError, join_names
from isoform.core.pretrained import Layout
from isoform.core.pretrained.settings import widths_of
from isoform.vision.config import VisionApp
from isoform.vision.state import VisionState
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.parameter_count import pair_of
from isoform.vision.vit.pretrained import augreg, files, hub
from isoform.vision.vit.pretrained.adapt import TRAINING
from isoform.vision.vit.pretrained.names import TimmNames
from isoform.vision.vit.pretrained.timm_source import create
from isoform.vision.vit.pretrained.timm_tables import (
    POOLS,
    Architecture,
    Unsupported,
    read_tables,
)


def export_official(
    config: VisionApp,
    weights: Mapping[str, Tensor],
    state: VisionState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """The weights in the layout that they were imported from; timm's for weights born here.

    Raises UserError where that layout has no place for a part of the model.
    """
    name = layout or origin_of(state)
    if name.startswith("timm"):
        return timm_model(config, weights, state)[2]
    official = layout_of(config, name, state).write(weights)
    if (
        name == "dinov2" and config.tokeniser.registers
    ):  # its class token's position was added to the class token
        table = official["pos_embed"]
        official["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
    return official


def origin_of(state: VisionState | None) -> str:
    """The layout that a run's weights were imported from, "timm" for none."""
    return str(_source(state).get("layout") or "timm")


def layout_of(
    config: VisionApp,
    layout: str,
    state: VisionState | None = None,
) -> Layout:
    """The rules of a layout other than timm's, whose names depend on the architecture."""
    if layout == "augreg":
        return augreg.layout(config.backbone)
    if layout == "transformers":
        return hub.transformers_layout(config.backbone)
    names = TimmNames(gamma=dict(_source(state).get("names") or {}).get("gamma", "module"))
    return files.rules(names, config.backbone, layout)


def _source(state: VisionState | None) -> dict[str, Any]:
    return dict(state.source or {}) if state else {}


def timm_model(
    config: VisionApp, weights: Mapping[str, Tensor], state: VisionState | None = None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """(architecture, arguments of timm.create_model, state dict) of the same model in timm.

    Raises UserError, naming what differs, where timm builds another model from these arguments.
    """
    architecture, kwargs = _arguments(config, _source(state).get("timm"))
    model = create(architecture, meta=True, **kwargs)
    try:
        theirs = read_tables(model)
    except Unsupported as error:
        raise UserError(
            f"timm's {architecture} can't be compared with this model: it has {error.feature}"
        ) from error
    differing = _differences(theirs, config)
    if differing:
        raise UserError(
            f"timm has no model like this one ({'; '.join(differing)}); export --format safetensors instead"
        )
    official = theirs.names.layout(theirs.backbone).write(weights)
    want = model.state_dict()
    unequal = [
        n
        for n in {*want, *official}
        if n not in want or n not in official or want[n].shape != official[n].shape
    ]
    if unequal:
        raise UserError(
            f"timm's {architecture} has other weights than this model: {join_names(sorted(unequal))}"
        )
    return architecture, kwargs, {name: official[name] for name in want}


def _arguments(config: VisionApp, source: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    t, b, h = config.tokeniser, config.backbone, config.head
    if b.kv_heads not in (None, b.heads) and source is None:
        raise UserError(
            "timm has no model like this one (grouped queries); export --format safetensors instead"
        )
    image, patch = pair_of(t.image), pair_of(t.patch)
    sizes = {
        "img_size": list(image),
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "in_chans": t.channels,
        "num_classes": h.outputs,
    }
    pool = next((theirs for theirs, ours in POOLS.items() if ours == h.pool), None)
    if pool is None:
        raise UserError(
            f"timm has no pooling like head.pool = {h.pool!r}; export --format safetensors instead"
        )
    if source is not None:
        kwargs = {**source["kwargs"], **sizes}
        current = create(source["architecture"], meta=True, **kwargs)
        return source["architecture"], kwargs if current.global_pool == pool else {
            **kwargs,
            "global_pool": pool,
        }
    return _base_architecture(config), {
        **sizes,
        "embed_dim": b.dim,
        "depth": b.depth,
        "num_heads": b.heads,
        "mlp_ratio": _mlp_ratio(b),
        "qkv_bias": b.qkv_bias,
        "proj_bias": b.proj_bias,
        "qk_norm": b.qk_norm != "none",
        "scale_attn_norm": b.mixer_norm,
        "scale_mlp_norm": b.mlp_norm,
        "init_values": b.layer_scale,
        "class_token": t.class_token,
        "reg_tokens": t.registers,
        "pre_norm": t.norm,
        "final_norm": b.final_norm or h.norm,
        "pos_embed": "none" if t.position == "none" else "learn",
        "no_embed_class": not t.position_prefix,
        "fc_norm": h.norm,
        "global_pool": pool,
        "pool_include_prefix": h.pool_prefix,
        "act_layer": None if b.channel == "swiglu" else b.channel,
    }


def _base_architecture(config: VisionApp) -> str:
    """A model of timm's that can be changed into ours by its arguments."""
    if config.backbone.channel == "swiglu":
        return "vit_giant_patch14_dinov2"
    return (
        "deit_tiny_distilled_patch16_224"
        if config.tokeniser.distill_token
        else "vit_tiny_patch16_224"
    )


def _mlp_ratio(b: BackboneConfig) -> float:
    """Of hidden features to the stream's, so that timm, which rounds down, comes to ours."""
    hidden = (b.mlp_dim or 4 * b.dim) * (2 if b.channel == "swiglu" else 1)
    ratio = hidden / b.dim
    return ratio if int(b.dim * ratio) == hidden else (hidden + 0.5) / b.dim


def _differences(theirs: Architecture, config: VisionApp) -> list[str]:
    here = _comparable(config.tokeniser, config.backbone, config.head)
    there = _comparable(theirs.tokeniser, theirs.backbone, theirs.head)
    return [
        f"{key} is {here[key]!r} here and {there[key]!r} there"
        for key in here
        if here[key] != there[key]
    ]


def _comparable(
    t: VitTokeniserConfig,
    b: BackboneConfig,
    head: VitHeadConfig,
) -> dict[str, Any]:
    """Every key that matters in evaluation, in one form."""
    tables: dict[str, dict[str, Any]] = {
        "tokeniser": t.model_dump(),
        "backbone": widths_of(b),
        "head": head.model_dump(),
    }
    values: dict[str, Any] = {}
    for name, table in tables.items():
        values |= {
            f"{name}.{key}": value for key, value in table.items() if key not in TRAINING[name]
        }
    positioned = t.position != "none"
    prefix = t.class_token or t.distill_token or t.registers
    values |= {
        "tokeniser.image": pair_of(t.image),
        "tokeniser.patch": pair_of(t.patch),
        "tokeniser.position": positioned,
        "tokeniser.position_prefix": bool(t.position_prefix and prefix and positioned),
        "backbone.layer_scale": b.layer_scale is not None,
        "backbone.layer_scale_mlp": b.layer_scale is None or b.layer_scale_mlp,
        "head.pool_heads": head.pool_heads or b.heads,
        "head.pool_mlp": head.pool_mlp or b.mlp_dim or 4 * b.dim,
    }
    return {key: value for key, value in values.items() if key not in _without_effect(t, b, head)}


def _without_effect(
    t: VitTokeniserConfig,
    b: BackboneConfig,
    head: VitHeadConfig,
) -> set[str]:
    """Keys that this model doesn't read, since another key switches off what they are about."""
    keys = set()
    if t.rotary == "none":
        keys |= {f"tokeniser.rotary_{key}" for key in ("temperature", "grid", "offset", "order")}
    if head.pool != "attention":
        keys |= {"head.pool_heads", "head.pool_mlp"}
    if head.pool in ("class", "none"):
        keys.add("head.pool_prefix")
    if b.norm == "rms":
        keys.add("backbone.norm_bias")
    if b.score == "none":
        keys |= {"backbone.score_ids", "backbone.score_gaussians"}
    return keys
