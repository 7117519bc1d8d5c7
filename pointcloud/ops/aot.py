"""Compile every point kernel for sm_80, sm_90 and gfx942 without a GPU, and hold the result to limits.

    python -m isoform.pointcloud.ops.aot            is the record current and free of faults? compiles a few again
    python -m isoform.pointcloud.ops.aot --all      compiles what has changed and records it in kernels.json
    python -m isoform.pointcloud.ops.aot --table    prints the record

An entry is one kernel, part and size, with 3 coordinates and the most, and in every variant that its launches have.
Nothing may spill or take more shared memory than the part has, and no multiplication may be fused with an addition:
indices would no longer be torch's.
Exits 1 where a limit is broken or an entry is missing or old.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoform.core.kernels.ahead import build, command, over_limits
from isoform.core.kernels.record import (
    code_of,
    of_this_compiler,
    read_record,
    stale_of,
    write_record,
)
from isoform.core.kernels.target import TARGETS
from isoform.pointcloud.ops.triton_launch import (
    BLOCK,
    CUTS,
    FEWEST,
    HELD_DIMS,
    HELD_POINTS,
    MAX_DIMS,
    Launch,
    farthest_launch,
    gradient_launch,
    kernel_of,
    nearest_launch,
)

HERE = Path(__file__).parent
RECORD = HERE / "kernels.json"
# Fused operations, and those that the assembler may still fuse: their rounding (.rn) isn't spelt out.
FUSED = {part: r"\b(fma\.rn|mul|add|sub)\.f32\b" for part in ("sm_80", "sm_90")}
FUSED["gfx942"] = r"\bv_(pk_)?fmac?_"


class Usage(NamedTuple):
    """What a compiled kernel takes: registers and bytes of spill stores a thread, KiB shared; fused operations."""

    registers: int
    spilled: int
    shared: float
    fused: int


class Key(NamedTuple):
    """A kernel on a part; `size` is the points that it holds, or the neighbours that it keeps."""

    kernel: str
    target: str
    size: int

    @property
    def name(self) -> str:
        """Its name in the record."""
        return " ".join(str(value) for value in self)


def entries() -> list[Key]:
    """The whole record."""
    blocks = [FEWEST << step for step in range((HELD_POINTS // FEWEST).bit_length())]
    found = []
    for target in TARGETS:
        found += [Key("farthest", target, block) for block in blocks]
        found += [Key("nearest", target, kept) for kept in CUTS]
        found += [Key("farthest_blocks", target, BLOCK), Key("gradient", target, 1)]
    return found


def variants(key: Key) -> dict[str, Launch]:
    """The launches of an entry by what differs: coordinates, and the order of ties or which cloud's gradient."""
    found = {}
    most = HELD_DIMS if key.kernel == "farthest" else MAX_DIMS
    for dims in sorted({HELD_DIMS, most}):
        for special in (False,) if key.kernel == "nearest" else (False, True):
            also = {"gradient": "answering"}.get(key.kernel, "ties") if special else ""
            found[f"{dims} {also}".strip()] = _launch(key, dims, special)
    return found


def _launch(key: Key, dims: int, special: bool) -> Launch:
    """Of clouds that have no data: sizes that nothing divides."""
    batch, n, m = 7, key.size - 1, 251

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def counts(*shape: int) -> Tensor:
        return new(*shape, dtype=torch.int64)

    if key.kernel.startswith("farthest"):
        if key.kernel == "farthest_blocks":
            n = HELD_POINTS + 1
        order = new(batch, n, dtype=torch.int32) if special else None
        cloud, nearest = new(batch, n, dims), new(batch, n)
        return farthest_launch(
            cloud, nearest, order, counts(batch), counts(batch), counts(batch, 53)
        )
    k = key.size if key.kernel == "nearest" else 13
    asking, answering = new(batch, 131, dims), new(batch, m, dims)
    dists, index = new(batch, 131, k), counts(batch, 131, k)
    if key.kernel == "nearest":
        return nearest_launch(asking, answering, counts(batch), counts(batch), dists, index)
    if not special:
        return gradient_launch(asking, answering, dists, index, None, None, asking)
    firsts, places = counts(batch, m + 1), counts(batch, 131 * k)
    return gradient_launch(answering, asking, dists, index, firsts, places, answering)


def compile_launch(launch: Launch, target: str) -> Usage:
    """Compile a launch's kernel afresh."""
    built = build(kernel_of(launch.kernel), launch.arguments, launch.options, target)
    return Usage(*built[:3], len(re.findall(FUSED[target], built.text)))


def breaches(target: str, kernel: str, usage: Usage) -> Iterator[str]:
    """What is wrong with a compiled kernel, a sentence each."""
    yield from over_limits(target, usage.spilled, usage.shared)
    if usage.fused > 0:
        yield f"{usage.fused} operations fused or free to be: {kernel} rounds otherwise than torch"


def digest(key: Key) -> str:
    """Of the code that an entry was compiled from, and of its launches."""
    where = "farthest" if key.kernel.startswith("farthest") else "nearest"
    text = [code_of(HERE / f"{name}.py") for name in (f"triton_{where}", "triton_launch")]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


@cache
def read() -> dict[str, Any]:
    """The record."""
    return read_record(RECORD)


def stale() -> list[Key]:
    """What the record lacks, or has from other code or another compiler."""
    return stale_of(entries(), read(), digest)


def record_all() -> Iterator[str]:
    """Compile and record what is stale; lines to print."""
    import triton

    names = {key.name for key in entries()}
    old = of_this_compiler(read())
    kernels = {name: found for name, found in old.items() if name in names}
    for key in stale():
        figures = {
            name: compile_launch(launch, key.target) for name, launch in variants(key).items()
        }
        kernels[key.name] = {"digest": digest(key), "figures": figures}
        write_record(RECORD, {"triton": triton.__version__, "kernels": kernels})
        read.cache_clear()
        yield f"{key.name}: {kernels[key.name]['figures']}"
    for key in BUILT_ALONE:
        name, launch = next(iter(variants(key).items()))
        usage = compile_launch(launch, key.target)
        yield f"{key.name}, {name}: built, {usage.shared:.0f} KiB, {usage.fused} fused operations"


BUILT_ALONE = [
    Key("farthest", "gfx942", 1024),
    Key("farthest_blocks", "gfx942", BLOCK),
    Key("nearest", "gfx942", 1),
    Key("nearest", "gfx942", 32),
    Key("gradient", "gfx942", 1),
]
# Compiled again whenever the record is checked: each kernel, both parts.
AGAIN = [
    Key("farthest", "sm_80", HELD_POINTS),
    Key("farthest", "sm_90", 1024),
    Key("nearest", "sm_80", 1),
    Key("nearest", "sm_90", 64),
    Key("gradient", "sm_90", 1),
]


def check() -> Iterator[tuple[str, bool]]:
    """Lines about the record, each with whether it names a fault."""
    import triton

    kernels, same = read()["kernels"], read()["triton"] == triton.__version__
    if same:
        yield from ((f"{key.name}: missing or old, run make aot", True) for key in stale())
    else:
        yield f"recorded with Triton {read()['triton']}, at hand is {triton.__version__}", False
    for key in entries():
        for name, figures in kernels.get(key.name, {"figures": {}})["figures"].items():
            for breach in breaches(key.target, key.kernel, Usage(*figures)):
                yield f"{key.name}, {name}: {breach}", True
    for key in AGAIN:
        name, launch = next(iter(variants(key).items()))
        usage = compile_launch(launch, key.target)
        yield f"{key.name}, {name}: {usage}", False
        yield from (
            (f"{key.name}: {line}", True) for line in breaches(key.target, key.kernel, usage)
        )
        recorded = kernels.get(key.name, {"figures": {}})["figures"].get(name, usage)
        if same and Usage(*recorded) != usage:
            yield f"{key.name}, {name}: the record says {recorded}", True


def table() -> Iterator[str]:
    """The record as rows of a Markdown table: of an entry's variants, the one that takes most registers."""
    yield "| kernel | part | size | registers | spilled | KiB shared | fused |"
    yield "|---|---|---|---|---|---|---|"
    for key in entries():
        if key.name in read()["kernels"]:
            most = Usage(*max(read()["kernels"][key.name]["figures"].values()))
            cells = [*key, most.registers, most.spilled, f"{most.shared:.1f}", most.fused]
            yield "| " + " | ".join(str(cell) for cell in cells) + " |"


def main(arguments: list[str]) -> int:
    """Compile, print, judge; the exit status."""
    return command(arguments, record_all, check, table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
