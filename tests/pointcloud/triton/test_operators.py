"""The point kernels as PyTorch operators: its checks of schemas, fakes and gradients; whole-graph compilation."""

from __future__ import annotations

import pytest
import torch

from isoform.pointcloud.ops import chamfer_distance, knn_points, sample_farthest_points
from isoform.pointcloud.ops.triton_op import (
    farthest_points,
    nearest_points,
    nearest_points_backward,
)
from point_cases import cloud

FORWARD = ("test_schema", "test_faketensor")


def counts(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize("ordered", [False, True])
def test_farthest_points_obey_pytorchs_rules(ordered):
    points = cloud("uniform", 2, 7, 3)
    order = torch.arange(14).view(2, 7) if ordered else None
    given = (points, torch.full((2, 7), torch.inf), order, counts(0, 3), counts(5, 2), 5)
    torch.library.opcheck(farthest_points, given, test_utils=FORWARD)


def test_nearest_points_obey_pytorchs_rules():
    asking, answering = cloud("uniform", 2, 5, 3), cloud("uniform", 2, 7, 3)
    given = (asking.requires_grad_(), answering.requires_grad_(), counts(5, 3), counts(7, 1), 2)
    torch.library.opcheck(
        nearest_points, given, test_utils=(*FORWARD, "test_autograd_registration")
    )
    with torch.no_grad():
        dists, index = nearest_points(*given)
    for wants in ([True, True], [True, False], [False, True]):
        back = (torch.randn_like(dists), index, asking.detach(), answering.detach(), wants)
        torch.library.opcheck(nearest_points_backward, back, test_utils=FORWARD)


@pytest.mark.parametrize("lengths", [None, (7, 3)])
def test_compiles_as_one_graph(lengths):
    a, b = cloud("uniform", 2, 7, 3).requires_grad_(), cloud("uniform", 2, 11, 3).requires_grad_()
    n = None if lengths is None else counts(*lengths)

    def step(a, b, n):
        middle, index = sample_farthest_points(a, n, K=3, impl="triton")
        near = knn_points(middle, b, K=2, return_nn=True, impl="triton")
        loss, _ = chamfer_distance(a, b, n, impl="triton")
        return loss + near.knn.sum() + near.dists.mean(), index, near.idx

    found = torch.compile(step, fullgraph=True, backend="aot_eager")(a, b, n)
    wanted = step(a, b, n)
    assert torch.equal(found[1], wanted[1]) and torch.equal(found[2], wanted[2])
    for one, two in zip(
        torch.autograd.grad(found[0], (a, b)), torch.autograd.grad(wanted[0], (a, b)), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_a_compiled_graph_still_checks_lengths():
    points = cloud("uniform", 2, 7, 3)
    step = torch.compile(
        lambda x, n: sample_farthest_points(x, n, K=3, impl="triton")[1], backend="aot_eager"
    )
    assert step(points, counts(7, 2)).shape == (2, 3)
    with pytest.raises(RuntimeError, match="lengths: not all from 0 to 7"):
        step(points, counts(7, 8))
