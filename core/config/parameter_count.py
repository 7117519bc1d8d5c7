"""How large a Backbone is, counted from its table alone: `isoform apps` tells it without importing torch."""

from __future__ import annotations

from isoform.core.config.schema import NORMS, BackboneConfig

GATED = ("swiglu", "geglu")


def norm_size(backbone: BackboneConfig, dim: int, kind: str | None = None) -> int:
    """Parameters of one norm over `dim` features."""
    return dim * NORMS[kind or backbone.norm][backbone.norm_bias]


def linear_size(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of one linear layer."""
    return inputs * outputs + outputs * bias


def backbone_size(c: BackboneConfig) -> int:
    """Parameters of a Backbone, the score bias that its table names included."""
    head = c.head_dim or c.dim // c.heads
    value, kv_heads, hidden = c.value_dim or head, c.kv_heads or c.heads, c.mlp_dim or 4 * c.dim
    inner, kv, mixed = c.heads * head, kv_heads * (head + value), c.heads * value
    project = linear_size(mixed, c.dim, c.proj_bias) if c.proj else 0
    mixer = linear_size(c.dim, inner + kv, c.qkv_bias) + project
    mixer += 2 * norm_size(c, head, c.qk_norm) if c.qk_norm != "none" else 0
    mixer += norm_size(c, mixed) * c.mixer_norm + linear_size(c.dim, mixed, c.qkv_bias) * c.gated
    mixer += 2 * c.heads * (head // 2) * (c.position == "rotary_learned")
    channel = linear_size(c.dim, hidden * (2 if c.channel in GATED else 1), c.mlp_bias)
    channel += norm_size(c, hidden) * c.mlp_norm + linear_size(hidden, c.dim, c.mlp_bias)
    branches = [mixer] if c.channel == "none" else [mixer, channel]
    if c.memory == "cross":
        branches.insert(1, linear_size(c.dim, inner, c.qkv_bias) + linear_size(c.dim, kv, c.qkv_bias) + project)
    wraps = 1 if c.layout == "parallel" else len(branches)
    scales = 0 if c.layer_scale is None else wraps - (not c.layer_scale_mlp and wraps > 1 and c.channel != "none")
    modulation = linear_size(c.cond_dim or c.dim, 3 * c.dim) * (c.condition == "adaln_zero")
    in_wraps = {"pre": wraps, "res_post": wraps, "cct": wraps - (c.channel != "none")}.get(c.order, 0)
    on_stream = {"post": wraps, "cct": 1}.get(c.order, 0)
    norm = norm_size(c, c.dim)
    around = scales * c.dim + in_wraps * norm + on_stream * norm
    if c.mixer == "neighbour":
        edge = linear_size(c.dim, inner, c.qkv_bias) + linear_size(inner, c.dim, c.proj_bias)
        block = mixer + edge + 2 * (sum(branches) - mixer + around)  # the edges' side has all but the mixer again
    else:
        block = c.branches * (sum(branches) + wraps * modulation + around - on_stream * norm) + on_stream * norm
    return c.depth * block + norm * c.final_norm + score_size(c)


def score_size(c: BackboneConfig) -> int:
    """Parameters of the score bias that the table names."""
    return {"table": (c.score_ids or 0) * c.heads, "distance": c.score_gaussians * (2 + c.heads)}.get(c.score, 0)
