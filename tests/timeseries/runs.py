"""Small trained runs, and files to use them on: hourly sums of waves with a covariate that moves one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.task import TimeseriesTask
from seeds import train_group

CONTEXT, HORIZON = 29, 7
VARIATES = ["north", "south", "üst [kWh]"]
QUANTILES = {"quantiles": [0.1, 0.5, 0.9]}  # settings of a head that has its own


def frame(
    rows: int = 431, start: str = "2026-03-02", freq: str = "h", tz: str | None = None
) -> pd.DataFrame:
    """date, three variates of different size, and `temp`, which shifts the second one at once."""
    time = pd.date_range(start, periods=rows, freq=freq, tz=tz)
    t = np.arange(rows)
    rng = np.random.default_rng(0)
    temp = 10 + 5 * np.sin(t / 17) + rng.normal(0, 1, rows)
    values = np.stack([
        50 + 20 * np.sin(2 * np.pi * t / 24), 3 * temp + 2 * np.cos(2 * np.pi * t / 24),
        0.3 * np.maximum(0, np.sin(2 * np.pi * t / 24)),
    ], 1) + rng.normal(0, [1, 0.3, 0.01], (rows, 3))  # fmt: skip
    return pd.DataFrame({"date": time, **dict(zip(VARIATES, values.T, strict=True)), "temp": temp})


def app(path: Path, **tables: dict[str, Any]) -> TimeseriesApp:
    """Settings of a tiny iTransformer on a csv."""
    made: dict[str, Any] = {
        "domain": "timeseries", "app": "made",
        "data": {"path": str(path), "bounds": {VARIATES[2]: [0, 0.28]}, "drop": ["temp"]},
        "model": {"context": CONTEXT, "horizon": HORIZON},
        "backbone": {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "order": "post", "eps": 1e-5},
        "train": {"epochs": 2, "batch": 32, "lr": 3e-3, "weight_decay": 0.0},
    }  # fmt: skip
    for name, table in tables.items():
        made[name] = {**made.get(name, {}), **table}
    return TimeseriesApp.model_validate(made)


def saved(table: pd.DataFrame, path: Path) -> Path:
    """The path, where the table stands as csv now."""
    table.to_csv(path, index=False)
    return path


class Plain(TimeseriesTask):
    """Without the comparisons and pictures that a finished run has."""

    def baselines(self):
        return ()

    def figures(self, model, outputs):
        return []


def trained(folder: Path, table: pd.DataFrame | None = None, **tables: dict[str, Any]) -> Path:
    """The folder of a run on `table`, which lies beside it as series.csv."""
    path = folder / "series.csv"
    (frame() if table is None else table).to_csv(path, index=False)
    config = app(path, **tables)
    prepared = DOMAIN.prepare(config)
    train(
        Plain(prepared.config, prepared.data),
        RunFolder(folder / "run"),
        progress=False,
        say=lambda line: None,
    )
    return folder / "run"


def group(folder: Path, seeds: int = 2, **tables: dict[str, Any]) -> Path:
    """The folder of a group of seeds on `frame`, calibrated and judged as `--seeds` does."""
    frame().to_csv(folder / "series.csv", index=False)
    prepared = DOMAIN.prepare(app(folder / "series.csv", **tables))
    return train_group(DOMAIN, Plain, prepared, folder / "group", seeds)
