"""Bytes that one layer's attention moves on a GPU, a mode beside the dense bias: counted from the kernels' own loads.

B samples, H heads (each with its own keys), N queries, M keys, D features of a head, V table rows, P hops, F features
of a hop, C coordinates, K basis functions.

`issued` is what programs ask for, cache or not; the interpreter counts the same (tests/core/attention/triton). `dram`
is what memory has to deliver under one assumption: programs that differ in their head alone are neighbours in the grid,
so whatever a sample's heads share, and a head's keys and values, stays in the cache that all of the GPU shares while
the sample is worked on. It must hold a sample's keys, values and compact bias inputs of all heads: 0.8 MiB of keys and
values and 64 KiB of ids at N = M = 256, H = 32, D = 24 in bfloat16, of 40 MiB (A100) or 50 MiB (H100).

A model, not a measurement: no GPU was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from isoform.core.attention.tuning import Tiles


@dataclass(frozen=True)
class Sizes:
    """One layer's attention; bytes a token's feature (2: bfloat16), a dense bias's element, and an id."""

    b: int
    h: int
    n: int
    m: int
    d: int
    token: int = 2
    value: int = 2
    id: int = 1
    hops: int = 5
    features: int = 1
    rows: int = 41
    basis: int = 32
    axes: int = 3

    @property
    def pairs(self) -> int:
        """Pairs of tokens, over all samples."""
        return self.b * self.n * self.m


GRAPHORMER = Sizes(b=256, h=32, n=256, m=256, d=24)
PASSES = ("forward", "query", "key")


def issued(sizes: Sizes, kind: str, kernel: str, cut: Tiles) -> int:
    """Bytes that all programs of a kernel load for one part of a bias, and add or store for its gradient."""
    s = sizes
    heads = s.b * s.h
    tiles = heads * -(-s.n // cut.n) * -(-s.m // cut.m)
    # What a row or column of tiles reads for its queries and keys.
    edges = heads * (s.n * -(-s.m // cut.m) + s.m * -(-s.n // cut.n))
    pairs = s.h * s.pairs
    lookups = s.hops * s.features
    inputs, gathered, added = {
        "none": (0, 0, 0),
        "dense": (pairs * s.value, 0, pairs * s.value),
        "table": (pairs * s.id, pairs * 4, pairs * 4),
        "path": (pairs * (lookups * s.id + 4), pairs * lookups * 4, pairs * lookups * 4),
        "grid": (edges * 4, pairs * 4, pairs * 4),
        "slope": (edges * 4 * s.axes, tiles * 4, tiles * 4),
        "distance": (
            edges * 4 * s.axes + tiles * 4 * 2 * s.basis,
            tiles * 4 * s.basis,
            tiles * 4 * 3 * s.basis,
        ),
    }[kind]
    if kernel != "query":
        return inputs + gathered
    # The gradient's place is found from the inputs once more.
    again = 0 if kind == "dense" else inputs
    return inputs + gathered + added + again


def bias_bytes(sizes: Sizes, kind: str) -> int:
    """Bytes that DRAM delivers of a bias's inputs in one pass: compact ones once for all heads."""
    s = sizes
    codes, coords = s.n + s.m, s.b * (s.n + s.m) * s.axes
    return {
        "none": 0,
        "dense": s.h * s.pairs * s.value,
        "table": s.pairs * s.id + s.h * s.rows * 4,
        "path": s.pairs * (s.hops * s.features * s.id + 4) + s.h * s.hops * s.rows * 4,
        "grid": 4 * codes + s.h * 4 * (2 * s.n - 1),
        "slope": 4 * coords + 4 * s.h,
        "distance": 4 * coords + 4 * s.basis * (s.h + 2),
    }[kind]


def dram(sizes: Sizes, mode: str) -> dict[str, int]:
    """Bytes of a training step's attention in one layer: "tokens" (q, k, v, out, gradients) and "bias".

    A dense bias is also built (written), its gradient written, and that gradient read by what built it.
    """
    s = sizes
    tensor = s.b * s.h * s.n * s.d * s.token
    rows = s.b * s.h * s.n * 4
    # Forward: q, k, v, out, rest; queries: q, k, v, do, out, rest, dq; keys: q, k, v, do, dk, dv. lse has two numbers
    # a row, delta one.
    tokens = (5 + 7 + 6) * tensor + (2 + 2 + 2) * rows + 2 * rows
    bias = 0
    for kind in mode.split("+"):
        bias += len(PASSES) * bias_bytes(s, kind)
        if kind == "dense":
            bias += 3 * bias_bytes(s, kind)
    return {"tokens": tokens, "bias": bias}


def table(sizes: Sizes = GRAPHORMER) -> list[str]:
    """Rows of a Markdown table: what each mode moves, in MiB, beside the dense bias."""
    lines = [
        "| bias | tokens, MiB | bias, MiB | dense bias / this bias | dense layer / this layer |",
        "|---|---|---|---|---|",
    ]
    dense = dram(sizes, "dense")
    for mode in ("none", "dense", "table", "grid", "slope", "distance", "path", "path+table"):
        found = dram(sizes, mode)
        total, share = sum(found.values()), found["bias"]
        ratio = "" if share == 0 else f"{dense['bias'] / share:.0f}"
        mib = [f"{value / 2**20:.1f}" for value in found.values()]
        lines.append(
            f"| {mode} | {mib[0]} | {mib[1]} | {ratio} | {sum(dense.values()) / total:.1f} |"
        )
    return lines
