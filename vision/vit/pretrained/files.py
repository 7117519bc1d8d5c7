"""Bare state dicts of ViT's code bases: recognised by their names, tables told from shapes and habits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Rule, ignore, rename
from isoform.vision.vit.pretrained.foreign_model import IMAGENET, INCEPTION, Fields, ForeignModel
from isoform.vision.vit.pretrained.names import TimmNames

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}
DECODER = (
    ignore("mask_token", "the mask token of pretraining"),
    ignore("decoder_{*}", "MAE's decoder, which only pretraining needs"),
)
EVA = (
    "rope.",
    "blocks.0.attn.q_bias",
    "blocks.0.attn.q_proj",
)  # how names begin that no other ViT has
HABITS: dict[str, Fields] = {
    "timm": {"resize": "timm", "licence": "unknown", "preprocessing": INCEPTION},
    "deit": {"resize": "mae", "licence": "Apache-2.0", "preprocessing": IMAGENET},
    "deit3": {"resize": "mae", "licence": "Apache-2.0", "preprocessing": IMAGENET},
    "mae": {"resize": "mae", "licence": "CC-BY-NC-4.0 (NonCommercial)", "preprocessing": IMAGENET},
    "dinov2": {
        "resize": "dinov2",
        "licence": "Apache-2.0",
        "preprocessing": {**IMAGENET, "crop_pct": 1.0},
    },
}


def recognise_state(state: Mapping[str, Any], nested: bool) -> str | None:
    """The layout of a checkpoint with these names; `nested`: they stood under the key `model`.

    Raises UserError for timm's EVA family, which needs a name.
    """
    if "embedding/kernel" in state:
        return "augreg"
    if "patch_embed.proj.weight" not in state or "blocks.0.norm1.weight" not in state:
        return None
    if "register_tokens" in state or ("mask_token" in state and "blocks.0.ls1.gamma" in state):
        return "dinov2"
    if "decoder_embed.weight" in state or "mask_token" in state:
        return "mae"
    if any(name.startswith(EVA) for name in state):
        raise UserError(
            "these weights are of timm's EVA family, whose tables can't be told from shapes: name the model with "
            "--layout timm:NAME"
        )
    if "blocks.0.gamma_1" in state:
        return "deit3"
    if "dist_token" in state:
        return "deit"
    if nested:
        return "mae" if "head.weight" not in state or "fc_norm.weight" in state else "deit"
    return "timm"


def from_state(
    state: Mapping[str, Tensor], layout: str, grid: tuple[int, int] | None
) -> ForeignModel:
    """A ViT in one of the layouts of HABITS. `grid` is the position table's, needed where it isn't square."""
    habits, state = HABITS[layout], dict(state)
    notes: tuple[str, ...] = ()
    registers = "register_tokens" in state
    if registers:
        state, notes = (
            _fold_class_position(state),
            ("the class token's position was added to the class token",),
        )
    known, assumed = tables_of(state, grid)
    known["tokeniser"]["position_resize"] = "dinov2_registers" if registers else habits["resize"]
    if known["backbone"]["heads"] is None:
        del known["backbone"]["heads"]
        if known["backbone"]["dim"] in HEADS:
            assumed["backbone"]["heads"] = HEADS[known["backbone"]["dim"]]
    if layout == "timm":
        notes = (
            *notes,
            "told from shapes: heads, activation and eps are the usual ones; --layout timm:NAME is exact",
        )
    names = TimmNames(gamma="flat" if "blocks.0.gamma_1" in state else "module")
    return ForeignModel(
        layout=layout,
        rules=lambda backbone: rules(names, backbone, layout),
        state=state,
        known=known,
        assumed=assumed,
        preprocessing=dict(habits["preprocessing"]),
        licence=habits["licence"],
        notes=notes,
        source={"names": {"gamma": names.gamma}},
    )


def rules(names: TimmNames, backbone: BackboneConfig, layout: str) -> Layout:
    """The rules of one of the layouts of HABITS."""
    own: tuple[Rule, ...] = DECODER if layout in ("mae", "dinov2") else ()
    if layout == "dinov2":
        own += (rename("register_tokens", "tokeniser.registers"),)
        if backbone.channel == "swiglu":
            channel = "backbone.blocks.{i}.channel.inner"
            own += (
                rename("blocks.{i}.mlp.w12.{p}", f"{channel}.fc1.{{p}}"),
                rename("blocks.{i}.mlp.w3.{p}", f"{channel}.fc2.{{p}}"),
            )
    base = names.layout(backbone, layout)
    return replace(base, rules=(*own, *base.rules))


def _fold_class_position(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 adds positions before it inserts registers: of the special tokens, the class token alone has one."""
    table = state["pos_embed"]
    return {**state, "cls_token": state["cls_token"] + table[:, :1], "pos_embed": table[:, 1:]}


def tables_of(
    state: Mapping[str, Tensor], grid: tuple[int, int] | None
) -> tuple[dict[str, Fields], dict[str, Fields]]:
    """(known, assumed) tables of a state dict in timm's names. Raises UserError where a shape can't be understood."""
    kernel, has = state["patch_embed.proj.weight"], state.__contains__
    dim, channels, patch = kernel.shape[0], kernel.shape[1], (kernel.shape[2], kernel.shape[3])
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    second = state.get("blocks.0.mlp.fc2.weight", state.get("blocks.0.mlp.w3.weight"))
    first = state.get("blocks.0.mlp.fc1.weight", state.get("blocks.0.mlp.w12.weight"))
    if first is None or second is None:
        raise UserError(
            "block 0 has no MLP under a name that is known here; name the layout with --layout timm:NAME"
        )
    hidden = second.shape[1]
    gated = first.shape[0] == 2 * hidden
    head_norm = state.get("blocks.0.attn.q_norm.weight")
    register_table = state.get("register_tokens", state.get("reg_token"))
    registers = 0 if register_table is None else register_table.shape[1]
    prefix = int(has("cls_token")) + int(has("dist_token")) + registers
    tokeniser: Fields = {
        "patch": patch[0] if patch[0] == patch[1] else patch,
        "channels": channels,
        "patch_bias": has("patch_embed.proj.bias"),
        "patch_norm": has("patch_embed.norm.weight"),
        "class_token": has("cls_token"),
        "distill_token": has("dist_token"),
        "registers": registers,
        "position": "learned" if has("pos_embed") else "none",
        "norm": has("norm_pre.weight"),
    }
    if has("pos_embed"):
        found, with_prefix = grid_of(state["pos_embed"].shape[1], prefix, grid)
        tokeniser["position_prefix"] = with_prefix
        size = (found[0] * patch[0], found[1] * patch[1])
        tokeniser["image"] = size[0] if size[0] == size[1] else size
    backbone: Fields = {
        "dim": dim,
        "depth": depth,
        "heads": None if head_norm is None else dim // head_norm.shape[0],
        "mlp_dim": hidden,
        "qkv_bias": has("blocks.0.attn.qkv.bias"),
        "proj_bias": has("blocks.0.attn.proj.bias"),
        "mlp_bias": has("blocks.0.mlp.fc2.bias") or has("blocks.0.mlp.w3.bias"),
        "mlp_norm": has("blocks.0.mlp.norm.weight"),
        "mixer_norm": has("blocks.0.attn.norm.weight"),
        "norm": "layer" if has("blocks.0.norm1.bias") else "rms",
        "order": "pre",
        "final_norm": has("norm.weight"),
    }
    backbone["qk_norm"] = "none" if head_norm is None else backbone["norm"]
    if gated:
        backbone["channel"] = "swiglu"
    scaled = has("blocks.0.ls1.gamma") or has("blocks.0.gamma_1")
    if scaled:
        backbone["layer_scale_mlp"] = has("blocks.0.ls2.gamma") or has("blocks.0.gamma_2")
    else:
        backbone["layer_scale"] = None
    head: Fields = {
        "norm": has("fc_norm.weight"),
        "outputs": state["head.weight"].shape[0] if has("head.weight") else 0,
        "pool": "class" if has("cls_token") and not has("fc_norm.weight") else "mean",
    }
    if has("attn_pool.latent"):
        head |= {"pool": "attention", "pool_mlp": state["attn_pool.mlp.fc1.weight"].shape[0]}
    assumed: dict[str, Fields] = {"backbone": {"eps": 1e-6}}
    if not gated:
        assumed["backbone"]["channel"] = "gelu"
    if scaled:
        assumed["backbone"]["layer_scale"] = 1e-5
    return {"tokeniser": tokeniser, "backbone": backbone, "head": head}, assumed


def grid_of(rows: int, prefix: int, grid: tuple[int, int] | None) -> tuple[tuple[int, int], bool]:
    """The grid of a table with so many rows, and whether the special tokens have rows of their own."""
    choices = [(rows - prefix, prefix > 0), (rows, False)]
    for body, with_prefix in choices:
        side = math.isqrt(max(body, 0))
        if side and side * side == body:
            return (side, side), with_prefix
    for body, with_prefix in choices:
        if grid is not None and grid[0] * grid[1] == body:
            return grid, with_prefix
    raise UserError(
        f"the position table has {rows} rows, which is no square grid and {prefix} special token(s): set "
        "tokeniser.image to the image size that it was trained with"
    )
