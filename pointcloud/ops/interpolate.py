"""Features of points from those of the nearest ones that have some (Qi et al. 2017, PointNet++, equation 2).

B clouds, N points without and M with features, D coordinates, F features.
"""

from __future__ import annotations

from torch import Tensor

from isoform.pointcloud.ops.dispatch import Impl
from isoform.pointcloud.ops.neighbours import knn_gather, knn_points


def interpolate_three_nearest(
    points: Tensor,
    known: Tensor,
    features: Tensor,
    lengths: Tensor | None = None,
    known_lengths: Tensor | None = None,
    *,
    eps: float = 1e-8,
    impl: Impl = "auto",
) -> Tensor:
    """[B, N, F]: features [B, M, F] of the three of `known` [B, M, D] nearest to each of `points` [B, N, D].

    Weighted by 1 / (squared distance + eps); by fewer where there are fewer. Raises ValueError for other shapes.
    """
    near = knn_points(points, known, lengths, known_lengths, K=3, impl=impl)
    weight = (1 / (near.dists + eps)).masked_fill(near.idx < 0, 0)
    weight = weight / weight.sum(2, keepdim=True).clamp(min=eps)
    return (knn_gather(features, near.idx) * weight[..., None]).sum(2)
