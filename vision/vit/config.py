"""What a ViT adds to the backbone's table: how an image becomes tokens, and how tokens become an answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from isoform.core.config.schema import Readout, Table

# TOML has arrays, not tuples.
Pair = Annotated[tuple[int, int], Strict(False)]


class VitTokeniserConfig(Table):
    """Image -> tokens: patches, class and register tokens, positions (Dosovitskiy et al. 2021, and its descendants)."""

    image: int | Pair = Field(224, description="image height and width, pixels")
    patch: int | Pair = Field(16, description="patch height and width, pixels")
    channels: int = Field(3, gt=0, description="image channels")
    patch_bias: bool = True
    patch_norm: bool = Field(False, description="a norm right after the patch projection")
    class_token: bool = True
    distill_token: bool = Field(False, description="DeiT's second token")
    registers: int = Field(
        0, ge=0, description="tokens without meaning of their own (Darcet et al. 2024)"
    )
    position: Literal["learned", "sincos", "none"] = Field(
        "learned", description="table added to the tokens"
    )
    position_std: float = Field(
        0.02, ge=0, description="of a learned table when fresh; small data like more"
    )
    position_prefix: bool = Field(
        True, description="the table has rows for class, distillation and register tokens too"
    )
    position_resize: Literal["timm", "mae", "dinov2", "dinov2_registers", "augreg"] = Field(
        "timm",
        description="how the table is carried to another grid: each code base does it differently",
    )
    rotary: Literal["none", "axial", "learned", "dinov3"] = Field(
        "none", description="2-D rotary positions of q and k"
    )
    rotary_temperature: float = Field(10000.0, gt=0)
    rotary_grid: Pair | None = Field(
        None, description="grid on which axial angles were trained; rescaled to it"
    )
    rotary_offset: float = 0.0
    rotary_order: Literal["ij", "xy"] = Field(
        "ij", description="which axis owns the first half of the angles"
    )
    norm: bool = Field(False, description="a norm of the tokens before the first block (CLIP)")
    dropout: float = Field(0.0, ge=0, lt=1, description="of tokens after positions are added")
    patch_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of patches left out in training"
    )


class VitHeadConfig(Table):
    """Tokens -> answer."""

    pool: Readout = "class"
    pool_prefix: bool = Field(
        False, description="mean, max and attention also run over the prefix tokens"
    )
    pool_heads: int | None = Field(
        None, gt=0, description="heads of attention pooling; the backbone's if unset"
    )
    pool_mlp: int | None = Field(
        None, gt=0, description="hidden features of attention pooling; the backbone's if unset"
    )
    norm: bool = Field(
        False,
        description="a norm of the pooled features (`fc_norm`); the backbone's final norm is separate",
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    outputs: int = Field(
        0, ge=0, description="classes or targets; 0: taken from the data (no head if there is none)"
    )
