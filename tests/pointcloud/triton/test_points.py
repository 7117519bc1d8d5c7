"""The point kernels in Triton's interpreter: the reference's indices, and float64's gradients."""

from __future__ import annotations

import pytest
import torch

from isoform.pointcloud.ops import (
    chamfer_distance,
    chamfer_l2,
    knn_points,
    sample_farthest_points,
    triton_launch,
)
from point_cases import (
    FARTHEST,
    NEAREST,
    cloud,
    compare_farthest,
    compare_gradients,
    compare_nearest,
)

pytestmark = pytest.mark.usefixtures("guarded")


@pytest.mark.parametrize("name", FARTHEST)
def test_farthest_points_are_the_references(name):
    compare_farthest(**FARTHEST[name])


@pytest.mark.parametrize("name", ["ties", "ragged", "origin rule", "8 coordinates"])
def test_clouds_larger_than_a_block_give_the_same(name, monkeypatch):
    monkeypatch.setattr(triton_launch, "HELD_POINTS", 7)
    monkeypatch.setattr(triton_launch, "BLOCK", 16)
    compare_farthest(**FARTHEST[name])


def test_a_number_of_points_for_each_cloud():
    points = cloud("uniform", 3, 11, 3)
    one, two = (
        sample_farthest_points(points, K=[2, 7, 5], impl=impl)[1]
        for impl in ("reference", "triton")
    )
    assert torch.equal(one, two) and (two >= 0).sum(1).tolist() == [2, 7, 5]


def test_a_drawn_start_is_the_references():
    points, found = cloud("uniform", 5, 13, 3), []
    for impl in ("reference", "triton"):
        drawn = torch.Generator().manual_seed(3)
        asked = {"K": 3, "random_start_point": True, "generator": drawn, "impl": impl}
        found.append(sample_farthest_points(points, **asked)[1])
    assert torch.equal(*found) and len(set(found[0][:, 0].tolist())) > 1


def test_a_point_that_is_not_a_number_is_met_as_the_reference_meets_it():
    points = cloud("uniform", 1, 11, 3)
    points[0, 5, 1] = torch.nan
    one, two = (
        sample_farthest_points(points, K=4, impl=impl)[1] for impl in ("reference", "triton")
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", NEAREST)
def test_neighbours_are_the_references(name):
    compare_nearest(**NEAREST[name])


def test_what_is_not_a_number_comes_last():
    points = cloud("uniform", 1, 7, 3)
    points[0, [1, 3], 1] = torch.nan
    points[0, 4] = torch.inf
    found = knn_points(points[:, :1], points, K=7, impl="triton").idx[0, 0]
    assert found[0] == 0 and found[-3:].tolist() == [4, 1, 3]


def test_no_points_at_all():
    none, some = torch.zeros(2, 0, 3), torch.ones(2, 3, 3)
    for a, b in ((none, some), (some, none), (none, none)):
        one, two = (knn_points(a, b, K=2, impl=impl) for impl in ("reference", "triton"))
        assert torch.equal(one.idx, two.idx) and torch.equal(one.dists, two.dists)
    assert sample_farthest_points(none, K=2, impl="triton")[1].tolist() == [[-1, -1]] * 2


@pytest.mark.parametrize("name", ["one neighbour", "ragged", "fewer than K", "ties"])
def test_gradients_of_distances_agree_with_float64(name):
    compare_gradients(**NEAREST[name])


def test_gradients_do_not_depend_on_the_order_of_additions():
    """Many ask for one point: its gradient is summed by one lane, and is the same bits every time."""
    a, b = cloud("uniform", 1, 131, 3), torch.zeros(1, 1, 3, requires_grad=True)
    found = []
    for _ in range(2):
        dists = knn_points(a, b, impl="triton").dists
        found.append(torch.autograd.grad(dists.sum(), b)[0])
    assert found[0].equal(found[1]) and found[0].allclose(-2 * a.sum(1, keepdim=True), atol=1e-4)


def test_gradient_only_where_asked():
    a, b = cloud("uniform", 1, 5, 3).requires_grad_(), cloud("uniform", 1, 7, 3)
    knn_points(a, b, K=2, impl="triton").dists.sum().backward()
    assert a.grad is not None and b.grad is None


def test_second_derivatives_are_refused():
    a, b = cloud("uniform", 1, 5, 3).requires_grad_(), cloud("uniform", 1, 7, 3)
    (grad,) = torch.autograd.grad(chamfer_l2(a, b, impl="triton"), a, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(grad.sum(), a)


def test_chamfer_of_ragged_pairs_and_its_gradients():
    n, m = torch.tensor([5, 2, 0]), torch.tensor([7, 1, 3])
    clouds, found = [cloud("uniform", 3, size, 3) for size in (5, 7)], []
    for impl, dtype in (("triton", torch.float32), ("reference", torch.float64)):
        x, y = (each.detach().to(dtype).requires_grad_() for each in clouds)
        loss, _ = chamfer_distance(x, y, n, m, impl=impl)
        found.append([loss, *torch.autograd.grad(loss, (x, y))])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), two, atol=1e-6, rtol=1e-6)


def test_views_are_read_as_what_they_hold():
    a, b = cloud("uniform", 1, 7, 6)[:, :, ::2], cloud("uniform", 1, 3, 11).mT
    assert torch.equal(*(knn_points(a, b, K=3, impl=i).idx for i in ("reference", "triton")))
    assert torch.equal(
        *(sample_farthest_points(b, K=5, impl=i)[1] for i in ("reference", "triton"))
    )
