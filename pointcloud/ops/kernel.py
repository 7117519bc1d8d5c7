"""How numba compiles the kernels of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[F], F]:
    """Compiled when first called, and kept on disk where that is possible; no operation is fused or reordered."""
    return cast(Callable[[F], F], numba.njit(cache=True, nogil=True, **options))
