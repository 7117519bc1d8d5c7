"""How large a ViT is, counted from its tables alone: `isoform apps` tells it without importing torch."""

from __future__ import annotations

from isoform.core.config.parameter_count import backbone_size, linear_size, norm_size
from isoform.core.config.schema import GATED, READOUTS, BackboneConfig
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig


def vit_size(
    tokeniser: VitTokeniserConfig,
    backbone: BackboneConfig,
    head: VitHeadConfig,
    outputs: int,
) -> int:
    """Parameters of a ViT with that many classes or targets."""
    return (
        _tokeniser_size(tokeniser, backbone)
        + backbone_size(backbone)
        + _head_size(tokeniser, backbone, head, outputs)
    )


def _tokeniser_size(tokeniser: VitTokeniserConfig, backbone: BackboneConfig) -> int:
    dim = backbone.dim
    rows, columns = token_grid(tokeniser)
    height, width = pair_of(tokeniser.patch)
    prefix = special_tokens(tokeniser)
    total = linear_size(height * width * tokeniser.channels, dim, tokeniser.patch_bias)
    total += prefix * dim
    total += norm_size(backbone, dim) * (tokeniser.patch_norm + tokeniser.norm)
    if tokeniser.position == "learned":
        total += rows * columns * dim
        total += prefix * tokeniser.position_prefix * dim
    return total


def _head_size(
    tokeniser: VitTokeniserConfig,
    backbone: BackboneConfig,
    head: VitHeadConfig,
    outputs: int,
) -> int:
    dim = backbone.dim
    width = READOUTS[head.pool] * dim
    total = norm_size(backbone, width) * head.norm
    if head.pool == "attention":
        hidden = head.pool_mlp or backbone.mlp_dim or 4 * dim
        total += dim + norm_size(backbone, dim)
        total += 2 * linear_size(dim, dim) + linear_size(dim, 2 * dim)
        total += linear_size(dim, hidden) + linear_size(hidden, dim)
    if outputs:
        total += linear_size(width, outputs)
        total += linear_size(dim, outputs) * tokeniser.distill_token
    return total


def token_grid(tokeniser: VitTokeniserConfig) -> tuple[int, int]:
    """(rows, columns) of patches."""
    height, width = pair_of(tokeniser.image)
    patch_height, patch_width = pair_of(tokeniser.patch)
    return height // patch_height, width // patch_width


def special_tokens(tokeniser: VitTokeniserConfig) -> int:
    """Tokens in front of the patches."""
    return tokeniser.class_token + tokeniser.distill_token + tokeniser.registers


def token_count(tokeniser: VitTokeniserConfig) -> int:
    """Tokens of one image, special ones included."""
    rows, columns = token_grid(tokeniser)
    return rows * columns + special_tokens(tokeniser)


def activation_bytes(
    backbone: BackboneConfig,
    tokens: int,
    batch: int,
    itemsize: int = 4,
) -> int:
    """About what a training step keeps for the backward pass: linear layers' inputs and what norms and GELU need.

    A block keeps, in features a token: the stream twice, two norms' outputs, q, k, v, the mixed values and their
    projection, and the hidden layer before and after its activation. "light" computes norms and activation again,
    "block" keeps each block's input and one block's inner results.
    """
    copies = 3 if backbone.channel in GATED else 2
    hidden = copies * (backbone.mlp_dim or 4 * backbone.dim)
    block = 9 * backbone.dim + hidden
    if backbone.recompute == "none":
        features = backbone.depth * block
    elif backbone.recompute == "light":
        features = backbone.depth * (6 * backbone.dim + hidden // 2)
    else:
        features = backbone.depth * backbone.dim + block
    return features * tokens * batch * itemsize


def pair_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
