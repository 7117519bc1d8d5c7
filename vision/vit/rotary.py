"""Rotary angles of the patches of an image: what the ViTs of EVA-02 and DINOv3 turn queries and keys by."""

from __future__ import annotations

import torch
from torch import Tensor


def axial_angles(
    grid: tuple[int, int],
    angles: int,
    *,
    temperature: float = 10000.0,
    trained_grid: tuple[int, int] | None = None,
    offset: float = 0.0,
    order: str = "ij",
) -> Tensor:
    """[H*W, angles] rotary angles on a raster: half of them turn with one axis, half with the other (EVA-02).

    Positions count patches from `offset`, rescaled to `trained_grid` where one is given. `order` "ij" gives the rows
    the first half, "xy" the columns.
    """
    bands = angles // 2
    rate = temperature ** -(torch.arange(bands, dtype=torch.float32) / bands)
    places = [torch.arange(n, dtype=torch.float32) + offset for n in grid]
    if trained_grid is not None:
        places = [
            place / n * trained
            for place, n, trained in zip(places, grid, trained_grid, strict=True)
        ]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    axes = (rows, columns) if order == "ij" else (columns, rows)
    return torch.cat([axis.flatten()[:, None] * rate for axis in axes], dim=1)


def dinov3_angles(
    grid: tuple[int, int], angles: int, *, temperature: float = 100.0, offset: float = 0.0
) -> Tensor:
    """[H*W, angles] rotary angles of DINOv3: patch centres in [-1, 1], rows first, times 2 pi over the periods."""
    bands = angles // 2
    period = temperature ** (torch.arange(bands, dtype=torch.float32) / bands)
    centres = [(torch.arange(n, dtype=torch.float32) + 0.5 + offset) / n * 2 - 1 for n in grid]
    rate = 2 * torch.pi / period
    axes = torch.meshgrid(*centres, indexing="ij")
    return torch.cat([axis.flatten()[:, None] * rate for axis in axes], dim=1)
