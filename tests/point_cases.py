"""Clouds for the point kernels, and what must hold of the result: the reference's indices, float64's gradients.

B clouds, N and M points, K neighbours or chosen ones, D coordinates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoform.pointcloud.ops import knn_points, sample_farthest_points
from kernel_cases import bordered


def cloud(kind: str, batch: int, points: int, dims: int) -> Tensor:
    """Random points; on a coarse grid, where many are equal and equally far; or all in one place. Amid NaN."""
    x = torch.randn(batch, points, dims)
    if kind == "grid":
        x = torch.randint(0, 3, x.shape) / 4
    elif kind == "equal":
        x = x[:, :1].expand_as(x)
    return bordered(x)


FARTHEST: dict[str, dict[str, Any]] = {
    "plain": {"batch": 2, "points": 67, "k": 5},
    "one point": {"batch": 1, "points": 1, "k": 3},
    "all of them": {"batch": 1, "points": 11, "k": 13},
    "ties": {"kind": "grid", "batch": 2, "points": 37, "k": 7},
    "equal": {"kind": "equal", "batch": 1, "points": 5, "k": 3},
    "the CUDA kernel's ties": {
        "kind": "grid", "batch": 3, "points": 41, "k": 7, "lengths": [41, 11, 3], "ties": "cuda",
    },
    "ragged": {"batch": 4, "points": 29, "k": 5, "lengths": [29, 13, 2, 0]},
    "origin rule": {"kind": "grid", "batch": 2, "points": 19, "k": 5, "origin_rule": 0.2},
    "none beyond the origin": {"batch": 1, "points": 7, "k": 3, "origin_rule": 1e3},
    "2 coordinates": {"batch": 1, "points": 17, "k": 5, "dims": 2},
    "1 coordinate": {"batch": 1, "points": 17, "k": 5, "dims": 1},
    "8 coordinates": {"batch": 1, "points": 17, "k": 5, "dims": 8},
}  # fmt: skip


def compare_farthest(
    batch: int, points: int, k: int, kind: str = "uniform", dims: int = 3, lengths=None, **rules
) -> None:
    """The kernel's indices and points are the reference's."""
    x = cloud(kind, batch, points, dims)
    n = None if lengths is None else torch.tensor(lengths)
    one, two = (
        sample_farthest_points(x, n, k, **rules, impl=impl) for impl in ("reference", "triton")
    )
    assert torch.equal(one[1], two[1]), f"farthest: {two[1].tolist()}, not {one[1].tolist()}"
    assert torch.equal(one[0], two[0])


NEAREST: dict[str, dict[str, Any]] = {
    "one neighbour": {"batch": 2, "n": 37, "m": 67, "k": 1},
    "several tiles": {"batch": 1, "n": 37, "m": 139, "k": 5},
    "nearer and nearer": {"kind": "falling", "batch": 1, "n": 3, "m": 131, "k": 4},
    "all of them": {"batch": 1, "n": 5, "m": 13, "k": 13},
    "ties": {"kind": "grid", "batch": 2, "n": 11, "m": 73, "k": 7},
    "equal": {"kind": "equal", "batch": 1, "n": 2, "m": 67, "k": 3},
    "fewer than K": {"batch": 1, "n": 5, "m": 3, "k": 7},
    "ragged": {"batch": 3, "n": 37, "m": 19, "k": 3, "n1": [37, 11, 0], "n2": [2, 19, 7]},
    "64 neighbours": {"batch": 1, "n": 2, "m": 71, "k": 64},
    "2 coordinates": {"batch": 1, "n": 3, "m": 17, "k": 2, "dims": 2},
    "8 coordinates": {"batch": 1, "n": 3, "m": 17, "k": 2, "dims": 8},
}


def pair(
    batch: int, n: int, m: int, k: int, kind: str = "uniform", dims: int = 3, n1=None, n2=None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, int]:
    """The arguments of `knn_points`."""
    if kind == "falling":  # each answering point is nearer than all before it
        p1, p2 = torch.zeros(batch, n, dims), torch.zeros(batch, m, dims)
        p2[..., 0] = torch.arange(m, 0, -1)
    else:
        p1, p2 = cloud(kind, batch, n, dims), cloud(kind, batch, m, dims)
    lengths = (None if each is None else torch.tensor(each) for each in (n1, n2))
    return p1, p2, *lengths, k


def compare_nearest(**case: Any) -> None:
    """The kernel's indices, distances and points are the reference's, bit for bit."""
    p1, p2, n1, n2, k = pair(**case)
    one, two = (
        knn_points(p1, p2, n1, n2, K=k, return_nn=True, impl=impl)
        for impl in ("reference", "triton")
    )
    assert torch.equal(one.idx, two.idx), f"nearest: {two.idx.tolist()}, not {one.idx.tolist()}"
    assert torch.equal(one.dists, two.dists), f"nearest: {two.dists.tolist()}"
    assert torch.equal(one.knn, two.knn)


def compare_gradients(**case: Any) -> None:
    """Gradients of distances agree with those that float64 gives the same neighbours."""
    p1, p2, n1, n2, k = pair(**case)
    p1, p2 = (p.requires_grad_() for p in (p1, p2))
    found = knn_points(p1, p2, n1, n2, K=k, impl="triton")
    weight = torch.randn(found.dists.shape)
    grads = torch.autograd.grad(found.dists, (p1, p2), weight)
    wide = [p.detach().double().requires_grad_() for p in (p1, p2)]
    near = torch.stack([wide[1][b][index.clamp(min=0)] for b, index in enumerate(found.idx)])
    apart = (wide[0][:, :, None] - near).square().sum(3).masked_fill(found.idx < 0, 0)
    wanted = torch.autograd.grad(apart, wide, weight.double())
    for one, two in zip(grads, wanted, strict=True):
        error = (one.double() - two).abs().max() / two.abs().max().clamp(min=1)
        assert error <= 2e-6, f"gradient of distances: {error:.1e} off"
