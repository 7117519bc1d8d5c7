"""Carrying a trained position table to another grid, and a patch kernel to another patch size.

Every code base interpolates its table in its own way and the results differ, so the way is a named mode.
All of it is computed in float32, whatever the input's type, and returned in that type.

h x w a grid in patches, L rows of a table = prefix + h w, D features, O output and C input channels of a kernel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("timm", "mae", "dinov2", "dinov2_registers", "augreg")


def resize_position_table(
    table_1LD: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    prefix: int,
    mode: str = "timm",
) -> Tensor:
    """The table [1, L, D] carried from one grid to another, [1, prefix + h w, D]; the `prefix` rows are copied.

    Modes, by the code base that trained with them:

        timm              bicubic with antialiasing
        mae               bicubic without (MAE, DeiT)
        dinov2            bicubic by the scale factor (new + 0.1) / old, without
        dinov2_registers  bicubic by size, with antialiasing
        augreg            bilinear without (the .npz files of "How to train your ViT?"; CCT)

    Raises ValueError for another mode and for a table that doesn't have prefix + h w rows.
    """
    if mode not in MODES:
        raise ValueError(f"no position resizing is called {mode!r}; there are {', '.join(MODES)}")
    rows = prefix + math.prod(old_grid)
    if table_1LD.shape[:2] != (1, rows):
        raise ValueError(
            f"a position table of {prefix} + {old_grid[0]} x {old_grid[1]} rows has shape [1, {rows}, D], "
            f"got {list(table_1LD.shape)}"
        )
    if tuple(old_grid) == tuple(new_grid):
        return table_1LD
    image = table_1LD[:, prefix:].float().unflatten(1, tuple(old_grid))
    image = _interpolate(image.permute(0, 3, 1, 2), new_grid, mode)
    body = image.permute(0, 2, 3, 1).flatten(1, 2).to(table_1LD)
    return torch.cat([table_1LD[:, :prefix], body], dim=1)


def _interpolate(image_1Dhw: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
    if mode == "augreg":
        return F.interpolate(
            image_1Dhw, tuple(grid), mode="bilinear", align_corners=False, antialias=False
        )
    if mode == "dinov2":
        old = image_1Dhw.shape[2:]
        factor = tuple((new + 0.1) / before for new, before in zip(grid, old, strict=True))
        return F.interpolate(image_1Dhw, scale_factor=factor, mode="bicubic", align_corners=False)
    smooth = mode in ("timm", "dinov2_registers")
    return F.interpolate(
        image_1Dhw, tuple(grid), mode="bicubic", align_corners=False, antialias=smooth
    )


@lru_cache(maxsize=16)
def _inverse_resize(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """[new pixels, old pixels]: the pseudo-inverse of the transposed matrix that resizes an image from old to new."""
    pixels = math.prod(old)
    basis = torch.eye(pixels).reshape(pixels, 1, *old)
    resized = F.interpolate(basis, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.linalg.pinv(resized.flatten(1))


def resize_patch_kernel(kernel_OChw: Tensor, new_size: tuple[int, int]) -> Tensor:
    """A patch projection's kernel for patches of another size, in pixels.

    Chosen so that a patch resized (bicubic, antialiased) gives the same token as before, as far as possible: the
    pseudo-inverse of the resizing (FlexiViT, Beyer et al. 2023, section 3.4).
    """
    height, width = kernel_OChw.shape[-2:]
    if (height, width) == tuple(new_size):
        return kernel_OChw
    inverse = _inverse_resize((height, width), tuple(new_size))
    inverse = inverse.to(kernel_OChw.device)
    flat = kernel_OChw.float().flatten(2) @ inverse.T
    return flat.unflatten(2, tuple(new_size)).to(kernel_OChw)


def change_channels(kernel_OChw: Tensor, channels: int) -> Tensor:
    """A patch kernel for images of another number of channels: the same answer where all channels are alike."""
    if kernel_OChw.shape[1] == channels:
        return kernel_OChw
    return kernel_OChw.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
