"""How many series of each kind a model is built for, and which settings contradict each other then. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoform.timeseries.config import TimeseriesApp
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


def refuse_contradictions(config: TimeseriesApp, sizes: Sizes) -> None:
    """Raises ValueError, naming the keys, for tables that no model can be built from."""
    if config.backbone.position != "none":
        raise ValueError("variates are a set without positions: backbone.position must be none")
    if config.model.family == "samformer":
        _refuse_covariates(sizes)
        return
    tokeniser = config.tokeniser
    if tokeniser.origin and tokeniser.calendar != "future":
        raise ValueError(
            'tokeniser.origin reads the calendar ahead: tokeniser.calendar must be "future"'
        )
    if tokeniser.origin and not sizes.calendar:
        raise ValueError(
            "tokeniser.origin reads time marks, and there are none (calendar = 0): set it to false"
        )
    if tokeniser.identity and config.augment.variates < 1:
        raise ValueError(
            "tokeniser.identity has a vector for each variate: augment.variates must be 1"
        )


def _refuse_covariates(sizes: Sizes) -> None:
    others = {
        "data.past": sizes.past,
        "data.known_future (and data.holidays)": sizes.known,
        "data.static": sizes.static,
        'tokeniser.calendar (set it to "none")': sizes.calendar,
    }
    for name, count in others.items():
        if count:
            raise ValueError(
                f"SAMformer forecasts from the targets alone and has no place for {name}: leave it out, or choose "
                'model.family = "itransformer"'
            )
