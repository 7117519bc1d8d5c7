"""Normals of points from their neighbourhoods (Hoppe et al. 1992).

B clouds, N points, K neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isoform.pointcloud.ops.dispatch import Impl, check_cloud, is_real, lengths_of
from isoform.pointcloud.ops.neighbours import knn_gather, knn_points

PART = 1 << 16  # points of a cloud whose neighbourhoods are held at a time


def estimate_normals(
    points: Tensor,
    lengths: Tensor | None = None,
    neighbourhood_size: int = 50,
    disambiguate_directions: bool = True,
    *,
    impl: Impl = "auto",
) -> Tensor:
    """[B, N, 3] unit normals of points [B, N, 3]: the direction in which their neighbours vary least.

    pytorch3d calls it estimate_pointcloud_normals. A normal has no side of its own: with `disambiguate_directions` it
    points to where more neighbours lie (Tombari et al. 2010); else its largest component is positive. The neighbours
    are a point's nearest ones, itself included. 0 for padding, and where a cloud has fewer than three points or the
    neighbours don't spread. Raises ValueError for other shapes.
    """
    check_cloud(points, "points", 3)
    n = lengths_of(points, lengths, "lengths")
    k = min(neighbourhood_size, points.shape[1])
    if k < 3:
        return torch.zeros_like(points)
    index = knn_points(points, points, n, n, K=k, impl=impl).idx
    parts = [
        _of_part(points, points[:, part], index[:, part], disambiguate_directions)
        for part in (slice(at, at + PART) for at in range(0, points.shape[1], PART))
    ]
    told = is_real(n, points.shape[1]) & (n >= 3)[:, None]
    return torch.cat(parts, 1).masked_fill(~told[..., None], 0)


def _of_part(points: Tensor, asking: Tensor, index: Tensor, disambiguate: bool) -> Tensor:
    """[B, n, 3] of points [B, n, 3] whose neighbours among `points` are index [B, n, K]; 0 where these don't spread."""
    there = (index >= 0)[..., None]
    near = knn_gather(points, index)
    middle = near.sum(2, keepdim=True) / there.sum(2, keepdim=True).clamp(min=1)
    apart = (near - middle).masked_fill(~there, 0)
    covariance = apart.transpose(2, 3) @ apart
    values, vectors = torch.linalg.eigh(covariance)
    normal = vectors[..., 0]
    if disambiguate:
        side = ((near - asking[:, :, None]) * normal[:, :, None]).sum(3, keepdim=True)
        turned = ((side > 0) & there).sum((2, 3)) * 2 < there.sum((2, 3))
    else:
        largest = normal.abs().argmax(2, keepdim=True)
        turned = normal.gather(2, largest)[..., 0] < 0
    normal = torch.where(turned[..., None], -normal, normal)
    spread = values[..., 1] > 1e-12 * values[..., 2].clamp(min=torch.finfo(points.dtype).tiny)
    return torch.where(spread[..., None], normal, 0)
