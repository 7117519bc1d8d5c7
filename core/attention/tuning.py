"""Tile sizes of the Triton kernels: those of `tiles.json`, the table of what was compiled, and found free of faults.

Nothing here was timed on a GPU. `isoform.core.attention.aot` takes, for every kernel, part, mode and size, the first of
`CANDIDATES` that compiles without spilling and within the part's shared memory, by three rules:

- 64 rows on 4 warps, or as near as registers allow. Sets here have 30 to 2000 tokens; tiles of 128 would leave a third
  of their rows empty at 197 (ViT) and half at 64 (molecules). 64 rows of a 16-bit product are also what the matrix unit
  of sm_90 takes from 4 warps at a time; on sm_80, 8 warps on 64 rows repeat each other's operands.
- Where that spills, half the columns, then twice the warps. Kernels with a bias hold the address, value and gradient of
  every score; float32 products are chains of ordinary multiplications.
- Loads run one iteration ahead (2 stages): a third stage costs a tile of each operand and lifts none of these limits.

What is not in the table isn't launched on a GPU: `why_missing` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from isoform.core.kernels.record import read_record
from isoform.core.kernels.target import TARGETS, part_of

MAX_DIM = 128
DIMS = (32, 64, 128)  # what features of a head are padded to
RECORD = Path(__file__).with_name("tiles.json")
TYPES = {2: "bf16", 4: "fp32"}  # by bytes; float16 goes by bfloat16's entries


class Tiles(NamedTuple):
    """`n` queries and `m` keys a tile of a kernel, `warps` a program, `stages` iterations of loads in flight."""

    n: int
    m: int
    warps: int
    stages: int = 2


class Key(NamedTuple):
    """What decides the tiles: a kernel ("forward", "query", "key" or "values") for heads padded to `dim` features."""

    kernel: str
    target: str
    mode: str
    dim: int
    dtype: str

    @property
    def name(self) -> str:
        """Its name in the record."""
        return " ".join(str(value) for value in self)


# The modes that are compiled and checked: kinds of the parts of a bias.
MODES = ("none", "dense", "table", "grid", "slope", "distance", "path", "path+table")
MODES_32 = ("none", "dense", "table", "path+table")  # of them, for float32 tokens

# Rows that stay (queries; of the key kernel, keys), rows that pass by, and warps; best first.
CANDIDATES = {
    "bf16": ((64, 64, 4), (64, 32, 4), (64, 64, 8), (64, 32, 8), (32, 64, 4), (32, 64, 8)),
    "fp32": (
        (64, 32, 8),
        (32, 32, 8),
        (32, 32, 4),
        (32, 16, 8),
        (32, 16, 4),
        (16, 16, 4),
        (16, 16, 8),
    ),
}
# Of the key kernel up to 64 features: on an H200, half the queries a step took an eighth less time (24 features).
KEY_CANDIDATES = ((64, 32, 4), (64, 64, 4), (64, 32, 8), (64, 64, 8), (32, 64, 4), (32, 64, 8))
# For heads of more than 64 features also these.
SMALLER = ((64, 16, 8), (32, 32, 4), (32, 32, 8), (32, 16, 4))

# Small enough that tests of a few dozen tokens meet several tiles.
INTERPRETED = Tiles(32, 32, 4)


def candidates(key: Key) -> Iterator[Tiles]:
    """What is tried for a kernel, best first."""
    shapes: tuple[tuple[int, int, int], ...] = CANDIDATES[key.dtype]
    if key.dtype == "bf16" and key.dim == 128:
        shapes += SMALLER
    elif key.dtype == "bf16" and key.kernel == "key":
        shapes = KEY_CANDIDATES
    for stays, passes, warps in shapes:
        n, m = (passes, stays) if key.kernel == "key" else (stays, passes)
        yield Tiles(n, m, warps)


def entries() -> list[Key]:
    """The whole table; of the kernel "values", which serves a shared dense bias, "dense" stands for all."""
    found = []
    for dtype, modes in (("bf16", MODES), ("fp32", MODES_32)):
        for target in TARGETS:
            for dim in DIMS:
                for kernel in ("forward", "query", "key"):
                    found += [Key(kernel, target, mode, dim, dtype) for mode in modes]
                found.append(Key("values", target, "dense", dim, dtype))
    return found


@cache
def read() -> dict[str, Any]:
    """The record: the compiler ("triton") and of each key ("kernels") its tiles, digest and figures."""
    return read_record(RECORD)


def padded_dim(dim: int) -> int:
    """Features of a head rounded up to one of `DIMS`."""
    return next(size for size in DIMS if dim <= size)


def target_of(device: torch.device) -> str:
    """The target whose entries serve a device: "sm_80", "sm_90" or "interpreter", see `part_of`.

    Raises ValueError for a GPU that nothing was compiled and checked for.
    """
    part = part_of(device)
    if part is None:
        major, minor = torch.cuda.get_device_capability(device)
        raise ValueError(
            f"the Triton kernels' table of tiles has no entry for this GPU (capability {major}.{minor}): "
            "choose impl='sdpa'"
        )
    return part


def why_missing(mode: str, dim: int, itemsize: int) -> str | None:
    """Why a mode can't be launched on a GPU, as the end of a sentence; None where the table lists it.

    On the GPU at hand; without one, on all that the table is for.
    """
    for target in _targets_at_hand():
        for kernel in ("forward", "query", "key"):
            key = Key(kernel, target, mode, padded_dim(dim), TYPES[itemsize])
            if key.name not in read()["kernels"]:
                return (
                    f"the table of tiles that were compiled and checked has no entry {key.name!r}"
                )
    return None


def _targets_at_hand() -> tuple[str, ...]:
    if not torch.cuda.is_available():
        return TARGETS
    try:
        return (target_of(torch.device("cuda")),)
    except ValueError:
        return ("another",)  # of which the table lists nothing


def tiles(kernel: str, target: str, dim: int, itemsize: int, mode: str) -> Tiles:
    """The tiles of kernel "forward", "query", "key" or "values" for heads of `dim` features of `itemsize` bytes.

    Raises ValueError for what the table doesn't list.
    """
    if target == "interpreter":
        return INTERPRETED
    listed = "dense" if kernel == "values" else mode
    key = Key(kernel, target, listed, padded_dim(dim), TYPES[itemsize])
    found = read()["kernels"].get(key.name)
    if found is None:
        raise ValueError(
            f"the Triton kernels can't serve this: the table of tiles that were compiled and checked has no entry "
            f"{key.name!r}; choose impl='sdpa'"
        )
    return Tiles(*found["tiles"])
