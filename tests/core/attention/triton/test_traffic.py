"""The traffic model counts what the kernels load: the interpreter counts the same bytes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from isoform.core.attention import triton_op, tuning
from isoform.core.attention.traffic import GRAPHORMER, Sizes, bias_bytes, dram, issued, table
from kernel_cases import MODES, Case, call, inputs


@pytest.fixture
def moved(monkeypatch) -> Counter:
    """Bytes that each kernel loads, adds to and stores in what belongs to the bias."""
    from triton.runtime.interpreter import InterpreterBuilder

    found: Counter = Counter()
    owned: list[tuple[int, int]] = []
    now: list[str] = []
    start = triton_op.start

    def counted_start(launch, on):
        now[:] = [launch.kernel]
        given = {name: launch.arguments.get(name) for name in ("parts", "grads")}
        owned[:] = [extent(t) for t in tree_leaves(given) if isinstance(t, Tensor)]
        return start(launch, on)

    def extent(tensor: Tensor) -> tuple[int, int]:
        last = sum((s - 1) * t for s, t in zip(tensor.shape, tensor.stride(), strict=True))
        return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()

    def count(pointers, mask):
        size = max(1, pointers.dtype.element_ty.primitive_bitwidth // 8)
        address = pointers.data[mask.data]
        for begin, end in owned:
            found[now[0]] += int(((begin <= address) & (address < end)).sum()) * size

    def counting(method, pointer):
        def counted(self, *arguments):
            count(arguments[pointer], arguments[mask_of[method.__name__]])
            return method(self, *arguments)

        return counted

    mask_of = {"create_masked_load": 1, "create_masked_store": 2, "create_atomic_rmw": 3}
    for name, pointer in (
        ("create_masked_load", 0),
        ("create_masked_store", 0),
        ("create_atomic_rmw", 1),
    ):
        method = getattr(InterpreterBuilder, name)
        monkeypatch.setattr(InterpreterBuilder, name, counting(method, pointer))
    monkeypatch.setattr(triton_op, "start", counted_start)
    return found


@pytest.mark.parametrize("mode", ["none", "dense", "table", "path", "grid", "slope", "distance"])
def test_the_model_counts_what_the_kernels_load(mode, moved):
    case = Case(b=2, h=3, g=3, n=37, m=41, bias=MODES[mode])
    x = inputs(case)
    call(case, x).sum().backward()
    ids = 4 if mode == "path" else 1
    sizes = Sizes(2, 3, 37, 41, 16, value=4, id=ids, hops=3, features=2, basis=5)
    expected = {k: issued(sizes, mode, k, tuning.INTERPRETED) for k in ("forward", "query", "key")}
    assert {kernel: moved[kernel] for kernel in expected} == expected


def test_a_table_needs_less_than_an_eighth_of_a_dense_bias():
    """At N = 256, of Graphormer's sizes: the bias's own bytes, and how far tokens bound the whole."""
    assert dram(GRAPHORMER, "table")["bias"] <= dram(GRAPHORMER, "dense")["bias"] / 8
    assert dram(GRAPHORMER, "path+table")["bias"] <= dram(GRAPHORMER, "dense")["bias"] / 8
    assert bias_bytes(GRAPHORMER, "dense") == 256 * 32 * 256 * 256 * 2
    assert dram(GRAPHORMER, "table")["tokens"] == dram(GRAPHORMER, "none")["tokens"]


def test_the_table_has_a_row_a_mode():
    assert len(table()) == 10 and "| table | 1792.0 | 48.0 | 128 | 4.3 |" in table()


def test_sums_are_of_bytes():
    small = Sizes(b=1, h=1, n=1, m=1, d=1)
    assert (
        dram(small, "dense")["bias"] == 6 * 2
        and torch.tensor(0, dtype=torch.bfloat16).itemsize == 2
    )
