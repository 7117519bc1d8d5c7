"""task.json of a time-series run: what forecasting another file needs beside weights and settings. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field

from isoform.core.config.schema import Table
from isoform.core.config.state import RunState

Moments = dict[str, tuple[float, float]]
T = TypeVar("T")


class ScalingRecord(Table):
    """Mean and standard deviation by column, see data/scaling.py."""

    scale: str = "standard"
    target: Moments = Field(default_factory=dict)
    past: Moments = Field(default_factory=dict)
    known: Moments = Field(default_factory=dict)
    static: Moments = Field(default_factory=dict)


class CheckpointRecord(Table):
    """The official checkpoint that an imported model came from."""

    layout: str
    unused: dict[str, list[float]] | None = Field(
        None, description="tensors that its model has and doesn't use"
    )


class TimeseriesState(RunState):
    """Names, units, frequency and scale of the data. An imported model knows its variates' names at most."""

    variates: list[str] = Field(
        default_factory=list, description="names; none: any number of any name"
    )
    past: list[str] = Field(default_factory=list)
    known: list[str] = Field(default_factory=list, description="a holiday's is the last")
    static: list[str] = Field(default_factory=list)
    calendar: list[str] = Field(default_factory=list, description="time marks")
    units: list[str] | None = Field(None, description="of the variates")
    freq: str | None = Field(None, description="of the data; unset: any will do")
    tz: str | None = None
    season: int | None = Field(None, description="rows")
    levels: list[float] = Field(default_factory=list, description="of the model's own quantiles")
    panel: str | None = Field(None, description='"variates" or "series", of a long file')
    fitted_until: dict[str, str] | str | None = Field(
        None,
        description="last stamp that training or validation saw, by id; older runs: of all series",
    )
    seasonal_scale: dict[str, list[float | None]] | None = Field(
        None,
        description="denominators of MASE by id and variate, in the data's units; null: the training rows have none",
    )
    context: int | None = None
    horizon: int | None = None
    bounds: dict[str, tuple[float | None, float | None]] | None = Field(
        None,
        description="limits of forecasts by variate; null: none, which is how JSON writes infinity",
    )
    scaling: ScalingRecord | None = None
    source: CheckpointRecord | None = Field(
        None, description="none where the weights were born here"
    )

    def fitted_end(self, series: str) -> str | None:
        """The last stamp, on the data's clock, that training or validation saw of a series, by its id.

        None: nothing is known to have been seen of it. A run of one series saw what goes by another id elsewhere.
        """
        if not isinstance(self.fitted_until, dict):
            return self.fitted_until
        return _of_series(self.fitted_until, series)

    def scale_of(self, series: str) -> dict[str, float]:
        """The run's denominators of MASE by variate, of a series by its id; empty for one that is new to the run."""
        found = _of_series(self.seasonal_scale or {}, series)
        if found is None:
            return {}
        values = (math.nan if value is None else value for value in found)
        return dict(zip(self.variates, values, strict=True))


def _of_series(known: Mapping[str, T], series: str) -> T | None:
    """What a run knows of a series by its id; a run of one series without an id, of whatever goes by another."""
    return known[""] if list(known) == [""] else known.get(series)
