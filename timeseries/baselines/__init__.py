"""What a model must beat: fixed methods with fixed settings, fitted on the training windows and judged as the model is.

    last            the last value of the look-back
    seasonal_naive  the value a season before; the season is that of the data, which MASE counts by too
    ets, theta      exponential smoothing of each variate by itself, for short data (statsmodels)
    linear          ridge regression from look-back to horizon
    lag_boosting    LightGBM on lags and calendar

Each is judged by the task's own accumulator. Where that judges quantiles of the model, the baselines get conformal ones
of the same levels, calibrated on their own validation windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from isoform.core.baselines import QUIET, Baseline, Fitting
from isoform.timeseries import conformal
from isoform.timeseries.baselines import cost, smoothing
from isoform.timeseries.baselines.boosting import LagBoosting
from isoform.timeseries.baselines.chunks import portions
from isoform.timeseries.baselines.linear import Linear
from isoform.timeseries.baselines.naive import Last, SeasonalNaive
from isoform.timeseries.baselines.smoothing import Smoothing
from isoform.timeseries.config import BASELINES

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.metrics import ForecastAccumulator

Metrics = dict[str, dict[str, float]]


class Method(Protocol):
    """A method that forecasts windows."""

    def fit(self, data: WindowData) -> Self:
        """Learns from the training windows (and chooses by validation)."""

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled forecasts of windows (series, row of the first step) [n, 2]."""


def method(name: str, season: int, fitting: Fitting = QUIET) -> Method:
    """A method by name, not yet fitted; `season` is the data's in rows."""
    made: dict[str, Callable[[], Method]] = {
        "last": Last,
        "seasonal_naive": lambda: SeasonalNaive(season),
        "ets": lambda: Smoothing(smoothing.fit_ets, season, fitting),
        "theta": lambda: Smoothing(smoothing.fit_theta, season, fitting),
        "linear": Linear,
        "lag_boosting": lambda: LagBoosting(season, fitting),
    }
    return made[name]()


def baselines(
    data: WindowData, accumulator: Callable[[str], ForecastAccumulator], season: int
) -> list[Baseline]:
    """The methods, ready to be fitted and judged; none without training windows.

    `accumulator` makes an empty one for a split, `season` is the data's in rows.
    """
    if not data.sizes().get("train"):
        return []

    def offered(name: str) -> Baseline:
        def fit(fitting: Fitting) -> Metrics:
            if name in ("last", "seasonal_naive"):
                fitting.keep(f"{name}.json", json.dumps({"season": season}) + "\n")
            return judge(method(name, season, fitting).fit(data), data, accumulator, fitting)

        many = smoothing.why_not(data) if name in ("ets", "theta") else ""
        return Baseline(name, fit, cost.minutes(name, data), many)

    return [offered(name) for name in BASELINES]


def judge(
    method: Method,
    data: WindowData,
    accumulator: Callable[[str], ForecastAccumulator],
    fitting: Fitting = QUIET,
) -> Metrics:
    """A fitted method's metrics on validation and test."""
    found: Metrics = {}
    accumulators = {
        split: accumulator(split) for split in ("val", "test") if data.sizes().get(split)
    }
    levels = accumulators["test"].levels if "test" in accumulators else ()
    calibration = None
    for split, sums in accumulators.items():
        sums.calibration = calibration  # the model's, if there was one, is not a baseline's
        every = np.arange(data.sizes()[split])
        windows = method.windows(data, split) if isinstance(method, LagBoosting) else every
        done = 0
        for part in portions(data, windows):
            fitting.step(done, len(windows), f"{split} windows")
            batch = data.batch(split, part)
            outputs: dict[str, np.ndarray] = {
                name: batch[name].numpy()
                for name in ("target", "where", "observed")
                if name in batch
            }
            outputs["forecast"] = method.predict(data, outputs["where"])
            sums.add(part, outputs)
            done += len(part)
        found[split] = sums.metrics()
        if split == "val" and levels:
            calibration = conformal.fit(sums.outputs(), levels=levels)
    return found


__all__ = [
    "LagBoosting",
    "Last",
    "Linear",
    "Method",
    "SeasonalNaive",
    "Smoothing",
    "baselines",
    "judge",
    "method",
]
