"""What a model must beat: fixed methods with fixed settings, fitted on the training windows and judged as the model is.

    last            the last value of the look-back
    seasonal_naive  the value a season before; the season is that of the data, which MASE counts by too
    linear          ridge regression from look-back to horizon
    lag_boosting    LightGBM on lags and calendar

Each is judged by the task's own accumulator. Where that judges quantiles of the model, the baselines get conformal ones
of the same levels, calibrated on their own validation windows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from isoform.timeseries import conformal
from isoform.timeseries.baselines.boosting import LagBoosting
from isoform.timeseries.baselines.chunks import portions
from isoform.timeseries.baselines.linear import Linear
from isoform.timeseries.baselines.naive import Last, SeasonalNaive

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.metrics import ForecastAccumulator

NAMES = ("last", "seasonal_naive", "linear", "lag_boosting")
Metrics = dict[str, dict[str, float]]


class Baseline(Protocol):
    """A method that forecasts windows."""

    def fit(self, data: WindowData) -> Self:
        """Learns from the training windows (and chooses by validation)."""

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled forecasts of windows (series, row of the first step) [n, 2]."""


def baselines(
    data: WindowData,
    accumulator: Callable[[str], ForecastAccumulator],
    season: int,
    *,
    names: Iterable[str] = NAMES,
    say: Callable[[str], None] | None = None,
) -> dict[str, Metrics]:
    """{NAME: {"val": metrics, "test": metrics}} of the splits that there are; none without training windows.

    `accumulator` makes an empty one for a split, `season` is the data's in rows, and `say` gets the sentences that a
    person should read, as warnings by default.
    """
    say = say or _warn
    if not data.sizes().get("train"):
        return {}
    methods: dict[str, Callable[[], Baseline]] = {
        "last": Last,
        "seasonal_naive": lambda: SeasonalNaive(season),
        "linear": Linear,
        "lag_boosting": lambda: LagBoosting(season, say),
    }
    found = {}
    for name in names:
        try:
            method = methods[name]().fit(data)
        except (
            ImportError,
            OSError,
        ) as error:  # OSError: a library of the system that LightGBM needs
            say(
                f"the baseline {name} was left out: {error}; pip install 'isoform[timeseries]' brings LightGBM"
            )
            continue
        found[name] = judge(method, data, accumulator)
    return found


def judge(
    method: Baseline, data: WindowData, accumulator: Callable[[str], ForecastAccumulator]
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
        for part in portions(data, windows):
            batch = data.batch(split, part)
            outputs: dict[str, np.ndarray] = {
                name: batch[name].numpy()
                for name in ("target", "where", "observed")
                if name in batch
            }
            outputs["forecast"] = method.predict(data, outputs["where"])
            sums.add(part, outputs)
        found[split] = sums.metrics()
        if split == "val" and levels:
            calibration = conformal.fit(sums.outputs(), levels=levels)
    return found


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


__all__ = [
    "NAMES",
    "Baseline",
    "LagBoosting",
    "Last",
    "Linear",
    "SeasonalNaive",
    "baselines",
    "judge",
]
