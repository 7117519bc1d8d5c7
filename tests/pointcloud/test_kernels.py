"""What holds of the point kernels without running them: which call they serve, their record, their limits.

The kernels themselves are tested in tests/pointcloud/triton.
"""

from __future__ import annotations

import os

import pytest
import torch

from isoform.core.kernels.target import part_of
from isoform.pointcloud.ops import aot, ball_query, knn_points, sample_farthest_points
from isoform.pointcloud.ops.aot import Key, Usage, breaches, compile_launch, variants
from isoform.pointcloud.ops.dispatch import AUTO, Request, choose, select, unsupported_reason
from isoform.pointcloud.ops.triton_launch import CUTS, MAX_NEIGHBOURS

GPU = Request("nearest", "cuda", "sm_90")


@pytest.fixture(autouse=True)
def triton_is_there(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize(
    ("asked", "served", "why_no_kernel"),
    [
        (GPU, "triton", None),
        (GPU._replace(part="sm_80", operation="farthest"), "triton", None),
        (GPU._replace(neighbours=64, dims=8, points=2**22), "triton", None),
        (GPU._replace(neighbours=65), "reference", "up to 64 neighbours, got 65"),
        (GPU._replace(dims=9), "reference", "up to 8 coordinates, got 9"),
        (GPU._replace(points=2**22 + 1), "reference", "points a cloud"),
        (GPU._replace(dtype=torch.float64), "reference", "takes float32"),
        (GPU._replace(dtype=torch.float16), "reference", "takes float32"),
        (GPU._replace(operation="ball"), "reference", "no kernel for balls"),
        (GPU._replace(part=None), "reference", "this GPU is none"),
        (Request("nearest"), "compiled", "runs on a GPU"),
        (Request("ball", dtype=torch.float64), "compiled", "no kernel for balls"),
        (Request("farthest", dtype=torch.float16), "reference", "runs on a GPU"),
        (Request("farthest", device="mps"), "reference", "runs on a GPU"),
    ],
)
def test_every_row_of_the_table(asked, served, why_no_kernel):
    assert select(asked).name == served
    reason = unsupported_reason("triton", asked)
    assert reason is None if why_no_kernel is None else why_no_kernel in reason
    assert {rule.name for rule in AUTO} == {"triton", "compiled", "reference"}


def test_without_triton_a_gpu_takes_the_reference(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert select(GPU).name == "reference"
    assert "not installed" in unsupported_reason("triton", GPU)


def test_the_interpreter_is_taken_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    points = torch.zeros(1, 5, 3)
    assert choose("auto", "nearest", points) == "compiled"
    assert choose("triton", "nearest", points, neighbours=MAX_NEIGHBOURS) == "triton"


def test_what_is_asked_for_and_cannot_serve_raises():
    points = torch.zeros(1, 5, 3)
    with pytest.raises(
        ValueError, match=r"impl = 'triton': runs on a GPU, got torch.float32 on cpu"
    ):
        knn_points(points, points, impl="triton")
    with pytest.raises(ValueError, match="runs on a GPU"):
        sample_farthest_points(points, K=2, impl="triton")
    with pytest.raises(ValueError, match="no kernel for balls"):
        ball_query(points, points, impl="triton")


@pytest.mark.parametrize(
    ("capability", "part"),
    [((7, 5), None), ((8, 6), "sm_80"), ((9, 0), "sm_90"), ((12, 0), "sm_80")],
)
def test_the_part_that_stands_for_a_gpu(capability, part, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert part_of(torch.device("cuda", 0)) == part
    assert part_of(torch.device("cpu")) == "interpreter"
    monkeypatch.setattr(torch.version, "hip", "6")
    assert part_of(torch.device("cuda", 0)) is None


# The record -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter's kernels do not compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def test_the_record_is_whole_and_free_of_faults():
    """Of the code at hand, whatever the compiler; a release of Triton is recorded by make aot."""
    kernels = aot.read()["kernels"]
    assert kernels.keys() == {key.name for key in aot.entries()}
    for key in aot.entries():
        assert kernels[key.name]["digest"] == aot.digest(key), f"{key.name}: run make aot"
        assert kernels[key.name]["figures"].keys() == variants(key).keys()
        for figures in kernels[key.name]["figures"].values():
            assert not list(breaches(key.target, key.kernel, Usage(*figures)))
    assert max(CUTS) == MAX_NEIGHBOURS and list(CUTS) == sorted(CUTS)


@pytest.mark.usefixtures("compiler")
def test_a_fused_operation_is_found():
    key = Key("gradient", "sm_90", 1)
    launch = variants(key)["3"]
    assert compile_launch(launch, "sm_90").fused == 0
    unfused = type(launch).options
    try:
        type(launch).options = property(
            lambda self: unfused.fget(self) | {"enable_fp_fusion": True}
        )
        usage = compile_launch(launch, "sm_90")
    finally:
        type(launch).options = unfused
    assert any("rounds otherwise" in line for line in breaches("sm_90", "gradient", usage))


def test_every_launch_has_an_entry():
    """Whatever the sizes: the constants that a kernel is compiled for are those of one of the entries."""
    listed = {
        (launch.kernel, *_constants(launch))
        for key in aot.entries()
        for launch in variants(key).values()
    }
    for points in (1, 63, 64, 65, 1000, 8192, 8193):
        for dims in (3, 8):
            key = Key("farthest", "sm_90", points + 1)
            launch = aot._launch(key, dims, False)
            assert (launch.kernel, *_constants(launch)) in listed
    for k in (1, 2, 5, 17, 33, 64):
        launch = aot._launch(Key("nearest", "sm_90", k), 3, False)
        assert (launch.kernel, *_constants(launch)) in listed


def _constants(launch) -> tuple:
    names = ("D", "BLOCK", "KEPT", "TILE_N", "TILE_M", "TILE", "DIM")
    return (launch.warps, *(launch.arguments.get(name) for name in names))
