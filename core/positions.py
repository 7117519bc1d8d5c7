"""Positions: sine-cosine tables, and features rotated by angles.

B samples, H heads, N tokens, D features a head, A = D / 2 angles a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sincos_1d(position_N: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """[N, dim] sines, then cosines, of each position (Vaswani et al. 2017); float64 inside, since phases grow large."""
    number = torch.arange(dim // 2, dtype=torch.float64, device=position_N.device)
    rate = temperature ** -(number / (dim / 2))
    phase = position_N.to(torch.float64)[:, None] * rate
    return torch.cat([phase.sin(), phase.cos()], dim=1).to(torch.float32)


def sincos_2d(grid: tuple[int, int], dim: int, temperature: float = 10000.0) -> Tensor:
    """[H*W, dim] in raster order: the column's table first, then the row's, as MAE and DiT lay them out.

    Raises ValueError unless dim is a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"2-D sine-cosine positions need a dim that is a multiple of 4, got {dim}")
    rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    by_column = sincos_1d(columns.flatten(), dim // 2, temperature)
    by_row = sincos_1d(rows.flatten(), dim // 2, temperature)
    return torch.cat([by_column, by_row], dim=1)


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
