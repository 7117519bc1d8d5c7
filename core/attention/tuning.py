"""Tile sizes of the Triton kernels: a plain table by target, so that every choice is compiled and checked beforehand.

Nothing here was timed on a GPU. The choices follow from what `isoform.core.attention.aot` reads off the compiled
kernels, by three rules:

- Nothing spills, and shared memory fits the target. Kernels with a bias hold the address, value and gradient of every
  score, the key kernel two sums and two operands: they take smaller tiles. So do float32 kernels, whose products are
  chains of ordinary multiplications, and run on twice the warps to halve a thread's share.
- 64 rows on 4 warps, or as near as registers allow. Sets here have 30 to 2000 tokens; tiles of 128 would leave a third
  of their rows empty at 197 (ViT) and half at 64 (molecules). 64 rows of a 16-bit product are also what the matrix unit
  of sm_90 takes from 4 warps at a time; on sm_80, 8 warps on 64 rows repeat each other's operands.
- Loads run one iteration ahead (2 stages): a third stage costs a tile of each operand and lifts none of these limits.
"""

from typing import NamedTuple

import torch

MAX_DIM = 128


class Tiles(NamedTuple):
    """`n` queries and `m` keys a tile of a kernel, `warps` a program, `stages` iterations of loads in flight."""

    n: int
    m: int
    warps: int
    stages: int = 2


# (kernel, has a bias): tiles for heads padded to 32, 64 and 128 features.
TileTable = dict[tuple[str, bool], tuple[Tiles, Tiles, Tiles]]

SM80_16: TileTable = {
    ("forward", False): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 4)),
    ("forward", True): (Tiles(64, 32, 4), Tiles(64, 64, 4), Tiles(64, 32, 8)),
    ("query", False): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 4)),
    ("query", True): (Tiles(64, 32, 4), Tiles(64, 32, 4), Tiles(64, 64, 8)),
    ("key", False): (Tiles(32, 64, 4), Tiles(32, 64, 4), Tiles(32, 64, 8)),
    ("key", True): (Tiles(32, 64, 4), Tiles(64, 32, 4), Tiles(32, 64, 8)),
    ("bias", True): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 8)),
}
SM80_32: TileTable = {
    ("forward", False): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 32, 8)),
    ("forward", True): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 16, 4)),
    ("query", False): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 16, 4)),
    ("query", True): (Tiles(64, 32, 8), Tiles(32, 16, 4), Tiles(32, 16, 4)),
    ("key", False): (Tiles(32, 64, 8), Tiles(16, 32, 4), Tiles(16, 32, 8)),
    ("key", True): (Tiles(32, 64, 8), Tiles(32, 64, 8), Tiles(32, 32, 8)),
    ("bias", True): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 32, 8)),
}
SM90_16: TileTable = {
    ("forward", False): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 4)),
    ("forward", True): (Tiles(64, 32, 4), Tiles(64, 64, 4), Tiles(64, 32, 4)),
    ("query", False): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 4)),
    ("query", True): (Tiles(64, 32, 4), Tiles(64, 64, 4), Tiles(64, 64, 8)),
    ("key", False): (Tiles(64, 64, 4), Tiles(32, 64, 4), Tiles(32, 64, 8)),
    ("key", True): (Tiles(32, 64, 4), Tiles(64, 64, 8), Tiles(32, 64, 8)),
    ("bias", True): (Tiles(64, 64, 4), Tiles(64, 64, 4), Tiles(64, 64, 4)),
}
SM90_32: TileTable = {
    ("forward", False): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 16, 8)),
    ("forward", True): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 16, 8)),
    ("query", False): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 32, 4)),
    ("query", True): (Tiles(64, 32, 8), Tiles(32, 16, 4), Tiles(32, 16, 4)),
    ("key", False): (Tiles(32, 32, 8), Tiles(32, 32, 4), Tiles(16, 32, 4)),
    ("key", True): (Tiles(32, 32, 8), Tiles(32, 32, 4), Tiles(16, 32, 4)),
    ("bias", True): (Tiles(64, 32, 8), Tiles(64, 32, 8), Tiles(32, 32, 8)),
}
TABLES = {
    ("sm_80", 2): SM80_16,
    ("sm_80", 4): SM80_32,
    ("sm_90", 2): SM90_16,
    ("sm_90", 4): SM90_32,
}
# Small enough that tests of a few dozen tokens meet several tiles.
INTERPRETED = Tiles(32, 32, 4)


def padded_dim(dim: int) -> int:
    """Features of a head rounded up to what a tile can have: a power of two from 16."""
    return max(16, 1 << (dim - 1).bit_length())


def target_of(device: torch.device) -> str:
    """The target whose table serves a device: "sm_80", "sm_90" or "interpreter".

    sm_90's tables need its shared memory (227 KiB), which the data-centre parts 9.0 and 10.x have. All others get
    sm_80's, which stay below the 99 KiB of the smallest parts since then (8.6, 8.9, 12.x).
    """
    if device.type != "cuda":
        return "interpreter"
    return "sm_90" if torch.cuda.get_device_capability(device)[0] in (9, 10) else "sm_80"


def tiles(kernel: str, target: str, dim: int, itemsize: int, has_bias: bool) -> Tiles:
    """The tiles of kernel "forward", "query", "key" or "bias" for heads of `dim` features of `itemsize` bytes."""
    if target == "interpreter":
        return INTERPRETED
    by_dim = TABLES[target, itemsize][kernel, has_bias]
    return by_dim[(padded_dim(dim) > 32) + (padded_dim(dim) > 64)]
