"""The way back: our weights in timm's names, and in those of the code base that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import Table
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout
from isoform.vision.config import VisionApp
from isoform.vision.vit.pretrained import augreg, files, hub
from isoform.vision.vit.pretrained.names import TimmNames
from isoform.vision.vit.pretrained.timm_source import create
from isoform.vision.vit.pretrained.timm_tables import POOLS, Architecture, Unsupported, read_tables
from isoform.vision.vit.tokeniser import pair_of

# What a table may say without another function coming out in evaluation.
TRAINING = {"dropout", "mlp_dropout", "patch_dropout", "attention_dropout", "drop_path", "recompute", "attention",
            "position_resize", "task"}  # fmt: skip


def foreign_state(
    config: VisionApp, portable: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """The layout that the weights were imported from (timm's for weights born here), and the state dict in it.

    Raises UserError where that layout has no place for a part of the model.
    """
    source = dict(portable.get("source") or {})
    layout = str(source.get("layout") or "timm")
    if layout.startswith("timm"):
        return layout, timm_model(config, portable, weights)[2]
    state = layout_of(config, layout, source).write(weights)
    if layout == "dinov2" and config.tokeniser.registers:  # its class token's position was added to the class token
        table = state["pos_embed"]
        state["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
    return layout, state


def layout_of(config: VisionApp, layout: str, source: Mapping[str, Any]) -> Layout:
    """The rules of a layout other than timm's."""
    if layout == "augreg":
        return augreg.layout(config.backbone)
    if layout == "transformers":
        return hub.transformers_layout(config.backbone)
    names = TimmNames(gamma=dict(source.get("names") or {}).get("gamma", "module"))
    return files.rules(names, config.backbone, layout)


def timm_model(
    config: VisionApp, portable: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """(architecture, arguments of timm.create_model, state dict) of the same model in timm.

    Raises UserError, naming what differs, where timm builds another model from these arguments.
    """
    architecture, kwargs = _arguments(config, dict(portable.get("source") or {}).get("timm"))
    model = create(architecture, meta=True, **kwargs)
    try:
        found = read_tables(model)
    except Unsupported as error:
        raise UserError(f"timm's {architecture} can't be compared with this model: it has {error.feature}") from error
    differing = list(_differences(found, config))
    if differing:
        raise UserError(
            f"timm has no model like this one ({'; '.join(differing)}); export --format safetensors instead"
        )
    state = found.names.layout(found.backbone).write(weights)
    want = model.state_dict()
    unequal = sorted(n for n in {*want, *state} if n not in want or n not in state or want[n].shape != state[n].shape)
    if unequal:
        raise UserError(f"timm's {architecture} has other weights than this model: {', '.join(unequal[:6])}")
    return architecture, kwargs, {name: state[name] for name in want}


def _arguments(config: VisionApp, source: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    t, b, h = config.tokeniser, config.backbone, config.head
    if b.kv_heads not in (None, b.heads) and source is None:
        raise UserError("timm has no model like this one (grouped queries); export --format safetensors instead")
    image, patch = pair_of(t.image), pair_of(t.patch)
    sizes = {
        "img_size": list(image),
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "in_chans": t.channels,
        "num_classes": h.outputs,
    }
    pool = {ours: theirs for theirs, ours in POOLS.items()}.get(h.pool)
    if pool is None:
        raise UserError(f"timm has no pooling like head.pool = {h.pool!r}; export --format safetensors instead")
    if source is not None:
        kwargs = {**source["kwargs"], **sizes}
        current = create(source["architecture"], meta=True, **kwargs)
        return source["architecture"], kwargs if current.global_pool == pool else {**kwargs, "global_pool": pool}
    hidden = (b.mlp_dim or 4 * b.dim) * (2 if b.channel == "swiglu" else 1)
    ratio = hidden / b.dim if int(b.dim * (hidden / b.dim)) == hidden else (hidden + 0.5) / b.dim  # timm rounds down
    base = "deit_tiny_distilled_patch16_224" if t.distill_token else "vit_tiny_patch16_224"
    base = "vit_giant_patch14_dinov2" if b.channel == "swiglu" else base
    return base, {
        **sizes, "embed_dim": b.dim, "depth": b.depth, "num_heads": b.heads, "mlp_ratio": ratio,
        "qkv_bias": b.qkv_bias, "proj_bias": b.proj_bias, "qk_norm": b.qk_norm != "none",
        "scale_attn_norm": b.mixer_norm, "scale_mlp_norm": b.mlp_norm, "init_values": b.layer_scale,
        "class_token": t.class_token, "reg_tokens": t.registers, "pre_norm": t.norm,
        "final_norm": b.final_norm or h.norm, "pos_embed": "none" if t.position == "none" else "learn",
        "no_embed_class": not t.position_prefix,
        "fc_norm": h.norm, "global_pool": pool, "pool_include_prefix": h.pool_prefix,
        "act_layer": None if b.channel == "swiglu" else b.channel,
    }  # fmt: skip


def _differences(found: Architecture, config: VisionApp) -> list[str]:
    differing = []
    ours = _comparable(config.tokeniser, config.backbone, config.head)
    theirs = _comparable(found.tokeniser, found.backbone, found.head)
    for key in ours:
        if ours[key] != theirs[key]:
            differing.append(f"{key} is {ours[key]!r} here and {theirs[key]!r} there")
    return differing


def _comparable(tokeniser: Any, backbone: Any, head: Any) -> dict[str, Any]:
    """Every key that matters in evaluation, in one form."""
    values: dict[str, Any] = {}
    tables: dict[str, Table] = {"tokeniser": tokeniser, "backbone": backbone, "head": head}
    for name, table in tables.items():
        values |= {f"{name}.{key}": value for key, value in table.model_dump().items() if key not in TRAINING}
    b, t = backbone, tokeniser
    prefix = t.class_token or t.distill_token or t.registers
    values |= {
        "tokeniser.image": pair_of(t.image), "tokeniser.patch": pair_of(t.patch),
        "tokeniser.position": t.position != "none",
        "tokeniser.position_prefix": bool(t.position_prefix and prefix and t.position != "none"),
        "backbone.kv_heads": b.kv_heads or b.heads, "backbone.head_dim": b.head_dim or b.dim // b.heads,
        "backbone.value_dim": b.value_dim or b.head_dim or b.dim // b.heads,
        "backbone.mlp_dim": b.mlp_dim or 4 * b.dim, "backbone.layer_scale": b.layer_scale is not None,
        "backbone.layer_scale_mlp": b.layer_scale is None or b.layer_scale_mlp,
        "head.pool_heads": head.pool_heads or b.heads, "head.pool_mlp": head.pool_mlp or b.mlp_dim or 4 * b.dim,
    }  # fmt: skip
    unused = [] if t.rotary != "none" else ["rotary_temperature", "rotary_grid", "rotary_offset", "rotary_order"]
    if head.pool != "attention":
        values |= {"head.pool_heads": None, "head.pool_mlp": None}
    if head.pool in ("class", "none"):
        values["head.pool_prefix"] = None
    if b.norm == "rms":
        values["backbone.norm_bias"] = None
    if b.score == "none":
        values |= {"backbone.score_ids": None, "backbone.score_gaussians": None}
    return {key: value for key, value in values.items() if key.removeprefix("tokeniser.") not in unused}
