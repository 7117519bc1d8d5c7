"""Positions: sine-cosine tables and rotary angles.

B samples, H heads, N tokens, D features a head, A = D / 2 angles a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sincos_1d(position_N: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """[N, dim] sines, then cosines, of each position (Vaswani et al. 2017); float64 inside, since phases grow large."""
    rate = temperature ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    phase = position_N.to(torch.float64)[:, None] * rate
    return torch.cat([phase.sin(), phase.cos()], dim=1).to(torch.float32)


def sincos_2d(grid: tuple[int, int], dim: int, temperature: float = 10000.0) -> Tensor:
    """[H*W, dim] in raster order: the column's table first, then the row's, as MAE and DiT lay them out.

    Raises ValueError unless dim is a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"2-D sine-cosine positions need a dim that is a multiple of 4, got {dim}")
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    return torch.cat([sincos_1d(columns, dim // 2, temperature), sincos_1d(rows, dim // 2, temperature)], dim=1)


def rotate(x_BHND: Tensor, cos: Tensor, sin: Tensor, half: bool) -> Tensor:
    """Turns pairs of features of every head by the angle of their token (Su et al. 2021, equation 34).

    cos, sin: broadcastable to [B, H, N, A]. Interleaved pairs (0, 1), (2, 3), ...; with `half`, feature i is paired
    with feature i + A. In the packed layout the axes are [T, H, D] and [T, 1, A].
    """
    if half:
        a, b = x_BHND.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    pairs = x_BHND.unflatten(-1, (-1, 2))
    a, b = pairs.unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


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
    wanted = trained_grid or grid
    places = [
        (torch.arange(n, dtype=torch.float32) + offset) / n * w
        if trained_grid
        else torch.arange(n, dtype=torch.float32) + offset
        for n, w in zip(grid, wanted, strict=True)
    ]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    first, second = (rows, columns) if order == "ij" else (columns, rows)
    return torch.cat([first.flatten()[:, None] * rate, second.flatten()[:, None] * rate], dim=1)


def dinov3_angles(grid: tuple[int, int], angles: int, *, temperature: float = 100.0, offset: float = 0.0) -> Tensor:
    """[H*W, angles] rotary angles of DINOv3: patch centres in [-1, 1], rows first, times 2 pi over the periods."""
    bands = angles // 2
    period = temperature ** (torch.arange(bands, dtype=torch.float32) / bands)
    rows, columns = torch.meshgrid(
        *((torch.arange(n, dtype=torch.float32) + 0.5 + offset) / n * 2 - 1 for n in grid), indexing="ij"
    )
    turn = 2 * torch.pi / period
    return torch.cat([rows.flatten()[:, None] * turn, columns.flatten()[:, None] * turn], dim=1)
