"""The point kernels on a GPU: the interpreter's cases, compiled, against the reference; "auto" takes them there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from isoform.pointcloud.ops import knn_points
from isoform.pointcloud.ops.dispatch import choose
from point_cases import (
    FARTHEST,
    NEAREST,
    cloud,
    compare_farthest,
    compare_gradients,
    compare_nearest,
)

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)


@pytest.fixture(autouse=True)
def on_the_gpu() -> Iterator[None]:
    """Whatever a test makes is on the GPU."""
    torch.set_default_device("cuda")
    yield
    torch.set_default_device("cpu")


@pytest.mark.parametrize("name", FARTHEST)
def test_farthest_points_are_the_references(name):
    compare_farthest(**FARTHEST[name])


@pytest.mark.parametrize("points", [20011, 8191])
@pytest.mark.parametrize("kind", ["uniform", "grid"])
def test_large_clouds_are_sampled_as_the_reference_does(kind, points):
    compare_farthest(batch=2, points=points, k=67, kind=kind)


@pytest.mark.parametrize("name", NEAREST)
def test_neighbours_are_the_references(name):
    compare_nearest(**NEAREST[name])
    compare_gradients(**NEAREST[name])


def test_gradients_are_the_same_bits_every_time():
    a, b = cloud("uniform", 2, 1021, 3).requires_grad_(), cloud("grid", 2, 97, 3).requires_grad_()
    found = [
        torch.autograd.grad(knn_points(a, b, K=5).dists.square().sum(), (a, b)) for _ in range(2)
    ]
    assert all(torch.equal(*both) for both in zip(*found, strict=True))
    assert choose("auto", "nearest", a, b, neighbours=5) == "triton"
