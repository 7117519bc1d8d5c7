"""The Triton kernels on a GPU: the interpreter's cases, compiled, against the float64 meaning; at tiles of their own.

In 16 bits, and in float32 where the table of tiles has it. Nothing here runs without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from isoform.core.attention import attention, tuning
from isoform.core.attention.bias import kinds
from kernel_cases import CASES, MODES, Case, compare, inputs

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
LARGE = Case(b=3, h=4, g=4, n=67, m=89, padded=True)


@pytest.fixture(autouse=True)
def on_the_gpu() -> Iterator[None]:
    """Whatever a test makes is on the GPU, and products of float32 numbers are float32's."""
    torch.set_default_device("cuda")
    yield
    torch.set_default_device("cpu")


def is_listed(case: Case) -> bool:
    """Whether the table of tiles serves the case."""
    mode = kinds(inputs(case).bias)
    return tuning.why_missing(mode, case.d, case.dtype.itemsize) is None


def hold(case: Case) -> None:
    """The case agrees, or is refused because no tiles are listed for it."""
    if is_listed(case):
        compare(case, TOLERANCE[case.dtype])
        return
    with pytest.raises(ValueError, match="has no entry"):
        compare(case, 0.0)


@pytest.mark.parametrize("dtype", [*TOLERANCE], ids=str)
@pytest.mark.parametrize("dim", [24, 64, 80, 128])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_agrees_with_float64(mode, dim, dtype):
    hold(replace(LARGE, bias=MODES[mode], d=dim, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_float64(name, dtype):
    hold(replace(CASES[name], dtype=dtype))


@pytest.mark.parametrize("mode", ["table", "path", "distance", "slope", "grid"])
def test_integer_sums_are_the_same_bits_every_time(mode):
    case = replace(
        LARGE, bias=MODES[mode], d=32, dtype=torch.bfloat16, deterministic=True, padded=False
    )
    hold(case)
    x = inputs(case)
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(3):
            out = attention(x.q, x.k, x.v, bias=x.bias, impl="triton")
            found.append(torch.autograd.grad(out, x.learnt(), torch.ones_like(out)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(a.equal(b) for again in found[1:] for a, b in zip(again, found[0], strict=True))
