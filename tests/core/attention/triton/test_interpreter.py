"""What the other tests here take on trust: that the patched interpreter computes, and that the guards catch faults."""

from __future__ import annotations

import math

import pytest
import torch

from isoform.core.attention import triton_launch, triton_op, tuning


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


def touch(q: torch.Tensor, at: int, monkeypatch) -> torch.Tensor:
    """Run a kernel that reads element `at` of q and writes element `at` of the result."""
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(given, read, write):
        tl.store(given[1] + write, tl.load(given[0] + read) + 1)

    out = torch.empty((3, 5), dtype=torch.float32, device="cpu")
    read, write = (at, 4) if at < 15 else (4, at)
    monkeypatch.setattr(triton_launch, "kernel_of", lambda name: kernel)
    arguments = {"given": (q, out), "read": read, "write": write}
    triton_op.start(triton_launch.Launch("touch", 1, tuning.INTERPRETED, arguments), q)
    return out


@pytest.mark.usefixtures("guarded")
def test_guard_shows_what_was_not_written(monkeypatch):
    out = touch(torch.zeros(3, 5), 4, monkeypatch)
    assert out[0, 4] == 1 and out.isnan().sum() == 14


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(("at", "what"), [(-1, "read"), (15, "write")])
def test_guard_sees_strays(at, what, monkeypatch):
    from triton.runtime.errors import InterpreterError

    with pytest.raises(InterpreterError, match=f"{what} out of bounds"):
        touch(torch.zeros(40)[20:35].view(3, 5), at, monkeypatch)
