"""Which implementation serves a call: why one can't as a sentence, and the table by which "auto" chooses."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from isoform.core.kernels.target import part_of
from isoform.pointcloud.ops.triton_launch import MAX_DIMS, MAX_NEIGHBOURS, MAX_POINTS

Impl = Literal["auto", "reference", "compiled", "triton", "pytorch3d"]
Operation = Literal["farthest", "nearest", "ball"]
COMPILED_TYPES = (torch.float32, torch.float64)


class Request(NamedTuple):
    """What a choice depends on."""

    operation: Operation
    device: str = "cpu"
    part: str | None = None  # of a GPU: what its kernels were compiled for, None where nothing was
    dtype: torch.dtype = torch.float32
    dims: int = 3
    points: int = 1  # of the larger cloud
    neighbours: int = 1


class Rule(NamedTuple):
    """A line of the table: `name` is taken `when` this holds, because of `why`."""

    name: Impl
    when: Callable[[Request], bool]
    why: str


AUTO = (
    Rule(
        "triton",
        lambda r: r.device == "cuda" and unsupported_reason("triton", r) is None,
        "one kernel on a GPU, without a tensor of all distances",
    ),
    Rule(
        "compiled",
        lambda r: unsupported_reason("compiled", r) is None,
        "numba on a CPU, by a tree where clouds are large",
    ),
    Rule("reference", lambda r: True, "plain torch, on any device and in any precision"),
)


def unsupported_reason(impl: Impl, request: Request) -> str | None:
    """Why `impl` can't serve the request, as the end of a sentence; None where it can."""
    r = request
    match impl:
        case "reference":
            return None
        case "compiled":
            served = r.device == "cpu" and r.dtype in COMPILED_TYPES
            return None if served else f"takes float32 and float64 on a CPU, got {_kind(r)}"
        case "triton":
            return _no_kernel(r)
        case "pytorch3d":
            found = importlib.util.find_spec("pytorch3d")
            return "it is not installed" if found is None else None
    return "should be auto, reference, compiled, triton or pytorch3d"


def _no_kernel(r: Request) -> str | None:
    if r.operation == "ball":
        return "has no kernel for balls"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if r.device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"runs on a GPU, got {_kind(r)} (TRITON_INTERPRET=1 interprets it)"
    if r.device == "cuda" and r.part is None:
        return "was compiled and checked for NVIDIA's parts from 8.0 on, and this GPU is none"
    if r.dtype != torch.float32:
        return f"takes float32, got {_kind(r)}"
    for size, most, what in (
        (r.dims, MAX_DIMS, "coordinates"),
        (r.points, MAX_POINTS, "points a cloud"),
        (r.neighbours, MAX_NEIGHBOURS, "neighbours"),
    ):
        if size > most:
            return f"serves up to {most} {what}, got {size}"
    return None


def _kind(r: Request) -> str:
    return f"{r.dtype} on {r.device}"


def select(request: Request) -> Rule:
    """What "auto" takes."""
    return next(rule for rule in AUTO if rule.when(request))


def choose(impl: Impl, operation: Operation, *clouds: Tensor, neighbours: int = 1) -> Impl:
    """The implementation that serves a call. Raises ValueError where the one that is asked for can't."""
    first = clouds[0]
    request = Request(
        operation,
        first.device.type,
        _part(first.device) if first.is_cuda else None,
        first.dtype,
        first.shape[2],
        max(cloud.shape[1] for cloud in clouds),
        neighbours,
    )
    if impl == "auto":
        return select(request).name
    why_not = unsupported_reason(impl, request)
    if why_not is not None:
        raise ValueError(f"impl = {impl!r}: {why_not}")
    return impl


@torch.compiler.assume_constant_result
def _part(device: torch.device) -> str | None:
    return part_of(device)


def check_cloud(points: Tensor, name: str, dims: int | None = None) -> None:
    """Raises ValueError unless `points` is a floating tensor [B, N, D] (of D = `dims` where that is given)."""
    if points.dim() != 3 or not points.is_floating_point():
        raise ValueError(
            f"{name}: should be floating [B, N, D], got {points.dtype} {tuple(points.shape)}"
        )
    if dims is not None and points.shape[2] != dims:
        raise ValueError(f"{name}: has {points.shape[2]} coordinates, should have {dims}")


def lengths_of(points: Tensor, lengths: Tensor | None, name: str) -> Tensor:
    """int64 [B]: how many points of each cloud are real. Raises ValueError for lengths that don't fit."""
    batch, most = points.shape[:2]
    if lengths is None:
        return torch.full((batch,), most, dtype=torch.int64, device=points.device)
    if lengths.shape == (batch,) and torch.compiler.is_compiling():
        torch._assert_async(
            ((lengths >= 0) & (lengths <= most)).all(), f"{name}: not all from 0 to {most}"
        )
    elif lengths.shape != (batch,) or bool(((lengths < 0) | (lengths > most)).any()):
        raise ValueError(
            f"{name}: should be {batch} lengths from 0 to {most}, got {lengths.tolist()}"
        )
    return lengths.to(torch.int64)


def is_real(lengths: Tensor, most: int) -> Tensor:
    """bool [B, N]: which points of a padded batch are real."""
    return torch.arange(most, device=lengths.device) < lengths[:, None]


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """[...] from [..., D] and [..., D]: summed coordinate by coordinate, so that every path rounds alike."""
    total = (a[..., 0] - b[..., 0]) ** 2
    for axis in range(1, a.shape[-1]):
        total = total + (a[..., axis] - b[..., axis]) ** 2
    return total
