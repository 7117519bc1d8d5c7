"""What the other tests here take on trust: that the patched interpreter computes, and that the guards catch faults."""

from __future__ import annotations

import math

import pytest
import torch


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(a, b, c):
        row = tl.arange(0, 16)
        at = row[:, None] * 16 + row[None, :]
        tl.store(c + at, tl.dot(tl.load(a + at), tl.trans(tl.load(b + at))))

    out = torch.full((16, 16), math.nan)
    kernel[(1,)](a, b, out)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_products(dtype):
    """The canary: fails loudly when a release of Triton changes how the interpreter stores or multiplies."""
    a, b = torch.randn(16, 16).to(dtype), torch.randn(16, 16).to(dtype)
    assert multiply(a, b).allclose(a.float() @ b.float().T, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_and_stores_convert(dtype):
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(x, y):
        at = tl.arange(0, 16)
        tl.store(y + at, (tl.load(x + at).to(tl.float32) * 3).to(y.dtype.element_ty))

    x, y = torch.randn(16).to(dtype), torch.zeros(16, dtype=dtype)
    kernel[(1,)](x, y)
    assert y.float().allclose(x.float() * 3, rtol=2**-7, atol=0)


def store_one(out: torch.Tensor, at: int) -> None:
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(out, at):
        tl.store(out + at, 7.0)

    kernel[(1,)](out, at)


def test_guard_shows_what_was_not_written(guarded):
    out = torch.empty((3, 5), dtype=torch.float32, device="cpu")
    store_one(out, 4)
    assert out[0, 4] == 7 and out.isnan().sum() == 14


@pytest.mark.parametrize("at", [-1, 15])
def test_guard_sees_a_stray_write(at, guard):
    with pytest.raises(AssertionError, match="out of bounds"), guard():
        store_one(torch.empty((3, 5), dtype=torch.float32, device="cpu"), at)
