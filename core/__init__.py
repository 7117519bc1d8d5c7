"""The shared core: tokens, backbone, attention, engine. It knows no domain.

from isoform.core import Backbone, BackboneConfig, Tokens, attention
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isoform.core import attention
    from isoform.core.backbone import Backbone
    from isoform.core.config.schema import BackboneConfig
    from isoform.core.tokens import Pair, Tokens

__all__ = ["Backbone", "BackboneConfig", "Pair", "Tokens", "attention"]

# Imported when asked for: `isoform --help` passes through here and needs no torch. `attention` is a package that can be
# called, so the import system finds it by itself.
_HOMES = {
    "Backbone": "backbone",
    "BackboneConfig": "config.schema",
    "Pair": "tokens",
    "Tokens": "tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"isoform.core.{_HOMES[name]}"), name)
