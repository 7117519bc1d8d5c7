"""Mixers by the name that backbone.mixer gives them: a new one is a file here and a line in this table."""

from __future__ import annotations

from typing import Any

from isoform.core.mixers.contract import Context, Traits
from isoform.core.mixers.neighbour import NeighbourAttention
from isoform.core.mixers.softmax import SoftmaxAttention

MIXERS: dict[str, Any] = {
    "softmax": SoftmaxAttention,
    "neighbour": NeighbourAttention,
}

__all__ = ["MIXERS", "Context", "NeighbourAttention", "SoftmaxAttention", "Traits"]
