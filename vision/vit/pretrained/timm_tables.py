"""Reading a ViT's three tables off an instantiated timm model.

Activations, eps, biases and pooling can't be told from tensor shapes, and differ within one family of names; so they
are read from the modules themselves. Whatever isn't understood is refused by name, never taken for a default.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.pretrained.names import Projection, TimmNames

Fields = dict[str, Any]

MODELS = ("VisionTransformer", "VisionTransformerDistilled", "Eva")
KNOWN = {
    *MODELS, "Block", "ResPostBlock", "ParallelScalingBlock", "ParallelThingsBlock", "EvaBlock", "EvaBlockPostNorm",
    "Attention", "AttentionRope", "EvaAttention", "AttentionPoolLatent", "PatchEmbed", "Mlp", "GluMlp", "SwiGLU",
    "LayerNorm", "RmsNorm", "LayerScale", "DropPath", "Dropout", "Identity", "Linear", "Conv2d", "Sequential",
    "ModuleList", "GELU", "GELUTanh", "QuickGELU", "SiLU", "ReLU", "RotaryEmbeddingCat", "RotaryEmbeddingDinoV3",
    "RotaryEmbeddingMixed", "PatchDropout", "PatchDropoutWithIndices",
}  # fmt: skip
FEATURES = {
    "DiffAttention": "differential attention",
    "DiffParallelScalingBlock": "differential attention",
    "AttentionPoolPrr": "pooling by patch representation refinement",
    "RotaryEmbeddingMRope": "multimodal rotary positions",
    "HybridEmbed": "patches from a convolutional network",
}
ACTIVATIONS = {"GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu", "ReLU": "relu"}
POOLS = {
    "token": "class",
    "avg": "mean",
    "avgmax": "mean_max",
    "max": "max",
    "map": "attention",
    "": "none",
}


class Unsupported(UserError):
    """A feature of the foreign model that isoform's ViT doesn't have; `feature` names it."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"isoform's ViT has no {feature}, so this model can't be imported; choose another one"
        )
        self.feature = feature


@dataclass(frozen=True)
class Architecture:
    """A ViT as its three tables, and how its checkpoints name the weights."""

    tokeniser: VitTokeniserConfig
    backbone: BackboneConfig
    head: VitHeadConfig
    names: TimmNames


def read_tables(model: nn.Module) -> Architecture:
    """The tables of a timm ViT (on any device, meta included). Raises Unsupported, naming the feature."""
    for module in model.modules():
        kind = type(module).__name__
        if kind in FEATURES:
            raise Unsupported(FEATURES[kind])
    if type(model).__name__ not in MODELS:
        raise Unsupported(f"counterpart of timm's {type(model).__name__}")
    for module in model.modules():
        if type(module).__name__ not in KNOWN:
            raise Unsupported(f"counterpart of timm's {type(module).__name__}")
    parts: Any = model
    blocks = [_block(block) for block in parts.blocks]
    if not blocks:
        raise Unsupported("stack without blocks")
    kv_heads = tuple(fields.pop("kv_heads") for fields, _ in blocks)
    fields, names = blocks[0]
    for other, other_names in blocks[1:]:
        differing = sorted(key for key in fields if fields[key] != other[key])
        if differing or other_names != names:
            raise Unsupported(
                f"blocks that differ from each other (in {', '.join(differing) or 'their layout'})"
            )
    if len(set(kv_heads)) > 1:
        raise Unsupported("number of key/value heads that changes from block to block")
    fields |= {
        "dim": parts.embed_dim,
        "depth": len(blocks),
        "kv_heads": None if kv_heads[0] == fields["heads"] else kv_heads[0],
        "final_norm": not _absent(parts.norm),
        "drop_path": _last_drop_path(parts.blocks[-1]),
        **_norms(model),
    }
    tokeniser = _tokeniser(parts)
    rotary, position = _rotary(parts)
    head = _head(parts, fields)
    return Architecture(
        VitTokeniserConfig.model_validate(tokeniser | rotary),
        BackboneConfig.model_validate(fields | {"position": position}),
        VitHeadConfig.model_validate(head),
        names,
    )


def _absent(module: nn.Module | None) -> bool:
    return module is None or type(module).__name__ == "Identity"


def _same(values: Iterable[Any], feature: str) -> Any:
    found = set(values)
    if len(found) > 1:
        raise Unsupported(feature)
    return found.pop() if found else None


def _norms(model: nn.Module) -> Fields:
    """Kind, eps and bias, which our table holds once for all norms."""
    norms: list[Any] = [m for m in model.modules() if type(m).__name__ in ("LayerNorm", "RmsNorm")]
    if not norms:
        return {"norm": "none"}
    kind = _same((type(m).__name__ for m in norms), "mixture of LayerNorm and RMSNorm in one model")
    if any(m.weight is None for m in norms):
        raise Unsupported("norm without weights here")
    biased = kind == "LayerNorm" and _same(
        (m.bias is not None for m in norms), "mixture of norms with and without bias"
    )
    return {
        "norm": "layer" if kind == "LayerNorm" else "rms",
        "eps": float(_same((m.eps for m in norms), "norms of different eps in one model")),
        "norm_bias": bool(biased) if kind == "LayerNorm" else True,
    }


def _norm_kind(module: nn.Module) -> str:
    return (
        "none"
        if _absent(module)
        else {"LayerNorm": "layer", "RmsNorm": "rms"}[type(module).__name__]
    )


def _block(block: Any) -> tuple[Fields, TimmNames]:
    """A block's own part of the backbone's table, and the names of its weights."""
    match type(block).__name__:
        case "ParallelScalingBlock":
            return _scaling_block(block)
        case "ParallelThingsBlock":
            pairs = list(zip(block.attns, block.ffns, strict=True))
            copies = [_branches(a.attn, f.mlp, _gamma(a.ls), _gamma(f.ls)) for a, f in pairs]
            if any(copy != copies[0] for copy in copies):
                raise Unsupported("parallel branches that differ from each other")
            fields, names = copies[0]
            return fields | {"order": "pre", "branches": len(pairs)}, TimmNames(
                family="things", qkv=names.qkv, split_mlp=names.split_mlp
            )
        case "EvaBlock" | "EvaBlockPostNorm" as kind:
            scales = [getattr(block, g, None) is not None for g in ("gamma_1", "gamma_2")]
            value = float(block.init_values) if any(scales) else None
            fields, names = _branches(block.attn, block.mlp, value, value if scales[1] else None)
            order = "res_post" if kind == "EvaBlockPostNorm" else "pre"
            return fields | {"order": order}, TimmNames(
                post=order == "res_post", gamma="flat", qkv=names.qkv, split_mlp=names.split_mlp
            )
        case kind:
            order = "res_post" if kind == "ResPostBlock" else "pre"
            modules = [getattr(block, ls, None) for ls in ("ls1", "ls2")]
            fields, names = _branches(block.attn, block.mlp, *(_gamma(ls) for ls in modules))
            return fields | {"order": order}, TimmNames(
                post=order == "res_post", qkv=names.qkv, split_mlp=names.split_mlp
            )


def _gamma(module: Any) -> float | None:
    if _absent(module):
        return None
    value = getattr(module, "init_values", None)
    return float(value) if value else 1e-5


def _branches(
    attn: Any, mlp: Any, scale1: float | None, scale2: float | None
) -> tuple[Fields, TimmNames]:
    """Attention, MLP and LayerScale of a block with both in sequence."""
    fields, qkv = _attention(attn)
    hidden, split = _mlp(mlp)
    if scale1 is None and scale2 is not None:
        raise Unsupported("LayerScale on the MLP's branch alone")
    if mlp.drop1.p != fields["dropout"]:
        raise Unsupported("dropout that differs between attention and MLP")
    scale = {"layer_scale": scale1, "layer_scale_mlp": scale1 is None or scale2 is not None}
    return fields | hidden | scale, TimmNames(qkv=qkv, split_mlp=split)


def _attention(attn: Any) -> tuple[Fields, Projection]:
    fused = getattr(attn, "qkv", None) is not None
    if fused:
        separate = getattr(attn, "q_bias", None) is not None
        bias = separate or attn.qkv.bias is not None
        names: Projection = "fused_separate_bias" if separate else "fused"
        width = attn.qkv.in_features
    else:
        biases = [linear.bias is not None for linear in (attn.q_proj, attn.k_proj, attn.v_proj)]
        if biases not in ([True] * 3, [False] * 3, [True, False, True]):
            raise Unsupported("such a choice of biases of queries, keys and values")
        bias, width = biases[0], attn.q_proj.in_features
        names = "separate_no_key_bias" if biases == [True, False, True] else "separate"
    gate = getattr(attn, "gate", None)
    if gate is not None and (gate.bias is not None) != bias:
        raise Unsupported("gate whose bias differs from the queries'")
    heads, head_dim = attn.num_heads, attn.head_dim
    return {
        "heads": heads,
        "kv_heads": getattr(attn, "num_kv_heads", heads),
        "head_dim": None if heads * head_dim == width else head_dim,
        "qkv_bias": bias,
        "proj_bias": attn.proj.bias is not None,
        "qk_norm": _same(
            (_norm_kind(attn.q_norm), _norm_kind(attn.k_norm)), "norm of queries or keys alone"
        ),
        "mixer_norm": not _absent(attn.norm),
        "gated": gate is not None,
        "dropout": float(attn.proj_drop.p),
        "attention_dropout": float(attn.attn_drop.p),
    }, names


def _activation(module: nn.Module) -> str:
    kind = type(module).__name__
    if kind == "GELU":
        return "gelu_tanh" if getattr(module, "approximate", "none") == "tanh" else "gelu"
    if kind not in ACTIVATIONS:
        raise Unsupported(f"activation {kind}")
    return ACTIVATIONS[kind]


def _mlp(mlp: Any) -> tuple[Fields, bool]:
    kind = type(mlp).__name__
    channel, first = _activation(mlp.act), mlp.fc1_g if kind == "SwiGLU" else mlp.fc1
    if kind in ("SwiGLU", "GluMlp"):
        if channel not in ("silu", "gelu") or getattr(mlp, "gate_last", False):
            raise Unsupported(
                f"gated MLP with {channel}"
                + (" and the gate last" * getattr(mlp, "gate_last", False))
            )
        channel = {"silu": "swiglu", "gelu": "geglu"}[channel]
    bias = _same(
        (first.bias is not None, mlp.fc2.bias is not None), "MLP with a bias in one of its layers"
    )
    fields = {
        "channel": channel,
        "mlp_dim": mlp.fc2.in_features,
        "mlp_bias": bias,
        "mlp_norm": not _absent(mlp.norm),
    }
    return fields, kind == "SwiGLU"


def _scaling_block(block: Any) -> tuple[Fields, TimmNames]:
    """Attention and MLP side by side, behind one norm and one projection (Dehghani et al. 2023)."""
    if block.out_proj is not None:
        raise Unsupported("output projection that attention and MLP share")
    if block.mlp_out_proj.bias is None:
        raise Unsupported("MLP with a bias in one of its layers")
    dim = block.attn_out_proj.out_features
    return {
        "layout": "parallel",
        "order": "pre",
        "heads": block.num_heads,
        "kv_heads": block.num_heads,
        "head_dim": None if block.num_heads * block.head_dim == dim else block.head_dim,
        "qkv_bias": block.in_proj.bias is not None,
        "proj_bias": block.attn_out_proj.bias is not None,
        "qk_norm": _same(
            (_norm_kind(block.q_norm), _norm_kind(block.k_norm)), "norm of queries or keys alone"
        ),
        "channel": _activation(block.mlp_act),
        "mlp_dim": block.mlp_out_proj.in_features,
        "mlp_bias": True,
        "layer_scale": _gamma(block.ls),
        "dropout": float(block.mlp_drop.p),
        "attention_dropout": float(block.attn_drop.p),
    }, TimmNames(
        family="scaling", qkv="fused" if block.in_proj.bias is not None else "fused_no_bias"
    )


def _last_drop_path(block: Any) -> float:
    module = (
        block.attns[0].drop_path if hasattr(block, "attns") else getattr(block, "drop_path1", None)
    )
    module = module if module is not None else block.drop_path
    return 0.0 if _absent(module) else float(module.drop_prob)


def _tokeniser(model: Any) -> Fields:
    patch = model.patch_embed
    if patch.dynamic_img_pad:
        raise Unsupported("padding of images that the patches don't tile")
    distilled, registers = getattr(model, "dist_token", None), model.reg_token
    dropped = getattr(model, "patch_drop", None)
    height, width = patch.img_size
    fields = {
        "image": height if height == width else (height, width),
        "patch": patch.patch_size[0]
        if patch.patch_size[0] == patch.patch_size[1]
        else tuple(patch.patch_size),
        "channels": patch.proj.in_channels,
        "patch_bias": patch.proj.bias is not None,
        "patch_norm": not _absent(patch.norm),
        "class_token": model.cls_token is not None,
        "distill_token": distilled is not None,
        "registers": 0 if registers is None else registers.shape[1],
        "position": "none" if model.pos_embed is None else "learned",
        "position_resize": "timm",
        "norm": not _absent(model.norm_pre),
        "dropout": float(model.pos_drop.p),
        "patch_dropout": 0.0 if dropped is None or _absent(dropped) else float(dropped.prob),
    }
    prefix = int(fields["class_token"]) + int(fields["distill_token"]) + int(fields["registers"])
    if model.pos_embed is not None:
        fields["position_prefix"] = bool(prefix) and not model.no_embed_class
        expected = patch.num_patches + (prefix if fields["position_prefix"] else 0)
        if model.pos_embed.shape[1] != expected:
            raise Unsupported(
                f"position table of {model.pos_embed.shape[1]} rows for {expected} tokens"
            )
    return fields


def _rotary(model: Any) -> tuple[Fields, str]:
    """The tokeniser's rotary keys and the backbone's `position`."""
    rope = getattr(model, "rope", None)
    if rope is None:
        return {"rotary": "none"}, "none"
    kind, half = type(rope).__name__, bool(getattr(rope, "rotate_half", False))
    if any(bool(getattr(block.attn, "rotate_half", False)) != half for block in model.blocks):
        raise Unsupported("rotation that differs from its angles' layout")
    fields: Fields = {"rotary_order": rope.grid_indexing}
    if kind == "RotaryEmbeddingMixed":
        return fields | {"rotary": "learned"}, "rotary_learned"
    fields["rotary_offset"] = float(rope.grid_offset)
    if rope.temperature is None:
        raise Unsupported("rotary periods given by their smallest and largest")
    fields["rotary_temperature"] = float(rope.temperature)
    if kind == "RotaryEmbeddingDinoV3":
        if rope.normalize_coords != "separate" or rope.min_period is not None:
            raise Unsupported(f"rotary coordinates normalised by {rope.normalize_coords!r}")
        if rope.grid_indexing != "ij":
            raise Unsupported("DINOv3's rotary positions with columns first")
        fields["rotary"] = "dinov3"
    else:
        if rope.in_pixels or rope.grid_type != "index":
            raise Unsupported("rotary positions in pixels")
        fields |= {
            "rotary": "axial",
            "rotary_grid": rope.ref_feat_shape and tuple(rope.ref_feat_shape),
        }
    return fields, "rotary_half" if half else "rotary"


def _head(model: Any, backbone: Fields) -> Fields:
    distilled = type(model).__name__ == "VisionTransformerDistilled"
    if distilled and not _absent(model.fc_norm):
        raise Unsupported("norm behind the pooling of a distilled model")
    fields: Fields = {
        "pool": POOLS[model.global_pool],
        "pool_prefix": bool(getattr(model, "pool_include_prefix", False)),
        "norm": not _absent(model.fc_norm),
        "dropout": float(model.head_drop.p),
        "outputs": model.num_classes,
    }
    if not _absent(model.head) and model.head.bias is None:
        raise Unsupported("head without bias")
    pool = model.attn_pool
    if pool is not None:
        plain = backbone["channel"]
        if plain in ("swiglu", "geglu"):
            plain = "gelu"
        if not _is_plain_pool(pool, plain):
            raise Unsupported("attention pooling of that form")
        fields |= {"pool_heads": pool.num_heads, "pool_mlp": pool.mlp.fc2.in_features}
        if type(model).__name__ == "Eva":
            fields["pool_prefix"] = True  # it pools over all tokens
    return fields


def _is_plain_pool(pool: Any, activation: str) -> bool:
    """Whether timm's attention pooling is the one that isoform has: one query, normed, with an MLP of that kind."""
    if (
        pool.latent_len != 1
        or pool.pos_embed is not None
        or pool.pool != "token"
        or pool.mlp is None
    ):
        return False
    if type(pool.q).__name__ != "Linear" or pool.q.bias is None or pool.kv.bias is None:
        return False
    if not (_absent(pool.q_norm) and _absent(pool.k_norm)) or _absent(pool.norm):
        return False
    return _activation(pool.mlp.act) == activation and pool.mlp.fc1.bias is not None
