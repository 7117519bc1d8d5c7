"""What tests of kernels in Triton's interpreter need: its environment, and memory that shows what is done to it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

MARGIN = 512  # elements on either side of a guarded buffer, more than any tile's row
CANARY = 1232.0  # exact in every type


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip without the interpreter, and teach it bfloat16 products.

    It keeps bfloat16 as uint16 and multiplies those integers (triton-lang/triton#11584).
    """
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("interpreted in a process of their own: TRITON_INTERPRET=1 pytest tests/core/attention/triton")
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    dot = InterpreterBuilder.create_dot

    def widened(x: TensorHandle) -> TensorHandle:
        if x.dtype.scalar != tl.bfloat16:
            return x
        return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot(self, a, b, *rest):
        return dot(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    # Lanes outside the matrices compute with whatever numbers; numpy would remark on each.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="triton.runtime.interpreter")


@contextmanager
def guarded_memory() -> Iterator[None]:
    """`torch.empty` gives NaN between canaries: an element never written stays NaN, a stray write kills a canary."""
    buffers: list[tuple[Tensor, int]] = []
    empty = torch.empty

    def guarded_empty(shape, *, dtype, device):
        size = math.prod(shape)
        buffer = empty(size + 2 * MARGIN, dtype=dtype, device=device).fill_(CANARY)
        buffers.append((buffer, size))
        return buffer[MARGIN : MARGIN + size].fill_(math.nan).view(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", guarded_empty)
        yield
    assert buffers
    for buffer, size in buffers:
        assert (buffer[:MARGIN] == CANARY).all() and (buffer[MARGIN + size :] == CANARY).all(), "write out of bounds"


@pytest.fixture
def guarded() -> Iterator[None]:
    """The whole test in guarded memory."""
    with guarded_memory():
        yield


@pytest.fixture
def guard() -> Callable[[], AbstractContextManager[None]]:
    """Guarded memory for a part of a test."""
    return guarded_memory
