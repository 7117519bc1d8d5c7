"""Which domains there are: every package beside core. They load when they are asked for, one without the others."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import isoform
from isoform.core.errors import UserError

if TYPE_CHECKING:
    from isoform.core.domain import AnyDomain


def domains() -> dict[str, Callable[[], AnyDomain]]:
    """Name of a domain -> what loads it."""
    names = sorted(
        found.name
        for found in pkgutil.iter_modules(isoform.__path__)
        if found.ispkg and found.name != "core"
    )
    return {name: partial(_load, name) for name in names}


def domain(name: str) -> AnyDomain:
    """The domain of that name. Raises UserError where there is none in this release."""
    if name not in domains():
        from isoform.core.config.keys import suggest

        hint = suggest(name, domains()) or f"; there are {', '.join(domains())}"
        raise UserError(f"{name}: unknown domain{hint}")
    return _load(name)


def _load(name: str) -> AnyDomain:
    wired: AnyDomain | None = getattr(importlib.import_module(f"isoform.{name}"), "DOMAIN", None)
    if wired is None:
        raise UserError(f"{name}: not part of this release yet")
    return wired


def named(path: str) -> tuple[AnyDomain, str]:
    """The domain and the rest of "DOMAIN/NAME"."""
    name, slash, rest = path.partition("/")
    if not slash or not rest:
        raise UserError(f"{path}: write DOMAIN/NAME, such as vision/vit-mnist")
    return domain(name), rest
