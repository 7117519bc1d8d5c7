"""The one pickle reader: it runs nothing from the file, and builds only what its caller's allow-list puts together.

A pickle names functions and classes to call. Here a name means what an `AllowList` says: one of our functions, which
only put values together, or a plain value; every other name is refused, or becomes an inert placeholder: unknown
classes (a Lightning checkpoint's hyper-parameters) are objects without content, and neither their module is imported
nor their code run. A pickle may also change what it has made (BUILD, APPENDS, SETITEMS). Functions, tensors and arrays
can't be changed: they are sealed until the whole pickle is read.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

Name = tuple[str, str]  # module, name


class Refused(Exception):
    """What is wrong with a file, as part of a sentence."""


ERRORS = (
    Refused, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    RuntimeError, MemoryError, OverflowError, ImportError,
)  # fmt: skip


@dataclass(frozen=True)
class AllowList:
    """What the names in a pickle stand for.

    functions  called with what the pickle hands over, so each has to check it and may only put values together
    values     stand for themselves: types of numbers, and classes of ours that a pickle can't change
    strict     any other name is refused; else it becomes a placeholder
    """

    functions: Mapping[Name, Callable[..., Any]]
    values: Mapping[Name, Any] = field(default_factory=dict)
    strict: bool = False


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


class _Fixed:
    """Something that the pickle holds and can't change: it has no attributes to set and refuses a state."""

    __slots__ = ("content",)
    content: Any

    def __init__(self, content: Any) -> None:
        object.__setattr__(self, "content", content)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("it changes what it may only use")

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes what it may only use")


class _Sealed(_Fixed):
    """A finished tensor or array. Their own ways to take a state would allocate and overwrite as the file likes."""

    __slots__ = ()


class _Function(_Fixed):
    """A function of ours under the name that the pickle calls."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        made = self.content(*args)
        return _Sealed(made) if isinstance(made, Tensor | np.ndarray) else made


class Storage(_Fixed):
    """A flat run of numbers that tensors are views of; in the old file format they are filled in later."""

    __slots__ = ()

    @property
    def numbers(self) -> Tensor:
        """[n] of one type."""
        numbers: Tensor = self.content
        return numbers


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


class _Dict(dict[Any, Any]):
    """An OrderedDict. A state dict's has attributes (its `_metadata`), which aren't kept."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Record(dict[str, Any]):
    """Named values without behaviour (argparse.Namespace)."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


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


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
    return _Array(_array(data, dtype, shape, order))


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> float | int | bool | complex:
    return _array(data, dtype, (), "C").item()


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: Any = None
) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused("it holds a tensor without storage")
    numbers = storage.numbers if dtype is None else storage.numbers.view(dtype)
    size, stride = tuple(size), tuple(stride)
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(
        stride
    ):
        raise Refused("it holds a tensor of impossible shape")
    if math.prod(size) > numbers.numel():
        raise Refused(f"it holds a tensor of shape {list(size)} with {numbers.numel()} values")
    return numbers.as_strided(size, stride, offset)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    return _tensor(
        storage, offset, size, stride, dtype=dtype if isinstance(dtype, torch.dtype) else None
    )


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(function: Any, kind: Any, args: Any, *_: Any) -> Any:
    return function(*args) if isinstance(function, _Function) else Placeholder()


def encode_latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2. Raises Refused for anything else that `codecs.encode` does."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("it holds text in an unusual encoding")
    return text.encode("latin1")


def _plain(kind: Callable[[Any], Any], *allowed: type) -> Callable[..., Any]:
    def make(value: Any = (), *_: Any) -> Any:
        if not isinstance(value, allowed):
            raise Refused(f"it builds a {getattr(kind, '__name__', 'value')} from something else")
        return kind(value)

    return make


def _numpy_functions(package: str) -> dict[Name, Callable[..., Any]]:
    return {
        (f"{package}.multiarray", "scalar"): _scalar,
        (f"{package}.multiarray", "_reconstruct"): _empty_array,
        (f"{package}.numeric", "_frombuffer"): _array_of_buffer,
    }


def _builtin_functions(module: str) -> dict[Name, Callable[..., Any]]:
    return {
        (module, "set"): _plain(set, list, tuple),
        (module, "frozenset"): _plain(frozenset, list, tuple),
        (module, "bytearray"): _plain(bytearray, bytes, bytearray),
        (module, "complex"): lambda real=0, imaginary=0: complex(real, imaginary),
    }


DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128",
)  # fmt: skip
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip
CHECKPOINT = AllowList(
    functions={
        ("collections", "OrderedDict"): lambda items=(): _Dict(items),
        ("collections", "defaultdict"): lambda *_: {},
        ("collections", "Counter"): lambda items=(): dict(items),
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        ("torch", "Size"): _plain(tuple, list, tuple),
        ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
        ("_codecs", "encode"): encode_latin1,
        ("numpy", "dtype"): _Dtype,
        **_numpy_functions("numpy.core"),
        **_numpy_functions("numpy._core"),
        **_builtin_functions("builtins"),
        **_builtin_functions("__builtin__"),
    },
    values={
        ("argparse", "Namespace"): _Record,
        **{("torch", name): getattr(torch, name) for name in DTYPES},
        **{("torch", name): dtype for name, dtype in STORAGES.items()},
        **{("torch.storage", name): dtype for name, dtype in STORAGES.items()},
    },
)
"""Tensors, containers, numbers and numpy's arrays and scalars of plain numbers; other names become placeholders."""

Storages = Callable[[torch.dtype, str, int], Storage]


class RestrictedUnpickler(pickle.Unpickler):
    """See the module's text. `storage` turns (dtype, key, numbers) into the Storage that a tensor names."""

    def __init__(
        self, file: BinaryIO, allow: AllowList, storage: Storages | None, encoding: str
    ) -> None:
        super().__init__(file, encoding=encoding)
        self.allow, self.storage = allow, storage

    def find_class(self, module: str, name: str) -> Any:
        """What the allow-list has under that name, else a placeholder class. Raises Refused where it is strict."""
        key = (module, name)
        if key in self.allow.functions:
            return _Function(self.allow.functions[key])
        if key in self.allow.values:
            return self.allow.values[key]
        if self.allow.strict:
            raise Refused(f"it names {module}.{name}"[:120])
        return type(f"{module}.{name}", (Placeholder,), {})

    def persistent_load(self, pid: Any) -> Any:
        """The storage of a tensor."""
        if (
            self.storage is None
            or not isinstance(pid, tuple)
            or len(pid) < 5
            or pid[0] not in ("storage", b"storage")
        ):
            raise Refused("it refers to something outside itself")
        _, dtype, key, _, numbers, *view = pid
        if (
            not isinstance(dtype, torch.dtype)
            or type(numbers) is not int
            or numbers < 0
            or any(v for v in view)
        ):
            raise Refused("it holds a tensor storage of an unknown kind")
        return self.storage(dtype, str(key), numbers)


def unpickle(
    source: bytes | BinaryIO,
    storage: Storages | None = None,
    *,
    allow: AllowList = CHECKPOINT,
    encoding: str = "utf-8",
) -> Any:
    """The value of the one pickle that `source` (bytes, or a file at its beginning) holds.

    Raises Refused, or one of `ERRORS` where it is damaged.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    for operation, argument, _ in pickletools.genops(file):
        # The interpreter's reader would allocate a memo of that many entries at once.
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > size:  # type: ignore[arg-type]
            raise Refused("it asks for more memory than it can use")
    file.seek(0)
    return _resolve(RestrictedUnpickler(file, allow, storage, encoding).load(), {})


def _resolve(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Sealed and unfinished values replaced by their content, in every container; each container is visited once."""
    if isinstance(value, _Sealed):
        return value.content
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


__all__ = [
    "CHECKPOINT",
    "ERRORS",
    "AllowList",
    "Placeholder",
    "Refused",
    "Storage",
    "encode_latin1",
    "unpickle",
]
