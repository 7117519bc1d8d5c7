"""Inputs for attention kernels in every mode, and what they must give: the float64 meaning of each, gradients included.

B samples, H query heads, G key heads, N queries, M keys, D features, V table rows, C coordinates, K basis functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from isoform.core.attention import attention
from isoform.core.attention.bias import (
    Bias,
    Dense,
    Distance,
    Gaussians,
    PathTable,
    RelativeGrid,
    Slope,
    Sum,
    Table,
)
from isoform.core.attention.mask import visible
from isoform.core.attention.reference import probabilities
from isoform.core.ops.dropout import LEVELS

SCALE = 0.3
SEED = 2**40 + 12345


@dataclass
class Case:
    """One call. `lengths`: packed samples of (queries, keys), instead of b, n and m."""

    h: int = 2
    g: int = 2
    d: int = 16
    b: int = 2
    n: int = 13
    m: int = 37
    bias: tuple[str, ...] = ()
    padded: bool = False
    causal: bool = False
    window: tuple[int | None, int | None] | None = None
    uneven: bool = False
    dropout: float = 0.0
    deterministic: bool = False
    lengths: tuple[tuple[int, int], ...] = ()
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] = field(default=())  # of a dense bias that is shared

    def __post_init__(self) -> None:
        if self.lengths:
            self.b = len(self.lengths)
            self.n, self.m = (max(each) for each in zip(*self.lengths, strict=True))


@dataclass
class Inputs:
    """A call's tensors; `bias` holds tensors that want gradients."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Bias | None
    valid_q: Tensor | None
    valid_kv: Tensor | None

    def learnt(self) -> list[Tensor]:
        """Everything that wants a gradient."""
        leaves = [] if self.bias is None else tree_leaves(self.bias)
        return [self.q, self.k, self.v, *(x for x in leaves if x.requires_grad)]

    def double(self) -> Inputs:
        """The same numbers in float64, with gradients of their own."""

        def widened(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return x
            return x.detach().double().requires_grad_(x.requires_grad)

        q, k, v = (widened(x) for x in (self.q, self.k, self.v))
        bias = None if self.bias is None else tree_map(widened, self.bias)
        return Inputs(q, k, v, bias, self.valid_q, self.valid_kv)


def bordered(values: Tensor) -> Tensor:
    """The same values inside a buffer of NaN (or True, or a large id), so that a read out of bounds shows."""
    fill = math.nan if values.is_floating_point() else 1 if values.dtype == torch.bool else 99
    buffer = torch.full((values.numel() + 1024,), fill, dtype=values.dtype)
    buffer[512:-512] = values.flatten()
    return buffer[512:-512].view(values.shape)


def make(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return bordered(torch.randn(shape).to(dtype)).requires_grad_()


def ids(high: int, *shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
    return bordered(torch.randint(0, high, shape).to(dtype))


def part(name: str, case: Case) -> Bias:
    """One part of a bias; the tables' sizes are primes."""
    b, h, n, m = case.b, case.h, case.n, case.m
    match name:
        case "dense":
            return Dense(make(*(case.shape or (b, h, n, m)), dtype=case.dtype))
        case "table":
            return Table(ids(7, b, n, m, dtype=torch.uint8), make(7, h))
        case "wide table":  # ids shared by the samples, a column shared by the heads
            return Table(ids(301, 1, n, m).to(torch.uint16), make(301, 1))
        case "path":
            length = bordered(torch.randint(-1, 6, (b, n, m), dtype=torch.int32))
            return PathTable(ids(11, b, n, m, 3, 2), length, make(11, h), make(5, h, h))
        case "grid":
            height = 3
            grid = RelativeGrid.of(make(1, h).detach(), (1,))  # the codes below are its own
            whole = RelativeGrid.of(torch.zeros(5 * 61 + 3, h), (height, 31), prefix=2)
            assert grid.shape[1] == h
            codes_q, codes_kv = whole.codes_q_N[:n], whole.codes_kv_M[:m]
            return RelativeGrid(bordered(codes_q), bordered(codes_kv), make(5 * 61 + 3, h))
    coords = (bordered(torch.randn(b, n, 3)), bordered(torch.randn(b, m, 3)))
    if name == "slope":
        return Distance(*coords, Slope(make(h)))
    means, stds = make(5), bordered(torch.rand(5) + 0.5).requires_grad_()
    return Distance(*coords, Gaussians(means, stds, make(5, h)))


def inputs(case: Case) -> Inputs:
    """Random inputs of a case, each in a buffer of its own."""
    rows_q, rows_kv = (case.b, case.h, case.n), (case.b, case.g, case.m)
    if case.lengths:
        rows_q = (sum(n for n, _ in case.lengths), case.h)
        rows_kv = (sum(m for _, m in case.lengths), case.g)
    q, k, v = (make(*rows, case.d, dtype=case.dtype) for rows in (rows_q, rows_kv, rows_kv))
    parts = [part(name, case) for name in case.bias]
    bias = None if not parts else parts[0] if len(parts) == 1 else Sum(parts)
    valid_q = bordered(torch.rand(case.b, case.n) < 0.7) if case.uneven else None
    valid_kv = bordered(torch.rand(case.b, case.m) < 0.6) if case.padded or case.uneven else None
    return Inputs(q, k, v, bias, valid_q, valid_kv)


def offsets(lengths: Iterator[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def call(case: Case, x: Inputs, impl: str = "triton") -> Tensor:
    """The operation on a case."""
    where = {"valid_q": x.valid_q, "valid_kv": x.valid_kv}
    if case.lengths:
        where = {"offsets_q": offsets(n for n, _ in case.lengths)}
        where["offsets_kv"] = offsets(m for _, m in case.lengths)
    return attention(
        x.q,
        x.k,
        x.v,
        bias=x.bias,
        causal=case.causal,
        window=case.window,
        dropout=case.dropout,
        seed=SEED,
        scale=SCALE,
        impl=impl,
        **where,
    )


def meaning(case: Case, x: Inputs) -> Tensor:
    """What the operation must give, from float64 probabilities and, for dropout, a Philox generator of its own."""
    dense = None if x.bias is None else x.bias.to_dense()
    factors = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    if case.dropout:
        factors = keep_factors(case.b, case.h, case.n, case.m, case.dropout)
    if not case.lengths:
        return padded(case, x.q, x.k, x.v, dense, factors, x.valid_q, x.valid_kv)
    outs = []
    ends_q, ends_kv = (offsets(each).tolist() for each in zip(*case.lengths, strict=True))
    for i, ((a, b), (c, d)) in enumerate(zip(pairwise(ends_q), pairwise(ends_kv), strict=True)):
        q = x.q[a:b].transpose(0, 1)[None]
        k, v = (t[c:d].transpose(0, 1)[None] for t in (x.k, x.v))
        cut = (slice(i, i + 1), slice(None), slice(0, b - a), slice(0, d - c))
        own = None if dense is None else dense.expand(case.b, -1, -1, -1)[cut]
        factor = factors.expand(case.b, case.h, case.n, case.m)[cut]
        outs.append(padded(case, q, k, v, own, factor, None, None)[0].transpose(0, 1))
    return torch.cat(outs)


def padded(case, q, k, v, dense, factors, valid_q, valid_kv) -> Tensor:
    seen = visible(q.shape[2], k.shape[2], valid_q, valid_kv, case.causal, case.window)
    bias = None if dense is None else Dense(dense)
    p = probabilities(q, k, bias=bias, visible=seen, scale=SCALE) * factors
    out = p @ v.repeat_interleave(case.h // case.g, 1)
    return out if valid_q is None else out.masked_fill(~valid_q[:, None, :, None], 0.0)


def keep_factors(b: int, h: int, n: int, m: int, dropout: float) -> Tensor:
    """[B, H, N, M] by Philox 4x32-10 with counter (n, m, head, 0), from the paper (Salmon et al., 2011)."""
    head, row, column = np.meshgrid(
        *(np.arange(s, dtype=np.uint64) for s in (b * h, n, m)), indexing="ij"
    )
    c = [row, column, head, np.zeros_like(row)]
    key = [np.uint64(SEED & 0xFFFFFFFF), np.uint64(SEED >> 32)]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        shift = np.uint64(32)
        c = [
            (second >> shift) ^ c[1] ^ key[0],
            second & low,
            (first >> shift) ^ c[3] ^ key[1],
            first & low,
        ]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    dropped = round(dropout * LEVELS)
    keep = torch.from_numpy((c[0] >> np.uint64(16)).astype(np.int64)) >= dropped
    factors = keep.double().mul(LEVELS / (LEVELS - dropped)).view(b, h, n, m)
    return factors.to(torch.get_default_device())


def compare(case: Case, tolerance: float, x: Inputs | None = None) -> list[Tensor]:
    """Output and all gradients agree with float64 within `tolerance` times the largest element or 1."""
    x = inputs(case) if x is None else x
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(case.deterministic)
    try:
        out = call(case, x)
        do = torch.randn(out.shape).to(out.dtype)
        found = [out, *torch.autograd.grad(out, x.learnt(), do)]
    finally:
        torch.use_deterministic_algorithms(before)
    exact = x.double()
    expected_out = meaning(case, exact)
    expected = [expected_out, *torch.autograd.grad(expected_out, exact.learnt(), do.double())]
    for place, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        error = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)
        assert error <= tolerance, f"{place} of out, dq, dk, dv, d(bias): {error:.1e}"
    return found


MODES = {
    "none": (),
    "dense": ("dense",),
    "table": ("table",),
    "wide table": ("wide table",),
    "path": ("path",),
    "distance": ("distance",),
    "slope": ("slope",),
    "grid": ("grid",),
    "path + table": ("table", "path"),
    "all": ("table", "path", "dense", "slope", "grid"),
}

CASES = {
    "ragged tiles": Case(b=1, n=37, m=67, d=24),
    "one query, one key": Case(b=1, h=1, g=1, n=1, m=1),
    "odd features": Case(b=1, h=1, g=1, n=13, m=11, d=7),
    "80 features": Case(b=1, g=1, m=19, d=80, bias=("table",)),
    "128 features": Case(b=1, h=1, g=1, m=19, d=128, causal=True),
    "causal, fewer queries": Case(b=1, h=1, g=1, n=11, m=47, causal=True),
    "causal, queries without keys": Case(b=1, h=1, g=1, n=71, m=29, causal=True),
    "window": Case(b=1, h=1, g=1, n=43, m=71, window=(7, 3), bias=("table",)),
    "window to the left": Case(b=1, h=1, g=1, n=43, m=37, window=(3, None), bias=("dense",)),
    "causal window, queries without keys": Case(b=1, h=1, g=1, n=71, m=41, window=(5, 0)),
    "window over padding": Case(b=2, h=1, g=1, n=17, m=19, window=(5, 1), uneven=True),
    "multi-query": Case(b=1, h=5, g=1, n=11, m=13, causal=True),
    "grouped queries": Case(h=6, g=2, n=11, m=13, bias=("path",)),
    "bias shared by samples": Case(b=3, bias=("dense",), shape=(1, 2, 13, 37), padded=True),
    "bias shared by heads": Case(
        h=3, g=1, m=17, bias=("dense",), shape=(2, 1, 13, 17), causal=True
    ),
    "bias shared by queries": Case(n=37, m=17, bias=("dense",), shape=(2, 2, 1, 17)),
    "bias shared by all": Case(g=1, n=37, m=13, bias=("dense",), shape=(13,), padded=True),
    "bias shared by keys": Case(b=1, m=17, bias=("dense",), shape=(2, 13, 1)),
    "shared dense beside a table": Case(b=1, bias=("dense", "table"), shape=(13, 37)),
    "packed": Case(lengths=((17, 17), (37, 37), (3, 3)), h=1, g=1),
    "packed, keys of their own": Case(lengths=((5, 11), (0, 7), (13, 0), (3, 37)), h=2, g=1),
    "packed, causal, table": Case(
        lengths=((17, 19), (37, 41)), h=1, g=1, bias=("table",), causal=True
    ),
    "packed, dense": Case(lengths=((5, 7), (13, 11)), bias=("dense",)),
    "packed, dense shared": Case(lengths=((5, 7), (13, 11)), bias=("dense",), shape=(13, 11)),
    "packed, path, distance": Case(lengths=((5, 7), (13, 11)), h=1, g=1, bias=("path", "distance")),
    "dropout": Case(b=2, m=41, dropout=0.3),
    "dropout, table, grouped": Case(b=1, g=1, dropout=0.5, bias=("table",), padded=True),
    "dropout, shared dense": Case(b=2, dropout=0.25, bias=("dense",), shape=(13, 37)),
    "packed dropout": Case(lengths=((5, 7), (13, 11)), dropout=0.3),
}


def deterministic(case: Case) -> Case:
    """The same with integer sums."""
    return replace(case, deterministic=True)
