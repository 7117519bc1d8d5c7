"""Which implementation serves a call."""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
from torch import Tensor

Impl = Literal["auto", "reference", "compiled", "pytorch3d"]
COMPILED_TYPES = (torch.float32, torch.float64)


def choose(impl: Impl, *clouds: Tensor) -> str:
    """ "reference", "compiled" or "pytorch3d". Raises ValueError where the one that is asked for can't serve."""
    served = all(c.device.type == "cpu" and c.dtype in COMPILED_TYPES for c in clouds)
    if impl == "auto":
        return "compiled" if served else "reference"
    if impl == "compiled" and not served:
        kinds = ", ".join(f"{c.dtype} on {c.device}" for c in clouds)
        raise ValueError(f'impl = "compiled" takes float32 and float64 on a CPU, got {kinds}')
    if impl == "pytorch3d" and importlib.util.find_spec("pytorch3d") is None:
        raise ValueError('impl = "pytorch3d": it is not installed')
    if impl not in ("reference", "compiled", "pytorch3d"):
        raise ValueError(f"impl = {impl!r}: should be auto, reference, compiled or pytorch3d")
    return impl


def check_cloud(points: Tensor, name: str, dims: int | None = None) -> None:
    """Raises ValueError unless `points` is a floating tensor [B, N, D] (of D = `dims` where that is given)."""
    if points.dim() != 3 or not points.is_floating_point():
        raise ValueError(
            f"{name}: should be floating [B, N, D], got {points.dtype} {tuple(points.shape)}"
        )
    if dims is not None and points.shape[2] != dims:
        raise ValueError(f"{name}: has {points.shape[2]} coordinates, should have {dims}")


def lengths_of(points: Tensor, lengths: Tensor | None, name: str) -> Tensor:
    """int64 [B]: how many points of each cloud are real. Raises ValueError for lengths that don't fit."""
    batch, most = points.shape[:2]
    if lengths is None:
        return torch.full((batch,), most, dtype=torch.int64, device=points.device)
    if lengths.shape != (batch,) or bool((lengths < 0).any()) or bool((lengths > most).any()):
        raise ValueError(
            f"{name}: should be {batch} lengths from 0 to {most}, got {lengths.tolist()}"
        )
    return lengths.to(torch.int64)


def is_real(lengths: Tensor, most: int) -> Tensor:
    """bool [B, N]: which points of a padded batch are real."""
    return torch.arange(most, device=lengths.device) < lengths[:, None]


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """[...] from [..., D] and [..., D]: summed coordinate by coordinate, so that every path rounds alike."""
    total = (a[..., 0] - b[..., 0]) ** 2
    for axis in range(1, a.shape[-1]):
        total = total + (a[..., axis] - b[..., axis]) ** 2
    return total
