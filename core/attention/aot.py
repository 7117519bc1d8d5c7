"""Compile every Triton kernel for sm_80, sm_90 and gfx942 without a GPU, and hold the result to limits.

    python -m isoform.core.attention.aot            is the table current and free of faults? compiles a few again
    python -m isoform.core.attention.aot --all      compiles what has changed (everything, after a change of what all
                                                    kernels share), chooses tiles and records both in tiles.json
    python -m isoform.core.attention.aot --table    prints the table

Kernels are compiled from the very arguments that the operator would launch them with, bound by Triton, on tensors
without data. `tiles.json` keeps the tiles, and what the kernels take: registers a thread, bytes spilled, shared memory,
matrix instructions. An entry is current while the kernel's source and the compiler are what they were; comments don't
count. Nothing is run, and nothing is said about speed. Exits 1 where a limit is broken or an entry is old; one that
isn't recorded is said, and refused on a GPU.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoform.core.attention.triton_arguments import grouped
from isoform.core.attention.triton_launch import (
    Call,
    Gradients,
    Launch,
    dense_grad,
    forward_launch,
    kernel_of,
    key_launch,
    like_rest,
    query_launch,
    sums_grad,
    values_launch,
)
from isoform.core.attention.tuning import RECORD, Key, Tiles, candidates, entries, read
from isoform.core.kernels.ahead import build, command, over_limits
from isoform.core.kernels.record import code_of, of_this_compiler, stale_of, write_record

HERE = Path(__file__).parent
SHARED = ("triton_arguments", "triton_bias", "triton_score")  # what every kernel's code depends on
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# The instructions of the matrix units, by target; float32 products stay out of them (they would be TF32).
MATRIX = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async.sync", "gfx942": "v_mfma"}


class Variant(NamedTuple):
    """One way in which a kernel is compiled: heads of `dim` features, and what `also` changes the code."""

    dim: int
    # "causal", "varlen", "dropout", "deterministic"; "aligned": a bias's rows begin at multiples of 16; "one": every
    # size is 1, which Triton makes a constant.
    also: str = ""

    @property
    def name(self) -> str:
        """Its name in the record."""
        return f"{self.dim} {self.also}".strip()


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes: registers and bytes of spill stores a thread, KiB shared, matrix instructions."""

    registers: int
    spilled: int
    shared: float
    matrix: int


def variants(key: Key) -> list[Variant]:
    """The ways in which the kernel of an entry is compiled."""
    found = [Variant(key.dim)]
    if key.dtype == "fp32" or key.kernel == "values":
        return found
    if key.mode in ("table", "path") and key.dim != 64:
        found.append(Variant(24 if key.dim == 32 else 80))
    if key.mode in ("none", "dense", "path+table") and key.dim == 32:
        found.append(Variant(32, "one"))
    if key.dim == 64:
        more = {
            "none": ("causal", "varlen", "dropout"),
            "dense": ("causal", "varlen", "aligned"),
            "table": ("deterministic",) if key.kernel == "query" else (),
        }
        found += [Variant(64, also) for also in more.get(key.mode, ())]
    return found


def arguments(key: Key, variant: Variant, cut: Tiles) -> Launch:
    """The launch of a variant: Graphormer's sizes or so, on tensors that have no data."""
    b, h, n, v = 8, 8, 256 if variant.also == "aligned" else 251, 41
    if variant.also == "one":
        b = h = n = 1
    d, dtype, packed = variant.dim, DTYPES[key.dtype], variant.also == "varlen"

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def heads() -> Tensor:
        return new(1 if packed else b, b * n if packed else n, h, d, dtype=dtype).transpose(1, 2)

    parts = {
        "dense": [new(1 if key.kernel == "values" else b, h, n, n, dtype=dtype)],
        "table": [new(b, n, n, dtype=torch.uint8), new(h, v)],
        "grid": [new(n, dtype=torch.int32), new(n, dtype=torch.int32), new(h, v)],
        "slope": [new(b, n, 3), new(b, n, 3), new(h)],
        "distance": [new(b, n, 3), new(b, n, 3), new(33), new(33), new(h, 33)],
        "path": [
            new(b, n, n, 5, 3, dtype=torch.int16),
            new(b, n, n, dtype=torch.int32),
            new(h, 5 * v),
        ],
    }
    leaves = [] if key.mode == "none" else [x for k in key.mode.split("+") for x in parts[k]]
    q, k, values, do, out, dq, dk, dv = (heads() for _ in range(8))
    offsets = new(b + 1, dtype=torch.int32) if packed else None
    call = Call(
        q,
        k,
        values,
        leaves,
        key.mode,
        valid=None if packed else new(b, n, dtype=torch.bool),
        place_q=None,
        place_kv=None,
        offsets_q=offsets,
        offsets_kv=offsets,
        seed=new(1, dtype=torch.int64) if variant.also == "dropout" else None,
        left=None,
        right=0 if variant.also == "causal" else None,
        longest_q=n,
        longest_kv=n,
        dropped=6554 if variant.also == "dropout" else 0,
        scale=d**-0.5,
    )
    lse = new(*q.shape[:2], 2, q.shape[2])
    rest = like_rest(q)
    past = Gradients(do, out, lse, rest, new(*q.shape[:3]))
    match key.kernel:
        case "forward":
            return forward_launch(call, cut, out, lse, rest)
        case "key":
            return key_launch(call, cut, past, dk, dv)
        case "values":
            return values_launch(call, cut, past, leaves[0])[0]
    unit = new(1) if variant.also == "deterministic" else None
    grads = tuple(
        dense_grad(call, own[0])[0] if kind == "dense" else sums_grad(call, cut, kind, own, unit)[0]
        for kind, own in grouped(call.mode, leaves)
    )
    return query_launch(call, cut, past, dq, grads)


def compile_variant(key: Key, variant: Variant, cut: Tiles) -> Usage:
    """Compile one variant afresh, as a launch would; for gfx942 it is built alone."""
    launch = arguments(key, variant, cut)
    options = {"num_warps": cut.warps, "num_stages": cut.stages}
    built = build(kernel_of(launch.kernel), launch.arguments, options, key.target)
    matrix = built.text.count(MATRIX[key.target])
    return Usage(built.registers, built.spilled, built.shared, matrix)


def breaches(key: Key, usage: Usage) -> Iterator[str]:
    """What is wrong with a compiled kernel, a sentence each."""
    yield from over_limits(key.target, usage.spilled, usage.shared)
    if key.dtype != "fp32" and usage.matrix == 0:
        yield f"no {MATRIX[key.target]} instruction: products do not reach the matrix unit"
    if key.dtype == "fp32" and usage.matrix > 0:
        yield f"float32 products lose precision in {usage.matrix} {MATRIX[key.target]} instructions"


# The record -----------------------------------------------------------------------------------------------------------


def digest(key: Key) -> str:
    """Of the code that an entry was compiled from, and of the ways in which it was."""
    files = [*SHARED, "triton_forward" if key.kernel == "forward" else "triton_backward"]
    text = [code_of(HERE / f"{name}.py") for name in files] + [str(variants(key))]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def write(record: dict[str, Any]) -> None:
    """Keep the record, a line an entry."""
    write_record(RECORD, record)
    read.cache_clear()


def chosen(key: Key) -> dict[str, Any] | None:
    """An entry: the first tiles with which all variants keep to the limits; None where none do."""
    for cut in candidates(key):
        figures = {}
        for variant in variants(key):
            usage = compile_variant(key, variant, cut)
            if any(breaches(key, usage)):
                break
            figures[variant.name] = astuple(usage)
        else:
            return {"tiles": cut, "digest": digest(key), "figures": figures}
    return None


def stale() -> list[Key]:
    """What the table should list and doesn't, or lists from other code or another compiler."""
    return stale_of(entries(), read(), digest)


def record_all() -> Iterator[str]:
    """Compile what is stale on all cores, record each at once, so that it can be taken up again; lines to print."""
    import triton

    names = {key.name for key in entries()}
    old = of_this_compiler(read())
    kernels = {name: found for name, found in old.items() if name in names}
    todo = stale()
    with ProcessPoolExecutor() as pool:
        for number, (key, found) in enumerate(zip(todo, pool.map(chosen, todo), strict=True), 1):
            if found is None:
                yield f"{number} of {len(todo)}: {key.name}: every candidate spills or takes too much shared memory"
                continue
            kernels[key.name] = found
            write({"triton": triton.__version__, "kernels": kernels})
            yield f"{number} of {len(todo)}: {key.name}: {tuple(found['tiles'])} {found['figures']}"
    for key in BUILT_ALONE:
        usage = compile_variant(key, Variant(64), next(candidates(key)))
        yield f"{key.name}: built, {usage.shared:.0f} KiB, {usage.matrix} matrix instructions"


BUILT_ALONE = [
    Key(kernel, "gfx942", mode, 64, "bf16")
    for kernel in ("forward", "query", "key")
    for mode in ("none", "path+table")
]
# Compiled again whenever the table is checked: each kernel, both families, the costliest modes.
AGAIN = [
    Key("forward", "sm_80", "none", 64, "bf16"),
    Key("key", "sm_80", "table", 32, "bf16"),
    Key("query", "sm_80", "distance", 64, "bf16"),
    Key("forward", "sm_90", "path+table", 64, "bf16"),
    Key("query", "sm_90", "path+table", 128, "bf16"),
    Key("values", "sm_90", "dense", 32, "bf16"),
]


def check() -> Iterator[tuple[str, bool]]:
    """Lines about the table, each with whether it names a fault."""
    import triton

    kernels, same = read()["kernels"], read()["triton"] == triton.__version__
    if same:
        missing = [key for key in stale() if key.name not in kernels]
        old = [key for key in stale() if key.name in kernels]
        if missing:
            yield (
                f"{len(missing)} of {len(entries())} entries aren't recorded yet, and are refused on a GPU: make aot "
                f"goes on with {missing[0].name}",
                False,
            )
        yield from ((f"{key.name}: old, run make aot", True) for key in old)
    else:
        yield f"recorded with Triton {read()['triton']}, at hand is {triton.__version__}", False
    yield from ((line, True) for line in recorded_breaches())
    for key in AGAIN:
        if key.name not in kernels:
            continue
        found = kernels[key.name]
        variant = variants(key)[0]
        usage = compile_variant(key, variant, Tiles(*found["tiles"]))
        yield f"{key.name}: {usage}", False
        yield from ((f"{key.name}: {breach}", True) for breach in breaches(key, usage))
        if same and Usage(*found["figures"][variant.name]) != usage:
            yield f"{key.name}: the record says {found['figures'][variant.name]}", True


def recorded_breaches() -> Iterator[str]:
    """What is wrong with recorded figures."""
    for key in entries():
        for name, figures in read()["kernels"].get(key.name, {"figures": {}})["figures"].items():
            for breach in breaches(key, Usage(*figures)):
                yield f"{key.name}, {name}: {breach}"


def table() -> Iterator[str]:
    """The record as rows of a Markdown table: of an entry's variants, the one that takes most registers."""
    yield "| kernel | part | bias | D | type | tile | warps | registers | spilled | KiB shared | matrix |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for key in entries():
        found = read()["kernels"].get(key.name)
        if found is not None:
            n, m, warps, _ = found["tiles"]
            most = Usage(*max(found["figures"].values()))
            cells = [*key, f"{n} x {m}", warps, most.registers, most.spilled]
            cells += [f"{most.shared:.1f}", most.matrix]
            yield "| " + " | ".join(str(cell) for cell in cells) + " |"


def main(arguments: list[str]) -> int:
    """Compile, print, judge; the exit status."""
    return command(arguments, record_all, check, table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
