"""Gradient-boosted trees on lags and calendar: one LightGBM (Ke et al. 2017) for all variates and steps.

It sees what table.py makes: recent values, running means, the same hour of earlier days, weeks and a year, how far the
series is off its season, the local clock and date of the value to forecast, known covariates (holidays among them)
there and where the lags lie, past covariates, static values, variate and step. History may reach further back than the
model's look-back. What is learned is the difference from the last value, the mean of the seasons before or that of the
long seasons before, whichever is closest in training: trees can't leave the range of values that they have seen.
Squared error; validation decides how many trees there are.

n windows, H steps, V variates; a row of its table is one value to forecast.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isoform.core.baselines import QUIET, Fitting
from isoform.core.runs.boosters import text_of
from isoform.timeseries.baselines.chunks import spread
from isoform.timeseries.baselines.lags import Lags
from isoform.timeseries.baselines.table import tables
from isoform.timeseries.data.season import seasons
from isoform.timeseries.metrics import training_rows

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

TRAIN_ROWS, CHOOSING_ROWS = 1_000_000, 100_000
TREES, PATIENCE, UNCHOSEN_TREES = 600, 25, 200
SETTINGS: dict[str, Any] = {
    "objective": "l2", "learning_rate": 0.1, "num_leaves": 127, "min_data_in_leaf": 100, "lambda_l2": 1.0,
    "feature_fraction": 0.6, "bagging_fraction": 0.7, "bagging_freq": 1, "max_bin": 255, "seed": 0,
    "deterministic": True, "force_col_wise": True, "verbose": -1,
}  # fmt: skip
STARTS = ("value 1 before", "mean of the seasons before", "mean of the long seasons before")
PREDICTED = 8_000_000  # values of a split that are forecast at most
STRETCHES = 16  # of a long store that training rows are drawn from at most
STRETCH_VALUES = 1 << 24
_AT_ONCE = 400_000  # rows of the table


class LagBoosting:
    """See the module.

    Trained on at most 1,000,000 values, drawn evenly from all windows, steps and variates. `fitting` is told where
    there were more, or where not every window can be forecast in a reasonable time.
    """

    def __init__(self, season: int, fitting: Fitting = QUIET) -> None:
        self.season, self.fitting = season, fitting
        self.model: Any = None
        self.lags = Lags(season, 0, 0, 1)
        self.start = 0  # the column that the trees start from

    def fit(self, data: WindowData) -> LagBoosting:
        """Trains. Raises ImportError without LightGBM."""
        import lightgbm

        season, long, year = seasons(data.panel.freq, self.season)
        longest = max(stop for _, stop in training_rows(data))
        self.lags = Lags(
            season,
            long if longest > 2 * long else 0,
            year if longest > 2 * year else 0,
            data.horizon,
        )
        x, y, categories = self._drawn(data, "train", TRAIN_ROWS)
        x_val, y_val, _ = self._drawn(data, "val", CHOOSING_ROWS)
        names = self.lags.names()
        starts = [names.index(name) for name in STARTS if name in names]
        self.start = starts[
            int(np.argmin([np.square(y - _start(x, column)).mean() for column in starts]))
        ]
        settings = {**SETTINGS, "num_threads": torch.get_num_threads()}
        settings["min_data_in_leaf"] = max(5, min(settings["min_data_in_leaf"], len(y) // 500))
        train = lightgbm.Dataset(
            x, y - _start(x, self.start), categorical_feature=categories, params=settings
        )
        train.construct()
        del x  # the binned copy takes a quarter of it
        if len(y_val):
            val = lightgbm.Dataset(x_val, y_val - _start(x_val, self.start), reference=train)
            early = lightgbm.early_stopping(PATIENCE, verbose=False)
            self.model = lightgbm.train(
                settings, train, TREES, valid_sets=[val], callbacks=[early, self._after_a_tree]
            )
        else:
            self.model = lightgbm.train(
                settings, train, UNCHOSEN_TREES, callbacks=[self._after_a_tree]
            )
        if len(data.panel.series) == 1:  # of several, a column is the series' number in these data
            self._keep()
        return self

    def _keep(self) -> None:
        lags = self.lags
        about = {"season": lags.season, "long": lags.long, "year": lags.year, "start": self.start}
        about["columns"] = self.model.num_feature()
        self.fitting.keep("lag_boosting.txt", text_of(self.model))
        self.fitting.keep("lag_boosting.json", json.dumps(about, indent=1) + "\n")

    def _after_a_tree(self, so_far: Any) -> None:
        """LightGBM's callback: shows how far it is, and stops it where the training was told to stop."""
        self.fitting.step(so_far.iteration + 1, so_far.end_iteration, "trees at most")

    def windows(self, data: WindowData, split: str) -> np.ndarray:
        """The windows that it is to be judged by: all, or evenly spread ones of at most 8,000,000 values."""
        size = data.sizes()[split]
        found = spread(size, max(8, PREDICTED // (data.horizon * len(data.variates))))
        if len(found) < size:
            self.fitting.say(
                f"lag_boosting is judged on {len(found)} evenly spread windows of the {size} of {split}"
            )
        return found

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled, of windows (series, row) [n, 2]."""
        found = np.empty((len(where), data.horizon, len(data.variates)), np.float32)
        step_H = np.arange(data.horizon)
        for chosen, table in tables(data, self.lags, where):
            size = max(1, _AT_ONCE // (data.horizon * len(table.variates)))
            for start in range(0, len(chosen), size):
                part = chosen[start : start + size]
                self.fitting.step(start, len(chosen), "windows")
                grid = np.meshgrid(where[part, 1], step_H, table.variates, indexing="ij")
                x = table.columns(*(axis.reshape(-1) for axis in grid))
                values = _start(x, self.start) + self.model.predict(
                    x, num_threads=torch.get_num_threads()
                )
                found[np.ix_(part, step_H, table.variates)] = values.reshape(grid[0].shape)
        return found

    def _drawn(
        self, data: WindowData, split: str, most: int
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """(Columns [rows, F], targets [rows], which columns are categories) of evenly drawn values that are there."""
        horizon, variates = data.horizon, len(data.variates)
        window = _stretched(data.sizes().get(split, 0), max(1, STRETCH_VALUES // variates))
        total = len(window) * horizon * variates
        if not total:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.float32), []
        if total > most:
            # One at a random place in each of equal parts.
            places = np.arange(most) + np.random.default_rng(0).random(most)
            drawn = np.minimum((places * (total / most)).astype(np.int64), total - 1)
            if split == "train":
                self.fitting.say(
                    f"lag_boosting learns from {most} values, drawn evenly from {total}"
                )
        else:
            drawn = np.arange(total)
        number, rest = np.divmod(drawn, horizon * variates)
        step, variate = np.divmod(rest, variates)
        where = data.where(split, window[number])
        found, targets, categories = [], [], []
        for chosen, table in tables(data, self.lags, where):
            mine = chosen[np.isin(variate[chosen], table.variates)]
            y = table.target(where[mine, 1] + step[mine], variate[mine])
            mine, y = mine[~np.isnan(y)], y[~np.isnan(y)]
            found.append(table.columns(where[mine, 1], step[mine], variate[mine]))
            targets.append(y)
            categories = table.categories(found[-1].shape[1])
        return np.concatenate(found), np.concatenate(targets), categories


def _start(x: np.ndarray, column: int) -> np.ndarray:
    """[rows] what the trees add to: the training mean where the column has nothing."""
    return np.nan_to_num(x[:, column])


def _stretched(size: int, stretch: int) -> np.ndarray:
    """Numbers of the windows to draw from: all, or those of STRETCHES evenly spread stretches of a longer split."""
    count = size // stretch
    if count <= STRETCHES:
        return np.arange(size)
    return (spread(count, STRETCHES)[:, None] * stretch + np.arange(stretch)).reshape(-1)
