"""How large a Backbone is, counted from its table alone: `isoform apps` tells it without importing torch."""

from __future__ import annotations

from isoform.core.config.schema import GATED, NORMS, BackboneConfig


def norm_size(backbone: BackboneConfig, dim: int, kind: str | None = None) -> int:
    """Parameters of one norm over `dim` features."""
    return dim * NORMS[kind or backbone.norm][backbone.norm_bias]


def linear_size(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of one linear layer."""
    return inputs * outputs + outputs * bias


def backbone_size(c: BackboneConfig) -> int:
    """Parameters of a Backbone, the score bias that its table names included."""
    mixer = _mixer_size(c)
    branches = [mixer]
    if c.memory == "cross":
        branches.append(_cross_size(c))
    if c.channel != "none":
        branches.append(_channel_size(c))
    count = 1 if c.layout == "parallel" else len(branches)
    around, on_stream = _around_size(c, count)
    if c.mixer == "neighbour":
        edge_mixer = linear_size(c.dim, c.heads * _head_dim(c), c.qkv_bias)
        edge_mixer += linear_size(c.heads * _head_dim(c), c.dim, c.proj_bias)
        beside_mixer = sum(branches) - mixer + around + on_stream
        block = mixer + edge_mixer + 2 * beside_mixer  # the edges' side has all but the mixer again
    else:
        modulation = 0
        if c.condition == "adaln_zero":
            modulation = linear_size(c.cond_dim or c.dim, 3 * c.dim)
        block = c.branches * (sum(branches) + count * modulation + around) + on_stream
    final = norm_size(c, c.dim) if c.final_norm else 0
    return c.depth * block + final + score_size(c)


def _head_dim(c: BackboneConfig) -> int:
    return c.head_dim or c.dim // c.heads


def _value_dim(c: BackboneConfig) -> int:
    return c.value_dim or _head_dim(c)


def _keys_and_values(c: BackboneConfig) -> int:
    """Features of the keys and values of all heads."""
    return (c.kv_heads or c.heads) * (_head_dim(c) + _value_dim(c))


def _output_size(c: BackboneConfig) -> int:
    """Of the projection of the mixed values."""
    return linear_size(c.heads * _value_dim(c), c.dim, c.proj_bias) if c.proj else 0


def _mixer_size(c: BackboneConfig) -> int:
    queries = c.heads * _head_dim(c)
    mixed = c.heads * _value_dim(c)
    size = linear_size(c.dim, queries + _keys_and_values(c), c.qkv_bias) + _output_size(c)
    if c.qk_norm != "none":
        size += 2 * norm_size(c, _head_dim(c), c.qk_norm)
    if c.mixer_norm:
        size += norm_size(c, mixed)
    if c.gated:
        size += linear_size(c.dim, mixed, c.qkv_bias)
    if c.position == "rotary_learned":
        size += 2 * c.heads * (_head_dim(c) // 2)
    return size


def _cross_size(c: BackboneConfig) -> int:
    """Of the mixer that reads the memory, whose queries and keys are projected apart."""
    queries = linear_size(c.dim, c.heads * _head_dim(c), c.qkv_bias)
    return queries + linear_size(c.dim, _keys_and_values(c), c.qkv_bias) + _output_size(c)


def _channel_size(c: BackboneConfig) -> int:
    hidden = c.mlp_dim or 4 * c.dim
    first = linear_size(c.dim, 2 * hidden if c.channel in GATED else hidden, c.mlp_bias)
    norm = norm_size(c, hidden) if c.mlp_norm else 0
    return first + norm + linear_size(hidden, c.dim, c.mlp_bias)


def _around_size(c: BackboneConfig, branches: int) -> tuple[int, int]:
    """Norms and layer scales of a block's branches, and the norms on the stream after their sums."""
    scales = 0
    if c.layer_scale is not None:
        scales = branches
        if not c.layer_scale_mlp and branches > 1 and c.channel != "none":
            scales -= 1
    norms, on_stream = 0, 0
    if c.order in ("pre", "res_post"):
        norms = branches
    elif c.order == "post":
        on_stream = branches
    else:  # cct: the MLP has none, and one replaces the stream
        norms = branches - 1 if c.channel != "none" else branches
        on_stream = 1
    norm = norm_size(c, c.dim)
    return scales * c.dim + norms * norm, on_stream * norm


def score_size(c: BackboneConfig) -> int:
    """Parameters of the score bias that the table names."""
    if c.score == "table":
        return (c.score_ids or 0) * c.heads
    if c.score == "distance":
        return c.score_gaussians * (2 + c.heads)
    return 0
