"""Going on with a run's training as time goes by: what `backtest --refit N` does before every N-th forecast.

The recipe: from the weights at hand, one pass over every window that ends before the forecast begins, in the run's own
batches and loss, at a tenth of its learning rate, held constant. The scale of the data, and with it what the weights
mean, stays the run's, and so does the calibration of its intervals.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.domain import Figure, InitialWeights
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.scaling import Scaling
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.inputs_for_run import settings as settings_for_any_file
from isoform.timeseries.task import TimeseriesTask

SHARE = 0.1  # of the run's learning rate


class _Refit(TimeseriesTask):
    """A training that begins with given weights, without the comparisons and pictures of a run of its own."""

    weights: Mapping[str, Tensor]

    def initial_weights(self, source: str) -> InitialWeights:
        """The weights at hand."""
        return InitialWeights(self.weights, source, self.config.domain)

    def baselines(self) -> Sequence[Baseline]:
        """None."""
        return ()

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """None."""
        return []


def refitted(
    config: TimeseriesApp,
    model: nn.Module,
    panel: Panel,
    scaling: Scaling,
    before: np.datetime64,
    folder: Path,
) -> nn.Module:
    """A copy of `model`, trained on by the module's recipe with the rows before an instant; `folder` gets the run.

    The model itself where no window is that old.
    """
    past = _until(panel, before, int(config.model.context) + int(config.model.horizon))
    if not past.series:
        return model
    settings = recipe(config)
    task = _Refit(settings, WindowData(settings, past, scaling))
    task.weights = model.state_dict()
    run = RunFolder(folder)
    train(task, run, progress=False, say=lambda line: None)
    made = copy.deepcopy(model)
    made.load_state_dict(run.load_weights("last"))
    return made.eval()


def recipe(config: TimeseriesApp) -> TimeseriesApp:
    """The run's settings, changed as the module's text says."""
    t = config.train
    changed: dict[str, Any] = {
        "epochs": 1,
        "lr": SHARE * t.lr,
        "schedule": "constant",
        "warmup": 0.0,
        "patience": None,
        "init": "the run",
        "checkpoint_every": None,
    }
    free = settings_for_any_file(config)
    every_row = {"val_fraction": 1e-9, "test_fraction": 0.0}
    return free.model_copy(
        update={
            "train": t.model_copy(update=changed),
            "data": free.data.model_copy(update=every_row),
        }
    )


def _until(panel: Panel, before: np.datetime64, fewest: int) -> Panel:
    series = []
    for one in panel:
        rows = int(np.searchsorted(one.time.values[: int(one.attrs["rows"])], before))
        if rows >= fewest:
            series.append(one.isel(time=slice(0, rows)).assign_attrs(rows=rows))
    return replace(panel, series=tuple(series))
