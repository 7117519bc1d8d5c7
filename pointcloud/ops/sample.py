"""Farthest point sampling: each next point is the one farthest from all that were chosen (Eldar et al. 1997).

B clouds, N points, K chosen ones, D coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

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
from isoform.pointcloud.ops.neighbours import knn_gather

Ties = Literal["lowest", "cuda"]


def sample_farthest_points(
    points: Tensor,
    lengths: Tensor | None = None,
    K: int | Sequence[int] | Tensor = 50,
    random_start_point: bool = False,
    *,
    generator: torch.Generator | None = None,
    origin_rule: float | None = None,
    ties: Ties = "lowest",
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """K points of each cloud [B, N, D], or all where it has fewer; see pytorch3d.ops.sample_farthest_points.

    Returns (points [B, max K, D], zeros behind a cloud's last; their indices int64 [B, max K], -1 there). It starts at
    index 0, or at a point that `generator` draws. Two things are as pointnet2_ops does them on request:

    origin_rule   squared radius (1e-3 there) around the origin whose points are never chosen, but for the first
    ties          of equally far points "lowest" takes the lowest index, "cuda" the one that its kernel keeps: T
                  threads, the largest power of two up to min(N, 512), hold index mod T, and are compared by halves

    Raises ValueError for other shapes, K < 1, and an implementation that can't do what is asked.
    """
    check_cloud(points, "points")
    n = lengths_of(points, lengths, "lengths")
    k, most = _counts(K, points)
    count = torch.minimum(k, n)
    start = torch.zeros_like(n)
    if random_start_point:
        drawn = torch.rand(len(n), generator=generator, dtype=torch.float64).to(n.device)
        start = torch.minimum((drawn * n).long(), (n - 1).clamp(min=0))
    chosen = choose(impl, "farthest", points)
    if chosen == "pytorch3d":
        return _by_pytorch3d(points, n, k, random_start_point, origin_rule, ties)
    with torch.no_grad():
        if chosen == "compiled":
            from isoform.pointcloud.ops import compiled

            index = compiled.farthest(points, n, count, start, most, origin_rule, ties == "cuda")
        elif chosen == "triton":
            from isoform.pointcloud.ops.triton_op import farthest_points

            nearest = torch.where(_allowed(points, n, origin_rule), torch.inf, -1.0)
            order = _order(points, n) if ties == "cuda" else None
            index = farthest_points(points, nearest, order, start, count, most)
        else:
            index = _reference(points, n, count, start, most, origin_rule, ties)
    return knn_gather(points, index[:, :, None]).squeeze(2), index


def _reference(
    points: Tensor,
    n: Tensor,
    count: Tensor,
    start: Tensor,
    most: int,
    origin_rule: float | None,
    ties: Ties,
) -> Tensor:
    """int64 [B, most] indices."""
    batch, total = points.shape[:2]
    rows = torch.arange(batch, device=points.device)
    allowed = _allowed(points, n, origin_rule)
    order = torch.arange(total, device=points.device).expand(batch, total)
    if ties == "cuda":
        order = _order(points, n)
    nearest = points.new_full((batch, total), torch.inf)
    index = torch.full((batch, most), -1, dtype=torch.int64, device=points.device)
    last = start
    for step in range(most):
        index[:, step] = torch.where(step < count, last, -1)
        if not total:
            break
        nearest = torch.minimum(nearest, squared_distance(points, points[rows, last][:, None]))
        far = torch.where(allowed, nearest, -1)
        best = far.max(1, keepdim=True).values
        tied = torch.where((far == best) & allowed, order, torch.iinfo(torch.int64).max)
        last = torch.where(best[:, 0] >= 0, tied.argmin(1), 0)
    return index


def _counts(K: int | Sequence[int] | Tensor, points: Tensor) -> tuple[Tensor, int]:
    """(int64 [B], the largest): how many points of each cloud are asked for. Raises ValueError for fewer than one."""
    if isinstance(K, int):
        least = most = K
    else:
        listed = torch.as_tensor(K).tolist()
        listed = [listed] if isinstance(listed, int) else listed
        least, most = min(listed, default=1), max(listed, default=0)
    if least < 1:
        raise ValueError(f"K: should be at least 1, got {K}")
    return torch.as_tensor(K, device=points.device).expand(points.shape[0]), most


def _allowed(points: Tensor, n: Tensor, origin_rule: float | None) -> Tensor:
    """bool [B, N]: which points may be chosen."""
    allowed = is_real(n, points.shape[1])
    if origin_rule is not None:
        allowed = allowed & (squared_distance(points, torch.zeros_like(points)) > origin_rule)
    return allowed


def _order(points: Tensor, n: Tensor) -> Tensor:
    """int64 [B, N]: of equally far points the CUDA kernel keeps that of the lowest."""
    batch, total = points.shape[:2]
    bits = n.clamp(1, 512).log2().floor().long()[:, None]
    index = torch.arange(total, device=points.device).expand(batch, total)
    return _reversed_bits(index % 2**bits, bits) * total + index


def _reversed_bits(number: Tensor, bits: Tensor) -> Tensor:
    """The place of a thread where t and t + T/2 are compared first, then t and t + T/4, the lower one staying."""
    found = torch.zeros_like(number)
    for bit in range(9):
        found = torch.where(bit < bits, 2 * found + (number >> bit) % 2, found)
    return found


def _by_pytorch3d(
    points: Tensor,
    n: Tensor,
    k: Tensor,
    random_start_point: bool,
    origin_rule: float | None,
    ties: Ties,
) -> tuple[Tensor, Tensor]:
    from pytorch3d import ops  # type: ignore[import-not-found, unused-ignore]

    if origin_rule is not None or ties != "lowest":
        raise ValueError(
            'impl = "pytorch3d" has no origin_rule and no other ties; leave impl at "auto"'
        )
    found: tuple[Tensor, Tensor] = ops.sample_farthest_points(points, n, k, random_start_point)
    return found
