"""Point operations: every implementation keeps one contract, and each means what its definition says."""

import importlib.util
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.pointcloud.ops import (
    ball_query,
    chamfer_distance,
    chamfer_l1,
    chamfer_l2,
    estimate_normals,
    interpolate_three_nearest,
    knn_gather,
    knn_points,
    sample_farthest_points,
    sample_surface,
    thin_to_voxels,
)
from isoform.pointcloud.ops.largest import largest_of_linear
from isoform.pointcloud.ops.surface import triangulate

OTHERS = [
    "compiled",
    pytest.param(
        "pytorch3d",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pytorch3d") is None, reason="pytorch3d is not installed"
        ),
    ),
]
KINDS = ("uniform", "grid", "clustered", "equal", "line", "outlier")


def clouds(kind: str, shape: tuple[int, ...], seed: int, dtype=torch.float32) -> torch.Tensor:
    """Points that are even, tied, uneven, all alike, on a line, or with one far away."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=shape)
    if kind == "grid":
        points = rng.integers(0, 5, shape) / 4
    elif kind == "clustered":
        points = np.where(rng.random((*shape[:-1], 1)) < 0.8, points * 1e-3, points * 10)
    elif kind == "equal":
        points = np.broadcast_to(points[..., :1, :], shape).copy()
    elif kind == "line":
        points[..., 1:] = 0
    elif kind == "outlier":
        points[..., 0, :] = 1e6
    return torch.tensor(points, dtype=dtype)


@pytest.mark.parametrize("impl", OTHERS)
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 999), n=st.integers(1, 389), k=st.integers(1, 17),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_neighbours_are_the_references(impl, kind, seed, n, k, dtype):
    p2, p1 = clouds(kind, (2, n, 3), seed, dtype), clouds(kind, (2, 23, 3), seed + 1, dtype)
    n1, n2 = torch.tensor([23, 11]), torch.tensor([n, max(1, n // 2)])
    one = knn_points(p1, p2, n1, n2, K=k, return_nn=True, impl="reference")
    two = knn_points(p1, p2, n1, n2, K=k, return_nn=True, impl=impl)
    assert torch.equal(one.idx, two.idx) and torch.equal(one.dists, two.dists)
    assert torch.equal(one.knn, two.knn)
    ball = ball_query(p1, p2, n1, n2, K=k, radius=0.7, impl="reference")
    assert torch.equal(ball.idx, ball_query(p1, p2, n1, n2, K=k, radius=0.7, impl=impl).idx)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 999), n=st.integers(257, 1409), k=st.integers(1, 19),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_a_tree_finds_the_references(kind, seed, n, k, dtype):
    p2 = clouds(kind, (1, n, 3), seed, dtype)
    p1 = torch.cat([clouds(kind, (1, 23, 3), seed + 1, dtype), p2[:, :29]], 1)
    one, two = (knn_points(p1, p2, K=k, impl=impl) for impl in ("reference", "compiled"))
    assert torch.equal(one.idx, two.idx) and torch.equal(one.dists, two.dists)


@pytest.mark.parametrize("impl", ["reference", "compiled"])
@pytest.mark.parametrize("n", [7, 307])
def test_what_is_not_a_number_comes_last(impl, n):
    points = clouds("uniform", (1, n, 3), 0)
    points[0, [1, 3], 1] = torch.nan
    found = knn_points(points[:, :1], points, K=n, impl=impl).idx[0, 0]
    assert found[0] == 0 and found[-2:].tolist() == [1, 3]


def test_far_points_are_as_quick_as_near_ones():
    """Many in one place, with one far away, must not make every point look at every other."""
    points = clouds("equal", (1, 100003, 3), 0)
    points[0, 5] = 1e9
    start = time.process_time()
    found = knn_points(points, points, K=1, impl="compiled").idx[0, :, 0]
    assert time.process_time() - start < 20  # seconds; all pairs take minutes
    assert (found[points[0, :, 0] < 1e9] == 0).all() and found[5] == 5


@pytest.mark.parametrize("impl", ["reference", "compiled"])
def test_the_nearest_are_those_of_a_sort(impl):
    p1, p2 = clouds("uniform", (1, 7, 3), 0), clouds("uniform", (1, 601, 3), 1)
    found = knn_points(p1, p2, K=5, impl=impl)
    distance = ((p1[0, :, None] - p2[0]) ** 2).sum(2).numpy()
    assert np.array_equal(found.idx[0], np.argsort(distance, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(found.dists[0], np.sort(distance, axis=1)[:, :5], rtol=1e-5)


@pytest.mark.parametrize("impl", ["reference", "compiled"])
def test_what_is_not_there_is_marked(impl):
    p1, p2 = clouds("uniform", (3, 5, 3), 0), clouds("uniform", (3, 4, 3), 1)
    n1, n2 = torch.tensor([5, 2, 0]), torch.tensor([2, 4, 3])
    found = knn_points(p1, p2, n1, n2, K=3, return_nn=True, impl=impl)
    assert (found.idx >= 0).sum((1, 2)).tolist() == [5 * 2, 2 * 3, 0]
    assert (found.dists[found.idx < 0] == 0).all() and (found.knn[found.idx < 0] == 0).all()


@pytest.mark.parametrize("impl", OTHERS)
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 999), n=st.integers(1, 131), k=st.integers(1, 37),
    rule=st.sampled_from([None, 1e-3, 0.5]), ties=st.sampled_from(["lowest", "cuda"]), dims=st.sampled_from([2, 3, 5]),
)  # fmt: skip
def test_farthest_points_are_the_references(impl, kind, seed, n, k, rule, ties, dims):
    points = clouds(kind, (3, n, dims), seed)
    lengths = torch.tensor([n, max(1, n // 2), 1])
    asked = {"lengths": lengths, "K": k}
    if impl != "pytorch3d":
        asked |= {"origin_rule": rule, "ties": ties}
    one = sample_farthest_points(points, **asked, impl="reference")
    two = sample_farthest_points(points, **asked, impl=impl)
    assert torch.equal(one[1], two[1]) and torch.equal(one[0], two[0])
    assert (one[1] >= 0).sum(1).tolist() == [min(k, int(m)) for m in lengths]
    assert torch.equal(knn_gather(points, one[1][:, :, None])[:, :, 0], one[0])


@pytest.mark.parametrize("impl", ["reference", "compiled"])
def test_each_next_point_is_the_farthest(impl):
    points = clouds("uniform", (1, 211, 3), 3)
    chosen = sample_farthest_points(points, K=13, impl=impl)[1][0]
    assert chosen[0] == 0
    for k in range(1, 13):
        apart = torch.cdist(points[0].double(), points[0, chosen[:k]].double()).amin(1)
        assert apart[chosen[k]] == apart.max()


@pytest.mark.parametrize("impl", ["reference", "compiled"])
def test_the_origin_rule_leaves_points_out(impl):
    points = torch.tensor([[[0.0, 0, 0], [0.01, 0, 0], [3, 0, 0], [0, 0.02, 0], [0, 1, 0]]])
    asked = {"origin_rule": 1e-3, "impl": impl}
    assert sample_farthest_points(points, K=3, **asked)[1].tolist() == [[0, 2, 4]]
    assert sample_farthest_points(points[:, [0, 1, 3]], K=2, **asked)[1].tolist() == [[0, 0]]


def test_a_random_start_is_drawn_by_its_generator():
    points = clouds("uniform", (53, 29, 3), 0)

    def first(seed):
        drawn = torch.Generator().manual_seed(seed)
        chosen = sample_farthest_points(points, K=2, random_start_point=True, generator=drawn)
        return chosen[1][:, 0]

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    assert len(set(first(1).tolist())) > 10 and first(1).max() < 29


@pytest.mark.parametrize("impl", ["reference", "compiled"])
def test_chamfer_distances_and_gradients(impl):
    a, b = (
        clouds("uniform", (2, 7, 3), 0, torch.float64),
        clouds("uniform", (2, 11, 3), 1, torch.float64),
    )
    apart = torch.cdist(a, b)
    there, back = apart.amin(2), apart.amin(1)
    assert torch.isclose(chamfer_l2(a, b, impl=impl), (there**2).mean() + (back**2).mean())
    assert torch.isclose(chamfer_l1(a, b, impl=impl), (there.mean() + back.mean()) / 2)
    a.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: chamfer_l2(x, y, impl=impl), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: chamfer_l1(x, y, impl=impl), (a, b))


def test_a_point_on_its_neighbour_has_a_gradient():
    a = clouds("uniform", (1, 5, 3), 0).requires_grad_()
    chamfer_l1(a, a.detach().clone()).backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_chamfer_of_ragged_weighted_pairs():
    x, y = clouds("uniform", (3, 7, 3), 0), clouds("uniform", (3, 5, 3), 1)
    n, m, weights = torch.tensor([7, 3, 5]), torch.tensor([2, 5, 4]), torch.tensor([1.0, 0.5, 2.0])
    each = torch.stack([chamfer_l2(x[i : i + 1, : n[i]], y[i : i + 1, : m[i]]) for i in range(3)])
    found, normals = chamfer_distance(x, y, n, m, batch_reduction=None)
    torch.testing.assert_close(found, each)
    assert normals is None
    mean, _ = chamfer_distance(x, y, n, m, weights=weights)
    torch.testing.assert_close(mean, (each * weights).sum() / weights.sum())
    one_way, _ = chamfer_distance(x, y, n, m, single_directional=True, point_reduction="sum")
    apart = [torch.cdist(x[i, : n[i]], y[i, : m[i]]).amin(1).square().sum() for i in range(3)]
    torch.testing.assert_close(one_way, torch.stack(apart).mean())


def test_chamfer_of_normals():
    x = clouds("uniform", (1, 7, 3), 0)
    turned = torch.nn.functional.normalize(clouds("uniform", (1, 7, 3), 1), dim=2)
    _, same = chamfer_distance(x, x, x_normals=turned, y_normals=-turned)
    assert same == pytest.approx(0, abs=1e-6)
    _, opposite = chamfer_distance(x, x, x_normals=turned, y_normals=-turned, abs_cosine=False)
    assert opposite == pytest.approx(4, abs=1e-5)


def test_features_are_weighed_by_inverse_squared_distance():
    known = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [9, 9, 9]]])
    features = torch.tensor([[[1.0], [2], [3], [100]]])
    point = torch.tensor([[[0.5, 0, 0]]])
    weight = np.array([1 / 0.25, 1 / 0.25, 1 / 4.25])
    want = (weight * [1, 2, 3]).sum() / weight.sum()
    assert interpolate_three_nearest(point, known, features).item() == pytest.approx(want, rel=1e-6)
    at = interpolate_three_nearest(known, known, features)
    torch.testing.assert_close(at, features, atol=1e-4, rtol=1e-4)
    alone = interpolate_three_nearest(point, known[:, :1], features[:, :1])
    assert alone.item() == pytest.approx(1)


def test_a_surface_is_sampled_by_area():
    vertices = np.array(
        [[0, 0, 0], [2, 0, 0], [0, 1, 0], [10, 0, 0], [16, 0, 0], [10, 3, 0], [5, 5, 5]]
    )
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 6, 6]])
    points, triangle, weights = sample_surface(vertices, faces, 20011, np.random.default_rng(0))
    assert abs(np.mean(triangle == 1) - 0.9) < 3 * np.sqrt(0.09 / 20011) and (triangle < 2).all()
    np.testing.assert_allclose((vertices[faces[triangle]] * weights[..., None]).sum(1), points)
    assert (weights >= 0).all() and np.allclose(weights.sum(1), 1)
    assert np.allclose(points[triangle == 0].mean(0), [2 / 3, 1 / 3, 0], atol=0.03)
    with pytest.raises(ValueError, match="without area"):
        sample_surface(vertices, faces[2:], 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="name vertices"):
        sample_surface(vertices, faces + 1, 5, np.random.default_rng(0))


def test_polygons_become_fans():
    quad = [np.array([0, 1, 2, 3]), np.array([4, 5]), np.array([6, 7, 8])]
    assert triangulate(quad).tolist() == [[0, 1, 2], [0, 2, 3], [6, 7, 8]]


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), size=st.sampled_from([0.3, 2.0, 1e3]))
def test_thinning_keeps_one_point_a_voxel(kind, seed, size):
    points = clouds(kind, (197, 3), seed, torch.float64).numpy() + 5e5
    kept, voxel = thin_to_voxels(points, size)
    cells = np.floor((points - points.min(0)) / size)
    assert len(kept) == len(np.unique(cells, axis=0)) == voxel.max() + 1
    assert (cells[kept[voxel]] == cells).all()
    assert list(dict.fromkeys(voxel.tolist())) == list(range(len(kept)))
    off = np.square((points - points.min(0)) / size - cells - 0.5).sum(1)
    assert (off[kept[voxel]] <= off).all()


def test_thinning_refuses_what_has_no_voxels():
    with pytest.raises(ValueError, match="above 0"):
        thin_to_voxels(np.zeros((3, 3)), 0)
    with pytest.raises(ValueError, match="not finite"):
        thin_to_voxels(np.array([[0.0, 0, np.nan]]), 1)
    assert [len(part) for part in thin_to_voxels(np.zeros((0, 3)), 1)] == [0, 0]


def test_normals_of_a_plane_turn_with_it():
    rng = np.random.default_rng(0)
    flat = torch.tensor(np.c_[rng.random((211, 2)), np.zeros(211)])[None]
    normal = estimate_normals(flat, neighbourhood_size=13)
    assert torch.allclose(normal[..., 2].abs(), torch.ones(1, 211, dtype=torch.float64))
    turn = torch.linalg.qr(torch.tensor(rng.normal(size=(3, 3)))).Q
    turned = estimate_normals(flat @ turn.T + 7, neighbourhood_size=13)
    assert torch.allclose((turned * (normal @ turn.T)).sum(2).abs(), torch.ones(1, 211).double())
    assert (estimate_normals(flat[:, :2]) == 0).all()
    line = torch.zeros(1, 23, 3)
    line[..., 0] = torch.arange(23)
    assert (estimate_normals(line, neighbourhood_size=5) == 0).all()


def test_impossible_requests_are_refused():
    points = clouds("uniform", (1, 7, 3), 0)
    with pytest.raises(ValueError, match="float32 and float64"):
        sample_farthest_points(points.half(), K=2, impl="compiled")
    with pytest.raises(ValueError, match="should be auto"):
        knn_points(points, points, impl="fast")
    with pytest.raises(ValueError, match="at least 1"):
        sample_farthest_points(points, K=0)
    with pytest.raises(ValueError, match="lengths2"):
        knn_points(points, points, None, torch.tensor([8]))
    with pytest.raises(ValueError, match="norm"):
        chamfer_distance(points, points, norm=1)


@pytest.mark.parametrize(("sets", "points", "width"), [(1, 1, 1), (5, 13, 131), (3, 7, 67)])
def test_the_largest_of_a_linear_layer_and_its_gradients(sets, points, width):
    drawn = torch.Generator().manual_seed(0)
    x, weight, bias, d_out = (
        torch.randn(*shape, generator=drawn)
        for shape in ((2, sets, points, 11), (width, 11), (width,), (2, sets, width))
    )
    found = []
    for dtype, compute in (
        (torch.float32, largest_of_linear),
        (torch.float64, lambda x, w, b: torch.nn.functional.linear(x, w, b).amax(-2)),
    ):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
        out = compute(*leaves)
        found.append([out, *torch.autograd.grad(out, leaves, d_out.to(dtype))])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), two, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(largest_of_linear(x, weight, bias), found[0][0])


def test_of_equally_large_points_the_first_has_the_gradient():
    x = torch.ones(1, 3, 2).requires_grad_()
    largest_of_linear(x, torch.ones(5, 2), torch.zeros(5)).sum().backward()
    assert x.grad.tolist() == [[[5, 5], [0, 0], [0, 0]]]
