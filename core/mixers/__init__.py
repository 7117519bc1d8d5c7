"""Mixers by the name that backbone.mixer gives them: a new one is a file here and a line in this table."""

from __future__ import annotations

from isoform.core.mixers.contract import Context, Traits
from isoform.core.mixers.softmax import SoftmaxAttention

MIXERS = {
    "softmax": SoftmaxAttention,
}

__all__ = ["MIXERS", "Context", "SoftmaxAttention", "Traits"]
