"""What tests of kernels in Triton's interpreter need: its environment, and memory that shows what is done to it.

The conftest.py of each folder of such tests imports the fixtures.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

MARGIN = 512  # elements on either side of a guarded buffer, more than any tile's row
UNWRITTEN = -77  # integers start as this


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip without the interpreter, and teach it bfloat16 products.

    It keeps bfloat16 as uint16 and multiplies those integers (triton-lang/triton#11584).
    """
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip(
            "interpreted in a process of their own: TRITON_INTERPRET=1 pytest tests/DOMAIN/triton, or make test-kernels"
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
    patch_once_a_launch(monkeypatch)
    # Lanes outside the matrices compute with whatever numbers; numpy would remark on each.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="triton.runtime.interpreter")


def patch_once_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter patches triton.language anew in every call of a helper: most of its time, and once is enough."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch, active = interpreter._patch_lang, []

    class Scopes(list):
        def restore(self) -> None:
            active.clear()
            for scope in reversed(self):
                scope.restore()

    def patched(fn):
        if active:
            return Scopes()
        active.append(fn)
        return Scopes([patch(fn), patch(tl.standard.zeros_like.fn)])

    monkeypatch.setattr(interpreter, "_patch_lang", patched)


@contextmanager
def guarded_memory() -> Iterator[None]:
    """Every element must be written, every address must be inside a tensor that the kernel was given.

    `torch.empty` gives NaN or a number that no kernel writes, with a margin on either side that is no tensor's.
    """
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    empty, run = torch.empty, GridExecutor.__call__
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    atomic = InterpreterBuilder.create_atomic_rmw
    owned: list[tuple[int, int]] = []

    def guarded_empty(shape, *, dtype, device):
        size = math.prod(shape)
        poison = math.nan if dtype.is_floating_point else UNWRITTEN
        return (
            empty(size + 2 * MARGIN, dtype=dtype, device=device)[MARGIN:-MARGIN]
            .fill_(poison)
            .view(shape)
        )

    def guarded_run(self, *arguments, **named):
        leaves = tree_leaves((arguments, named))
        owned[:] = [extent(t) for t in leaves if isinstance(t, Tensor)]
        return run(self, *arguments, **named)

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

    def checked_atomic(self, operation, pointers, value, mask, *rest):
        check(pointers, mask, "atomic")
        return atomic(self, operation, pointers, value, mask, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", guarded_empty)
        patch.setattr(GridExecutor, "__call__", guarded_run)
        patch.setattr(InterpreterBuilder, "create_atomic_rmw", checked_atomic)
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


class Fault(Protocol):
    """In a file `file`, every `right` is replaced by `wrong`."""

    file: str
    right: str
    wrong: str


@contextmanager
def planted_copies(
    names: Sequence[str], folder: Path
) -> Iterator[Callable[[Fault | None], dict[str, ModuleType]]]:
    """Gives a function that copies modules `...triton_NAME` into a folder, one of them changed, and imports them.

    It returns the copies by NAME, and they import each other. They are forgotten at the end.
    """
    shorts = {name.rpartition(".triton_")[2]: name for name in names}

    def forget() -> None:
        for short in shorts:
            sys.modules.pop(f"planted_{short}", None)
        importlib.invalidate_caches()

    def plant(fault: Fault | None) -> dict[str, ModuleType]:
        forget()
        for short, name in shorts.items():
            spec = find_spec(name)
            assert spec is not None and spec.origin is not None
            text = Path(spec.origin).read_text()
            if fault is not None and fault.file == short:
                assert fault.right in text
                text = text.replace(fault.right, fault.wrong)
            text = text.replace(f"from {name.rpartition('.')[0]}.triton_", "from planted_")
            (folder / f"planted_{short}.py").write_text(text)
        return {short: importlib.import_module(f"planted_{short}") for short in shorts}

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield plant
        forget()
