"""Windows in portions that fit into memory, and fewer of them where there are too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

BYTES = 64 << 20  # of the windows that are worked on at a time


def spread(size: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `size` windows, evenly spread from the first to the last."""
    count = min(size, max(1, most))
    return np.linspace(0, size - 1, count).round().astype(np.int64)


def portions(data: WindowData, indices: np.ndarray, copies: int = 3) -> Iterator[list[int]]:
    """The indices in order, so many at a time that `copies` of their float32 look-backs and horizons take BYTES."""
    window = 4 * copies * (data.context + data.horizon) * len(data.variates)
    size = max(1, BYTES // window)
    for start in range(0, len(indices), size):
        yield indices[start : start + size].tolist()
