"""How large a ViT is, counted from its tables alone: `isoform apps` tells it without importing torch."""

from __future__ import annotations

from isoform.core.config.parameter_count import GATED, backbone_size, linear_size, norm_size
from isoform.core.config.schema import READOUTS, BackboneConfig
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig


def vit_size(tokeniser: VitTokeniserConfig, backbone: BackboneConfig, head: VitHeadConfig, outputs: int) -> int:
    """Parameters of a ViT with that many classes or targets."""
    dim, grid, patch = backbone.dim, token_grid(tokeniser), pair(tokeniser.patch)
    prefix = tokeniser.class_token + tokeniser.distill_token + tokeniser.registers
    total = linear_size(patch[0] * patch[1] * tokeniser.channels, dim, tokeniser.patch_bias) + prefix * dim
    total += norm_size(backbone, dim) * (tokeniser.patch_norm + tokeniser.norm)
    if tokeniser.position == "learned":
        total += (grid[0] * grid[1] + prefix * tokeniser.position_prefix) * dim
    width = dim * READOUTS[head.pool]
    if head.pool == "attention":
        total += dim + linear_size(dim, dim) * 2 + linear_size(dim, 2 * dim) + norm_size(backbone, dim)
        hidden = head.pool_mlp or backbone.mlp_dim or 4 * dim
        total += linear_size(dim, hidden) + linear_size(hidden, dim)
    total += norm_size(backbone, width) * head.norm
    if outputs:
        total += linear_size(width, outputs) + linear_size(dim, outputs) * tokeniser.distill_token
    return total + backbone_size(backbone)


def token_grid(tokeniser: VitTokeniserConfig) -> tuple[int, int]:
    """(rows, columns) of patches."""
    (height, width), (rows, columns) = pair(tokeniser.image), pair(tokeniser.patch)
    return height // rows, width // columns


def token_count(tokeniser: VitTokeniserConfig) -> int:
    """Tokens of one image, special ones included."""
    rows, columns = token_grid(tokeniser)
    return rows * columns + tokeniser.class_token + tokeniser.distill_token + tokeniser.registers


def activation_bytes(backbone: BackboneConfig, tokens: int, batch: int, itemsize: int = 4) -> int:
    """About what a training step keeps for the backward pass: linear layers' inputs and what norms and GELU need.

    A block keeps, in features a token: the stream twice, two norms' outputs, q, k, v, the mixed values and their
    projection, and the hidden layer before and after its activation. "light" computes norms and activation again,
    "block" keeps each block's input and one block's inner results.
    """
    hidden = (backbone.mlp_dim or 4 * backbone.dim) * (3 if backbone.channel in GATED else 2)
    full, light = 9 * backbone.dim + hidden, 6 * backbone.dim + hidden // 2
    inner = {"none": backbone.depth * full, "light": backbone.depth * light}.get(
        backbone.recompute, backbone.depth * backbone.dim + full
    )
    return inner * tokens * batch * itemsize


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
