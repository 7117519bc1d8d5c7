"""How many series of each kind a model is built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData


@dataclass(frozen=True)
class Sizes:
    """How many series of each kind a model is built for; iTransformer takes any number of variates whatever it says."""

    variates: int = 0
    past: int = 0
    known: int = 0
    calendar: int = 0
    static: int = 0

    @classmethod
    def of(cls, data: WindowData) -> Sizes:
        """Those of the data."""
        return cls(len(data.variates), len(data.past), len(data.known), len(data.calendar_names), len(data.static))

    @classmethod
    def of_portable(cls, portable: Mapping[str, Any]) -> Sizes:
        """Those of a run, by the names in its task.json."""
        return cls(*(len(portable.get(n) or ()) for n in ("variates", "past", "known", "calendar", "static")))
