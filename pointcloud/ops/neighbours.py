"""Nearest neighbours and balls in other clouds, and gathering by index.

B clouds, N asking and M answering points, K neighbours, D coordinates, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from isoform.pointcloud.ops.dispatch import (
    Impl,
    check_cloud,
    choose,
    is_real,
    lengths_of,
    squared_distance,
)

CHUNK = 1 << 24  # distances that the reference holds at a time


class KNN(NamedTuple):
    """What pytorch3d calls the same: squared dists [B, N, K], idx int64 [B, N, K], knn [B, N, K, D] or None."""

    dists: Tensor
    idx: Tensor
    knn: Tensor | None


def knn_points(
    p1: Tensor,
    p2: Tensor,
    lengths1: Tensor | None = None,
    lengths2: Tensor | None = None,
    norm: int = 2,
    K: int = 1,
    version: int = -1,
    return_nn: bool = False,
    return_sorted: bool = True,
    *,
    impl: Impl = "auto",
) -> KNN:
    """The K points of p2 [B, M, D] nearest to each of p1 [B, N, D], nearest first; see pytorch3d.ops.knn_points.

    Ties go to the lower index. Where a cloud has fewer than K points the rest is 0 in dists and -1 in idx, as are the
    rows of padding. Gradients reach both clouds through dists and knn; through dists of "triton" once, without second
    derivatives, and in the same bits every time. `version` is pytorch3d's and ignored, as is `return_sorted`:
    neighbours always are. Raises ValueError for other shapes, for norm != 2, and for what `impl` can't serve.
    """
    n1, n2 = _check(p1, p2, lengths1, lengths2)
    if norm != 2:
        raise ValueError(f"norm = {norm}: squared Euclidean distances are what there is, norm = 2")
    if K < 1:
        raise ValueError(f"K: should be at least 1, got {K}")
    chosen = choose(impl, "nearest", p1, p2, neighbours=K)
    if chosen == "pytorch3d":
        from pytorch3d import ops  # type: ignore[import-not-found, unused-ignore]

        return KNN(*ops.knn_points(p1, p2, n1, n2, norm, K, version, return_nn, return_sorted))
    if chosen == "triton":
        from isoform.pointcloud.ops.triton_op import nearest_points

        dists, index = nearest_points(p1, p2, n1, n2, K)
        return KNN(dists, index, knn_gather(p2, index) if return_nn else None)
    with torch.no_grad():
        if chosen == "compiled":
            from isoform.pointcloud.ops import compiled

            index = compiled.nearest(p1, p2, n1, n2, K)
        else:
            index = _nearest(p1, p2, n1, n2, K)
    return _answer(p1, p2, index, return_nn)


def ball_query(
    p1: Tensor,
    p2: Tensor,
    lengths1: Tensor | None = None,
    lengths2: Tensor | None = None,
    K: int = 500,
    radius: float = 0.2,
    return_nn: bool = True,
    *,
    impl: Impl = "auto",
) -> KNN:
    """The first K points of p2, by index, closer than `radius` to each of p1; see pytorch3d.ops.ball_query.

    Shapes, padding and gradients as in `knn_points`. Raises ValueError for other shapes and a radius below 0.
    """
    n1, n2 = _check(p1, p2, lengths1, lengths2)
    if K < 1 or radius < 0:
        raise ValueError(f"K: at least 1, and radius: at least 0; got {K} and {radius}")
    chosen = choose(impl, "ball", p1, p2)
    if chosen == "pytorch3d":
        from pytorch3d import ops  # type: ignore[import-not-found, unused-ignore]

        return KNN(*ops.ball_query(p1, p2, n1, n2, K, radius, return_nn))
    with torch.no_grad():
        if chosen == "compiled":
            from isoform.pointcloud.ops import compiled

            index = compiled.ball(p1, p2, n1, n2, K, radius)
        else:
            index = _ball(p1, p2, n1, n2, K, radius)
    return _answer(p1, p2, index, return_nn)


def knn_gather(x: Tensor, idx: Tensor, lengths: Tensor | None = None) -> Tensor:
    """[B, N, K, F] rows of x [B, M, F] at idx [B, N, K], zeros for -1; see pytorch3d.ops.knn_gather.

    With `lengths` an index beyond a cloud's last point gives zeros too.
    """
    batch, n, k = idx.shape
    absent = idx < 0
    if lengths is not None:
        absent = absent | (idx >= lengths[:, None, None])
    if not x.shape[1]:
        return x.new_zeros(batch, n, k, x.shape[2])
    flat = idx.clamp(0, x.shape[1] - 1).reshape(batch, n * k, 1).expand(-1, -1, x.shape[2])
    rows = x.gather(1, flat).reshape(batch, n, k, x.shape[2])
    # On a CPU looking is cheaper than filling in; a GPU would be waited for, and a compiler can't look.
    looking = not x.is_cuda and not torch.compiler.is_compiling()
    if looking and not bool(absent.any()):
        return rows
    return rows.masked_fill(absent[..., None], 0)


def _check(
    p1: Tensor, p2: Tensor, lengths1: Tensor | None, lengths2: Tensor | None
) -> tuple[Tensor, Tensor]:
    check_cloud(p1, "p1")
    check_cloud(p2, "p2", p1.shape[2])
    if p1.shape[0] != p2.shape[0] or p1.dtype != p2.dtype or p1.device != p2.device:
        one, two = (f"{p.dtype} {tuple(p.shape)} on {p.device}" for p in (p1, p2))
        raise ValueError(
            f"p1 and p2: should be as many clouds of one type and device, got {one} and {two}"
        )
    return lengths_of(p1, lengths1, "lengths1"), lengths_of(p2, lengths2, "lengths2")


def _answer(p1: Tensor, p2: Tensor, index: Tensor, return_nn: bool) -> KNN:
    near = knn_gather(p2, index)
    dists = squared_distance(p1[:, :, None], near)
    if bool((index < 0).any()):
        dists = dists.masked_fill(index < 0, 0)
    return KNN(dists, index, near if return_nn else None)


def _distances(p1: Tensor, p2: Tensor, n2: Tensor, part: slice) -> Tensor:
    """[B, n, M] of the points `part` of p1; infinite to padding."""
    found = squared_distance(p1[:, part, None], p2[:, None])
    return found.masked_fill(~is_real(n2, p2.shape[1])[:, None], torch.inf)


def _parts(p1: Tensor, p2: Tensor) -> list[slice]:
    step = max(1, CHUNK // max(1, p2.shape[0] * p2.shape[1]))
    return [slice(at, at + step) for at in range(0, p1.shape[1], step)]


def _nearest(p1: Tensor, p2: Tensor, n1: Tensor, n2: Tensor, k: int) -> Tensor:
    """int64 [B, N, K]; a stable sort sends ties to the lower index."""
    index = torch.full((*p1.shape[:2], k), -1, dtype=torch.int64, device=p1.device)
    for part in _parts(p1, p2):
        order = _distances(p1, p2, n2, part).argsort(dim=2, stable=True)[:, :, :k]
        index[:, part, : order.shape[2]] = order
    return _hide(index, n1, torch.arange(k, device=p1.device) >= n2[:, None])


def _ball(p1: Tensor, p2: Tensor, n1: Tensor, n2: Tensor, k: int, radius: float) -> Tensor:
    index = torch.full((*p1.shape[:2], k), -1, dtype=torch.int64, device=p1.device)
    limit = torch.tensor(radius, dtype=p1.dtype, device=p1.device) ** 2
    places = torch.arange(p2.shape[1], device=p1.device)
    for part in _parts(p1, p2):
        inside = _distances(p1, p2, n2, part) < limit
        first = torch.where(inside, places, p2.shape[1]).sort(2).values[:, :, :k]
        index[:, part, : first.shape[2]] = first.masked_fill(first == p2.shape[1], -1)
    return _hide(index, n1, None)


def _hide(index: Tensor, n1: Tensor, beyond: Tensor | None) -> Tensor:
    """-1 in the rows of padding, and at the places `beyond` [B, K]."""
    index = index.masked_fill(~is_real(n1, index.shape[1])[:, :, None], -1)
    return index if beyond is None else index.masked_fill(beyond[:, None], -1)
