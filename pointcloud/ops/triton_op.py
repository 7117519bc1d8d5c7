"""Farthest points and nearest neighbours through Triton kernels, as PyTorch operators with fake and gradient rules.

Legend: B clouds, N asking and M answering points, K neighbours, D coordinates. Importing this module needs no Triton,
running the operators does. The callers have checked what they hand over; `dispatch.py` says what is served.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoform.pointcloud.ops.triton_launch import (
    farthest_launch,
    gradient_launch,
    nearest_launch,
    start,
)


@torch.library.custom_op(
    "isoform::farthest_points",
    mutates_args=(),
    schema="(Tensor points, Tensor nearest, Tensor? order, Tensor start, Tensor count, SymInt most) -> Tensor",
)
def farthest_points(
    points: Tensor,
    nearest: Tensor,
    order: Tensor | None,
    start_at: Tensor,
    count: Tensor,
    most: int,
) -> Tensor:
    """int64 [B, most], see sample.py; `nearest` [B, N] is +inf, or -1 where a point must never be chosen."""
    index = torch.empty((points.shape[0], most), dtype=torch.int64, device=points.device)
    order = None if order is None else order.int().contiguous()
    nearest = nearest.clone(memory_format=torch.contiguous_format)
    launch = farthest_launch(points.contiguous(), nearest, order, start_at, count, index)
    start(launch, points)
    return index


@farthest_points.register_fake
def _(
    points: Tensor,
    nearest: Tensor,
    order: Tensor | None,
    start_at: Tensor,
    count: Tensor,
    most: int,
) -> Tensor:
    return points.new_empty((points.shape[0], most), dtype=torch.int64)


@torch.library.custom_op(
    "isoform::nearest_points",
    mutates_args=(),
    schema="(Tensor asking, Tensor answering, Tensor n_asking, Tensor n_answering, SymInt k) -> (Tensor, Tensor)",
)
def nearest_points(
    asking: Tensor, answering: Tensor, n_asking: Tensor, n_answering: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Squared dists float32 [B, N, K] and index int64 [B, N, K], nearest first: see neighbours.py.

    Differentiable once in both clouds, in the same bits every time.
    """
    shape = (*asking.shape[:2], k)
    dists = torch.empty(shape, dtype=torch.float32, device=asking.device)
    index = torch.empty(shape, dtype=torch.int64, device=asking.device)
    clouds = asking.contiguous(), answering.contiguous()
    start(nearest_launch(*clouds, n_asking, n_answering, dists, index), asking)
    return dists, index


@nearest_points.register_fake
def _(
    asking: Tensor, answering: Tensor, n_asking: Tensor, n_answering: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    shape = (*asking.shape[:2], k)
    return asking.new_empty(shape), asking.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op(
    "isoform::nearest_points_backward",
    mutates_args=(),
    schema="(Tensor d_dists, Tensor index, Tensor asking, Tensor answering, bool[] wants) -> (Tensor, Tensor)",
)
def nearest_points_backward(
    d_dists: Tensor, index: Tensor, asking: Tensor, answering: Tensor, wants: list[bool]
) -> tuple[Tensor, Tensor]:
    """The gradients in both clouds, empty where one isn't wanted."""
    d_dists, asking, answering = (x.contiguous() for x in (d_dists, asking, answering))
    d_asking, d_answering = _gradients(asking, answering, wants)
    if wants[0]:
        start(gradient_launch(asking, answering, d_dists, index, None, None, d_asking), asking)
    if wants[1]:
        # Entries of one answering point come together, in the order of those that ask; what has none is before all.
        partners, entries = index.flatten(1).sort(dim=1, stable=True)
        points = torch.arange(answering.shape[1] + 1, device=index.device)
        firsts = torch.searchsorted(partners, points.expand(len(partners), -1).contiguous())
        launch = gradient_launch(answering, asking, d_dists, index, firsts, entries, d_answering)
        start(launch, asking)
    return d_asking, d_answering


@nearest_points_backward.register_fake
def _(
    d_dists: Tensor, index: Tensor, asking: Tensor, answering: Tensor, wants: list[bool]
) -> tuple[Tensor, Tensor]:
    return _gradients(asking, answering, wants)


def _gradients(asking: Tensor, answering: Tensor, wants: list[bool]) -> tuple[Tensor, Tensor]:
    def room(cloud: Tensor, wanted: bool) -> Tensor:
        shape = tuple(cloud.shape) if wanted else (0,)
        return torch.empty(shape, dtype=torch.float32, device=cloud.device)

    return room(asking, wants[0]), room(answering, wants[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:2], output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, d_dists: Tensor, d_index: Tensor | None) -> tuple[Tensor | None, ...]:
    asking, answering, index = ctx.saved_tensors
    wants = list(ctx.needs_input_grad[:2])
    found = nearest_points_backward(d_dists, index, asking, answering, wants)
    kept = [grad if wanted else None for grad, wanted in zip(found, wants, strict=True)]
    return (*kept, None, None, None)


nearest_points.register_autograd(_backward, setup_context=_keep)
