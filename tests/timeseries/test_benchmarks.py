"""Every benchmark app on a miniature of its family's official file: read, two training steps, judged (`smoke`)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform
from isoform.core.config.layers import built_in
from isoform.timeseries import baselines
from isoform.timeseries.task import TimeseriesTask

APPS = [
    name for name in tomllib.loads(built_in())["timeseries"] if name.split("-")[-1].isdigit()
]  # fmt: skip


def write_csv(path: Path, rows: int, freq: str, names: list[str]) -> None:
    t = np.arange(rows)[:, None]
    values = np.sin(t / [7, 11, 13]) + np.array([1, 20, 300])
    table = pd.DataFrame(values.round(4), columns=names)
    table.insert(
        0,
        "date",
        pd.date_range("2016-07-01", periods=rows, freq=freq).strftime("%Y-%m-%d %H:%M:%S"),
    )
    table.to_csv(path, index=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each official layout, just long enough for windows of look-back 512 and horizon 720."""
    folder = tmp_path_factory.mktemp("official")
    write_csv(folder / "ett-hour", 20 * 30 * 24 + 3, "h", ["HUFL", "HULL", "OT"])
    write_csv(folder / "ett-minute", 4 * 20 * 30 * 24 + 5, "15min", ["HUFL", "HULL", "OT"])
    write_csv(folder / "custom", 7333, "10min", ["0", "1", "OT"])
    wave = np.sin(np.arange(7333)[:, None] / [7, 11, 13]) + 2
    np.savetxt(folder / "solar", wave, delimiter=",", fmt="%.3f")
    with (folder / "pems").open("wb") as file:
        np.savez(file, data=np.stack([wave[:1201], wave[:1201] * 0, wave[:1201] * 0], -1))
    for kind, suffix in {
        "ett-hour": ".csv",
        "ett-minute": ".csv",
        "custom": ".csv",
        "solar": ".txt",
        "pems": ".npz",
    }.items():
        (folder / kind).rename(folder / f"{kind}{suffix}")
    return folder


def source_of(app: str) -> str:
    family = app.split("-")[1]
    if family.startswith("ett"):
        return "ett-hour" if family[3] == "h" else "ett-minute"
    return "pems" if family.startswith("pems") else "solar" if family == "solar" else "custom"


@pytest.mark.parametrize("app", APPS)
def test_a_benchmark_trains_on_its_official_layout(app, files, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "baselines", lambda *_: ())
    monkeypatch.setattr(TimeseriesTask, "figures", lambda *_: [])
    few = lambda self, split, size, rng, own=TimeseriesTask.batches: own(self, split, 8, rng)[:2]  # noqa: E731
    monkeypatch.setattr(TimeseriesTask, "batches", few)
    small = (
        {}
        if app.startswith("samformer")
        else {"backbone.dim": 16, "backbone.mlp_dim": 8, "backbone.depth": 1}
    )
    path = next(files.glob(f"{source_of(app)}.*"))
    run = isoform.train(f"timeseries/{app}", run_dir=tmp_path / "run", progress=False,
                        **{"data.path": str(path), "train.epochs": 1, **small})  # fmt: skip
    test = run.metrics["test"]
    assert (
        run.results["status"] == "finished" and np.isfinite(test["mse"]) and test["windows"] == 16
    )
    assert run.results["parameters"] > 0
