"""The files that were reported, as data from outside: judged, bounded and written by a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

from isoform.core import config as configs
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN

from . import runs
from .files import case

SMALL = [
    "model.context=24",
    "model.horizon=6",
    "backbone.dim=16",
    "backbone.depth=1",
    "backbone.heads=2",
    "backbone.mlp_dim=32",
    "train.epochs=1",
]


def run_of(folder: Path, file: Path, *sets: str) -> Path:
    """A run of `itransformer-own` on a file, without what it is compared with."""
    config = configs.resolve_app(
        "itransformer-own", domain=DOMAIN, sets=[f"data.path={file}", *SMALL, *sets]
    )
    prepared = DOMAIN.prepare(config)
    task = runs.Plain(prepared.config, prepared.data)
    train(task, RunFolder(folder / "run"), progress=False, say=lambda line: None)
    return folder / "run"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("base"), case("base_hourly.csv"))


def test_case_other_columns(base: Path, result, cli) -> None:
    own = result("eval", base)
    for name in ("base_hourly", "S4_extra_column", "S4_reordered"):
        found = result("eval", base, "--data", case(f"{name}.csv"))
        assert found["metrics"]["mse"] == pytest.approx(own["metrics"]["mse"], rel=1e-6)
        assert found["samples"] == own["samples"] == 95 and "behind 2024-01-17" in found["judged"]
    for name, sentence in (
        ("S4_lacks_temp", 'has no column "temp"'),
        ("S4_daily", "its rows are D apart, and this run forecasts steps of h"),
    ):
        file = case(f"{name}.csv")
        for words in (("eval", base, "--data", file), ("forecast", base, file)):
            code, _, err = cli(*words)
            assert code == 2 and sentence in err and "Traceback" not in err


def test_case_every_split(base: Path, result) -> None:
    for split in ("train", "val", "test"):
        assert result("eval", base, "--split", split)["metrics"]["mse"] > 0


def test_case_no_validation_windows(tmp_path: Path, cli) -> None:
    file = case("base_hourly.csv")
    folder = run_of(tmp_path, file, "data.val_fraction=0.005")
    code, out, err = cli("forecast", folder, file)
    assert code == 0 and "the quantiles are the model's own" in err
    assert out.splitlines()[0] == "id,stamp,variate,mean,q0.1,q0.5,q0.9"


def test_case_bounds(tmp_path: Path, result) -> None:
    file = case("base_hourly.csv")
    folder = run_of(tmp_path, file, "data.bounds={load=[0,100]}")
    own, walked = result("eval", folder), result("backtest", folder, file, "--step", "1")
    assert own["samples"] == walked["windows"] == 95
    assert own["metrics"]["unit_mae"] == pytest.approx(walked["metrics"]["unit_mae"], rel=1e-5)
    with xr.open_dataset(folder / "predictions.nc", engine="h5netcdf") as stored:
        assert stored.forecast.sel(variate="load").max() == 100
        assert stored.quantiles.sel(variate="load").max() == 100


def test_case_tiny_values(tmp_path: Path, cli) -> None:
    file = case("S6_tiny_values.csv")
    folder = run_of(tmp_path, file)
    assert cli("forecast", folder, file, "--out", tmp_path / "next.csv")[0] == 0
    table = pd.read_csv(tmp_path / "next.csv")
    assert table["mean"].nunique() == len(table)
    assert table["mean"].between(1e-13, 1e-11).all()
    assert (table["q0.1"] < table["q0.5"]).all() and (table["q0.5"] < table["q0.9"]).all()
