"""What tests of kernels in Triton's interpreter need: its environment, and memory that shows what is done to it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from isoform.core.attention import triton_op

MARGIN = 512  # elements on either side of a guarded buffer, more than any tile's row


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip without the interpreter, and teach it bfloat16 products.

    It keeps bfloat16 as uint16 and multiplies those integers (triton-lang/triton#11584).
    """
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip(
            "interpreted in a process of their own: TRITON_INTERPRET=1 pytest tests/core/attention/triton"
        )
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
    """Every element must be written, every address must be inside a tensor that the kernel was given.

    `torch.empty` gives NaN, with a margin on either side that is no tensor's.
    """
    from triton.runtime.interpreter import InterpreterBuilder

    empty, launch = torch.empty, triton_op._launch
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    owned: list[tuple[int, int]] = []

    def guarded_empty(shape, *, dtype, device):
        size = math.prod(shape)
        return (
            empty(size + 2 * MARGIN, dtype=dtype, device=device)[MARGIN:-MARGIN]
            .fill_(math.nan)
            .view(shape)
        )

    def guarded_launch(kernel, programs, cut, values):
        owned[:] = [extent(t) for t in values.values() if isinstance(t, Tensor)]
        return launch(kernel, programs, cut, values)

    def check(pointers, mask, what):
        address = pointers.data[mask.data].astype(np.int64)
        inside = np.zeros(address.shape, dtype=bool)
        for begin, end in owned:
            inside |= (begin <= address) & (address < end)
        assert inside.all(), f"{what} out of bounds"

    def checked_load(self, pointers, mask, *rest):
        check(pointers, mask, "read")
        return load(self, pointers, mask, *rest)

    def checked_store(self, pointers, value, mask, *rest):
        check(pointers, mask, "write")
        return store(self, pointers, value, mask, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", guarded_empty)
        patch.setattr(triton_op, "_launch", guarded_launch)
        patch.setattr(InterpreterBuilder, "create_masked_load", checked_load)
        patch.setattr(InterpreterBuilder, "create_masked_store", checked_store)
        yield


def extent(tensor: Tensor) -> tuple[int, int]:
    """First byte of a tensor's elements and the byte behind its last."""
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    length = (last + 1) * tensor.element_size() if tensor.numel() else 0
    return tensor.data_ptr(), tensor.data_ptr() + length


@pytest.fixture
def guarded() -> Iterator[None]:
    """The whole test in guarded memory."""
    with guarded_memory():
        yield
