"""Baselines as a run stores them, and forecasts with them: `isoform timeseries forecast RUN FILE --with lag_boosting`.

RUN/baselines/NAME.json says how far the method looks back; the trees of lag_boosting lie beside it in LightGBM's text
format and are checked before LightGBM reads them. Of several series lag_boosting tells one from the other by its number
in the data, which another file doesn't have: then it isn't stored.

n windows, H steps, V variates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.runs.boosters import read_booster
from isoform.core.runs.folder import RunFolder
from isoform.timeseries.baselines import LagBoosting, Last, Method, SeasonalNaive
from isoform.timeseries.baselines.lags import Lags
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.predictor import TimeseriesPredictor
from isoform.timeseries.state import TimeseriesState

MOST_ROWS = 1 << 24  # that a method may look back


def read(folder: Path, name: str, horizon: int) -> tuple[Method, int]:
    """A stored method, and how many rows before the forecast it looks at. Raises UserError where it is damaged."""
    about = RunFolder(folder).read_json(f"{name}.json")
    try:
        season = _rows(about["season"], least=1)
        if name == "last":
            return Last(), 1
        if name == "seasonal_naive":
            return SeasonalNaive(season), season
        method = LagBoosting(season)
        long, year = (_rows(about[key], least=0) for key in ("long", "year"))
        method.lags = Lags(season, long, year, horizon)
        method.start = int(about["start"])
        columns = int(about["columns"])
        if name != "lag_boosting" or not 0 <= method.start < len(method.lags.names()) <= columns:
            raise ValueError("it starts from a column that there isn't")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / name}.json: is damaged ({error}); train again") from error
    method.model = read_booster(folder / f"{name}.txt", columns)
    return method, method.lags.reach


def _rows(value: Any, least: int) -> int:
    if not isinstance(value, int) or not least <= value <= MOST_ROWS:
        raise ValueError(f"{value!r} is no number of rows")
    return value


class BaselinePredictor(TimeseriesPredictor):
    """Forecasts by a stored method, without intervals: these are the model's own."""

    def __init__(
        self, trained: TrainedModel[TimeseriesApp, TimeseriesState], method: Method, reach: int
    ) -> None:
        super().__init__(trained.config, trained.state, nn.Identity())
        self.method, self.calibration, self.own = method, None, ()
        self.back = max(self.context, reach)

    def note_on_intervals(self, levels: Any = None) -> str | None:
        """That there are none, unless none are wanted."""
        return None if levels is not None else "a baseline has no intervals: point forecasts alone"

    def _outputs(self, windows: WindowData, pairs: np.ndarray) -> tuple[np.ndarray, None]:
        try:
            return self.method.predict(windows, pairs), None
        except Exception as error:
            if type(error).__name__ != "LightGBMError":
                raise
            raise UserError(f"the stored trees don't fit these columns ({error})") from error

    def embed(self, inputs: Any) -> np.ndarray:
        """Raises UserError: a baseline has no features."""
        raise UserError("a baseline has no features to embed with; leave --with out")


__all__ = ["BaselinePredictor", "read"]
