"""What a reader found in a source: weights, the tables it could tell, and how the two go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.pretrained import Layout

Fields = dict[str, Any]
Tables = dict[str, Fields]  # "tokeniser", "backbone", "head"

INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 0.9}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "crop_pct": 0.875}


@dataclass(frozen=True)
class ForeignModel:
    """A foreign ViT. `known` was read off the source, `assumed` is its code base's habit and yields to a setting."""

    layout: str
    rules: Callable[[BackboneConfig], Layout]
    state: Mapping[str, Tensor]
    known: Tables
    assumed: Tables = field(default_factory=dict)
    preprocessing: Fields = field(default_factory=lambda: dict(INCEPTION))
    licence: str = "unknown"
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    source: Fields = field(default_factory=dict)  # kept in task.json for the way back
