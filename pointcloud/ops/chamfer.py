"""Chamfer distances: how far each of two sets is from the other, by every point's nearest neighbour (Fan et al. 2017).

B pairs of clouds, N and M points, D coordinates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from isoform.pointcloud.ops.dispatch import Impl, is_real, lengths_of
from isoform.pointcloud.ops.neighbours import KNN, knn_points

Reduction = Literal["mean", "sum"]


def chamfer_l2(a: Tensor, b: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Mean squared distance of all a [B, N, D] to b [B, M, D], plus that of all b to a: Point-MAE's "cdl2"."""
    there, back = _both_ways(a, b, impl)
    return there.mean() + back.mean()


def chamfer_l1(a: Tensor, b: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Half the sum of the mean distances, not squared: Point-MAE's "cdl1".

    The gradient of a point that lies on its neighbour is 0 (the official one is NaN there).
    """
    there, back = _both_ways(a, b, impl)
    return (_root(there).mean() + _root(back).mean()) / 2


def chamfer_distance(
    x: Tensor,
    y: Tensor,
    x_lengths: Tensor | None = None,
    y_lengths: Tensor | None = None,
    x_normals: Tensor | None = None,
    y_normals: Tensor | None = None,
    weights: Tensor | None = None,
    batch_reduction: Reduction | None = "mean",
    point_reduction: Reduction = "mean",
    norm: int = 2,
    single_directional: bool = False,
    abs_cosine: bool = True,
    *,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor | None]:
    """(distance, that of normals or None) of x [B, N, D] and y [B, M, D]; see pytorch3d.loss.chamfer_distance.

    Squared distances to the nearest point are reduced over points and then over pairs, [B] without `batch_reduction`,
    and both directions are summed unless `single_directional`. `weights` [B] of the pairs. Of normals the distance is
    1 - |cosine| of neighbours, or 1 - cosine with abs_cosine = False.

    Raises ValueError for other shapes, other reductions and norm != 2.
    """
    for name, value in (("batch_reduction", batch_reduction), ("point_reduction", point_reduction)):
        if value not in (("mean", "sum") if name == "point_reduction" else ("mean", "sum", None)):
            raise ValueError(f"{name} = {value!r}: should be mean or sum")
    if norm != 2:
        raise ValueError(f"norm = {norm}: squared Euclidean distances are what there is, norm = 2")
    if (x_normals is None) != (y_normals is None):
        raise ValueError("x_normals and y_normals: give both or none")
    n, m = lengths_of(x, x_lengths, "x_lengths"), lengths_of(y, y_lengths, "y_lengths")

    def one_way(
        a: Tensor, b: Tensor, na: Tensor, nb: Tensor, normals: tuple[Tensor, Tensor] | None
    ) -> list[Tensor]:
        near = knn_points(a, b, na, nb, impl=impl)
        found = [near.dists[:, :, 0]]
        if normals is not None:
            found.append(_between_normals(*normals, near, abs_cosine))
        return [_over_points(value, na, point_reduction) for value in found]

    pair = (x_normals, y_normals) if x_normals is not None and y_normals is not None else None
    sums = one_way(x, y, n, m, pair)
    if not single_directional:
        back = one_way(y, x, m, n, None if pair is None else pair[::-1])
        sums = [there + other for there, other in zip(sums, back, strict=True)]
    if weights is not None:
        sums = [value * weights for value in sums]
    if batch_reduction is not None:
        whole = sums[0].new_tensor(float(len(x))) if weights is None else weights.sum()
        sums = [value.sum() for value in sums]
        if batch_reduction == "mean":
            sums = [value / whole.clamp(min=torch.finfo(value.dtype).tiny) for value in sums]
    return sums[0], sums[1] if pair is not None else None


def _both_ways(a: Tensor, b: Tensor, impl: Impl) -> tuple[Tensor, Tensor]:
    return knn_points(a, b, impl=impl).dists, knn_points(b, a, impl=impl).dists


def _root(squared: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def _between_normals(a: Tensor, b: Tensor, near: KNN, absolute: bool) -> Tensor:
    index = near.idx[:, :, :1].clamp(min=0).expand(-1, -1, b.shape[2])
    cosine = torch.cosine_similarity(a, b.gather(1, index), dim=2, eps=1e-6)
    return 1 - (cosine.abs() if absolute else cosine)


def _over_points(value_BN: Tensor, n: Tensor, reduction: Reduction) -> Tensor:
    """[B]"""
    total = value_BN.masked_fill(~is_real(n, value_BN.shape[1]), 0).sum(1)
    return total if reduction == "sum" else total / n.clamp(min=1)
