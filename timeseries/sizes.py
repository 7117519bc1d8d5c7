"""How many series of each kind a model is built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.state import TimeseriesState


INPUTS = (
    "context",
    "past",
    "known",
    "calendar",
    "static",
)  # of a model; the rest of a batch is for the loss


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
        return cls(
            len(data.variates),
            len(data.past),
            len(data.known),
            len(data.calendar_names),
            len(data.static),
        )

    @classmethod
    def of_state(cls, state: TimeseriesState) -> Sizes:
        """Those of a run, by the names in its task.json."""
        return cls(
            len(state.variates),
            len(state.past),
            len(state.known),
            len(state.calendar),
            len(state.static),
        )
