"""Every launch of the point kernels as a value: which kernel, how many programs, its arguments, how it is compiled.

Legend: B clouds, N and M points, K neighbours, D coordinates. What is launched on a GPU, interpreted, and compiled
ahead of time is made here, from contiguous float32 tensors on any device, "meta" included. Importing this needs no
Triton.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAX_DIMS = 8  # coordinates of a point
MAX_NEIGHBOURS = 64  # the most that CUTS lists
MAX_POINTS = 2**22  # of a cloud: with 512 orders of ties each, they still count in 31 bits
HELD_POINTS, HELD_DIMS = 8192, 3  # up to here farthest point sampling keeps a cloud in registers
BLOCK = 4096  # points that it looks at together in larger clouds
FEWEST = 64  # points that it is compiled for, at least
TILE = 128  # points of a gradient's program


class Cut(NamedTuple):
    """`n` asking and `m` answering points a tile, `warps` a program."""

    n: int
    m: int
    warps: int = 4


# By the neighbours that a program keeps: K is rounded up to one of these. Few rows that are wide: what a row asks of
# its neighbouring lanes, the smallest and the largest of it, is then little beside what each lane does by itself.
CUTS = {
    1: Cut(32, 64),
    4: Cut(8, 256),
    8: Cut(8, 256),
    16: Cut(8, 256),
    32: Cut(8, 256),
    64: Cut(8, 256),
}


class Launch(NamedTuple):
    """`programs` programs of kernel "farthest", "farthest_blocks", "nearest" or "gradient", of `warps` each."""

    kernel: str
    programs: int
    warps: int
    arguments: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """How it is compiled. Nothing is fused: distances round as torch's do, so that indices are the same."""
        return {"num_warps": self.warps, "num_stages": 2, "enable_fp_fusion": False}


def kernel_of(name: str) -> Any:
    """The kernel by its short name."""
    where = "farthest" if name.startswith("farthest") else "nearest"
    module = importlib.import_module(f"isoform.pointcloud.ops.triton_{where}")
    return getattr(module, f"{name}_kernel")


def start(launch: Launch, on: Tensor) -> None:
    """Run it where a tensor is."""
    if launch.programs:
        with torch.cuda.device_of(on):
            kernel_of(launch.kernel)[(launch.programs,)](**launch.arguments, **launch.options)


def farthest_launch(
    points: Tensor,
    nearest: Tensor,
    order: Tensor | None,
    start: Tensor,
    count: Tensor,
    index: Tensor,
) -> Launch:
    """Writes index [B, K]; overwrites nearest [B, N] where the cloud doesn't fit into registers."""
    batch, total, dims = points.shape
    held = total <= HELD_POINTS and dims <= HELD_DIMS
    block = max(FEWEST, _power_of_2(total)) if held else BLOCK
    warps = min(32, max(1, block // 256)) if held else 32  # eight points a thread, or four
    arguments = {
        "points": points,
        "nearest": nearest,
        "order": order,
        "start": start,
        "count": count,
        "index": index,
        "N": total,
        "most": index.shape[1],
        "D": dims,
        "BLOCK": block,
    }
    return Launch("farthest" if held else "farthest_blocks", batch, warps, arguments)


def nearest_launch(
    asking: Tensor,
    answering: Tensor,
    n_asking: Tensor,
    n_answering: Tensor,
    dists: Tensor,
    index: Tensor,
) -> Launch:
    """Writes dists and index [B, N, K]."""
    batch, n, dims = asking.shape
    k = index.shape[2]
    kept = next(size for size in CUTS if k <= size)
    cut = CUTS[kept]
    tiles = -(-n // cut.n)
    arguments = {
        "asking": asking,
        "answering": answering,
        "n_asking": n_asking,
        "n_answering": n_answering,
        "dists": dists,
        "index": index,
        "N": n,
        "M": answering.shape[1],
        "K": k,
        "tiles": tiles,
        "D": dims,
        "KEPT": kept,
        "TILE_N": cut.n,
        "TILE_M": cut.m,
    }
    return Launch("nearest", batch * tiles, cut.warps, arguments)


def gradient_launch(
    own: Tensor,
    others: Tensor,
    d_dists: Tensor,
    index: Tensor,
    firsts: Tensor | None,
    entries: Tensor | None,
    d_own: Tensor,
) -> Launch:
    """Writes d_own [B, N, D], the gradient in the asking points, or with `firsts` and `entries` in the answering."""
    batch, n, dims = own.shape
    tiles = -(-n // TILE)
    arguments = {
        "own": own,
        "others": others,
        "d_dists": d_dists,
        "index": index,
        "firsts": firsts,
        "entries": entries,
        "d_own": d_own,
        "N": n,
        "M": others.shape[1],
        "K": index.shape[2],
        "tiles": tiles,
        "D": dims,
        "DIM": _power_of_2(dims),
        "TILE": TILE,
    }
    return Launch("gradient", batch * tiles, 4, arguments)


def _power_of_2(number: int) -> int:
    """The lowest that is no smaller."""
    return 1 << max(0, number - 1).bit_length()
