"""A pickle reader that runs nothing from the file: values, containers, tensors and plain numeric arrays, and no more.

A pickle names functions and classes to call. Here a name gives one of the few functions below, which only put values
together, or else an inert placeholder: unknown classes (a Lightning checkpoint's hyper-parameters) become objects
without content, and neither their module is imported nor their code run.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor


class Refused(Exception):
    """What is wrong with a file, as part of a sentence."""


class Placeholder:
    """An object of a class that is not looked up. Accepts whatever a pickle does to it and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        """An object without content."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        """Itself: calling it does nothing."""
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As a list's."""

    def extend(self, values: Any) -> None:
        """As a list's."""

    def add(self, value: Any) -> None:
        """As a set's."""

    def __repr__(self) -> str:
        return f"<unread {type(self).__name__}>"


class _Function:
    """A function of ours under the name that the pickle calls; it can't be altered by the pickle."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("it changes a function")

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes a function")


class _Dtype:
    """A plain numeric numpy dtype."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str | bytes):
            raise Refused("it holds an array of another type than plain numbers")
        try:
            self.dtype = np.dtype(name.decode("ascii") if isinstance(name, bytes) else name)
        except (TypeError, ValueError, SyntaxError) as error:
            raise Refused(f"it holds an array of the type {name!r}") from error
        if self.dtype.kind not in "biufc":
            raise Refused(f"it holds an array of the type {name!r}, not of plain numbers")

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "=", "|"):
            raise Refused("it holds an array of an unknown byte order")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """A numpy array on its way: shape, type and bytes arrive in one piece."""

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _raw(data: Any) -> bytes:
    # Python 2 wrote bytes as text; latin1 gives them back.
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise Refused("it holds an array of another type than plain numbers")
    flat = np.frombuffer(_raw(data), dtype.dtype)
    if math.prod(shape) != flat.size:
        raise Refused(f"it holds an array of shape {tuple(shape)} with {flat.size} values")
    return flat.reshape(tuple(shape), order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any = b"") -> float | int | bool | complex:
    return _array(data, dtype, (), "C").item()


class Storage:
    """A flat run of numbers that tensors are views of. `numbers` is filled in later in the old file format."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: Any = None) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused("it holds a tensor without storage")
    numbers = storage.numbers if dtype is None else storage.numbers.view(dtype)
    size, stride = tuple(size), tuple(stride)
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise Refused("it holds a tensor of impossible shape")
    if math.prod(size) > numbers.numel():
        raise Refused(f"it holds a tensor of shape {list(size)} with {numbers.numel()} values")
    return numbers.as_strided(size, stride, offset)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Tensor:
    return _tensor(storage, offset, size, stride, dtype=dtype if isinstance(dtype, torch.dtype) else None)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(function: Any, kind: Any, args: Any, *_: Any) -> Any:
    return function(*args) if isinstance(function, _Function) else Placeholder()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused("it holds text in an unusual encoding")
    return text.encode("latin1")


def _plain(kind: Callable[[Any], Any], *allowed: type) -> Callable[..., Any]:
    def make(value: Any = (), *_: Any) -> Any:
        if not isinstance(value, allowed):
            raise Refused(f"it builds a {getattr(kind, '__name__', 'value')} from something else")
        return kind(value)

    return make


def _record(*_: Any) -> dict[str, Any]:
    return _Record()


class _Record(dict[str, Any]):
    """Named values without behaviour (argparse.Namespace)."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


_TORCH, _UTILS = "torch", "torch._utils"
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): lambda items=(): OrderedDict(items),
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): lambda items=(): dict(items),
    (_UTILS, "_rebuild_tensor"): _tensor,
    (_UTILS, "_rebuild_tensor_v2"): _tensor,
    (_UTILS, "_rebuild_tensor_v3"): _tensor_v3,
    (_UTILS, "_rebuild_parameter"): _parameter,
    (_UTILS, "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    (_TORCH, "Size"): _plain(tuple, list, tuple),
    (_TORCH, "device"): lambda *parts: ":".join(map(str, parts)),
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
}
for _numpy in ("numpy.core", "numpy._core"):
    _FUNCTIONS[f"{_numpy}.multiarray", "scalar"] = _scalar
    _FUNCTIONS[f"{_numpy}.multiarray", "_reconstruct"] = lambda *_: _Array()
    _FUNCTIONS[f"{_numpy}.numeric", "_frombuffer"] = lambda data, dtype, shape, order: _Array(
        _array(data, dtype, shape, order)
    )
for _builtins in ("builtins", "__builtin__"):
    _FUNCTIONS |= {
        (_builtins, "set"): _plain(set, list, tuple),
        (_builtins, "frozenset"): _plain(frozenset, list, tuple),
        (_builtins, "bytearray"): _plain(bytearray, bytes, bytearray),
        (_builtins, "complex"): lambda real=0, imaginary=0: complex(real, imaginary),
    }
DTYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
                 "complex64", "complex128")
}  # fmt: skip
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip


class RestrictedUnpickler(pickle.Unpickler):
    """See the module's text. `storage` turns (dtype, key, numbers) into the Storage that a tensor names."""

    def __init__(
        self, file: BinaryIO, storage: Callable[[torch.dtype, str, int], Storage] | None, encoding: str
    ) -> None:
        super().__init__(file, encoding=encoding)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """One of our functions, or a placeholder class under that name."""
        if (module, name) in _FUNCTIONS:
            return _Function(_FUNCTIONS[module, name])
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("argparse", "Namespace"):
            return type("Namespace", (_Record,), {})
        return type(f"{module}.{name}", (Placeholder,), {})

    def persistent_load(self, pid: Any) -> Any:
        """The storage of a tensor."""
        if self.storage is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
            raise Refused("it refers to something outside itself")
        _, dtype, key, _, numbers, *view = pid
        if not isinstance(dtype, torch.dtype) or type(numbers) is not int or numbers < 0 or any(v for v in view):
            raise Refused("it holds a tensor storage of an unknown kind")
        return self.storage(dtype, str(key), numbers)


def unpickle(
    data: bytes, storage: Callable[[torch.dtype, str, int], Storage] | None = None, *, encoding: str = "utf-8"
) -> Any:
    """The value of one pickle. Raises Refused, or one of `ERRORS` where it is damaged."""
    for operation, argument, _ in pickletools.genops(data):
        # The interpreter's reader would allocate a memo of that many entries at once.
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > len(data):  # type: ignore[arg-type]
            raise Refused("it asks for more memory than it can use")
    return _resolve(RestrictedUnpickler(io.BytesIO(data), storage, encoding).load(), {})


ERRORS = (
    Refused, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    RuntimeError, MemoryError, OverflowError, ImportError,
)  # fmt: skip


def _resolve(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Arrays on their way replaced by arrays, in every container; each container is visited once."""
    if isinstance(value, _Array):
        if value.value is None:
            raise Refused("it holds an array without content")
        return value.value
    if isinstance(value, _Dtype):
        return value.dtype
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, dict):
        seen[id(value)] = value, value
        for key in list(value):
            value[key] = _resolve(value[key], seen)
    elif isinstance(value, list):
        seen[id(value)] = value, value
        value[:] = [_resolve(entry, seen) for entry in value]
    elif type(value) is tuple:
        resolved = tuple(_resolve(entry, seen) for entry in value)
        seen[id(value)] = value, resolved  # the first keeps the key's object alive
        return resolved
    return value


__all__ = ["ERRORS", "Placeholder", "Refused", "Storage", "unpickle"]
