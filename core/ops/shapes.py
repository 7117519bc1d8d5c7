"""Models without memory: names, shapes and types, for what is asked before any number is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Unfilled(TorchFunctionMode):
    """Leaves out what would fill a tensor at random, which does nothing on "meta" but load PyTorch's compiler first.

    Loading it takes 2 to 4 seconds.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        fills = getattr(function, "__module__", None) == "torch.nn.init"
        if fills or function is Tensor.normal_:
            return args[0] if args else named["tensor"]
        return function(*args, **named)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Inside, modules are made on the device "meta": their parameters have no values and take no memory."""
    with torch.device("meta"), _Unfilled():
        yield
