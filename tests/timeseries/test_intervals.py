"""Intervals of a forecast: calibrated, the model's own, between those trained, of few windows, or none at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform

from . import runs
from .runs import saved


@pytest.fixture
def lost(waves: Path, tmp_path: Path) -> Path:
    """The run without its calibration, as a killed one has none."""
    shutil.copytree(waves, tmp_path / "lost")
    (tmp_path / "lost" / "calibration.npz").unlink()
    return tmp_path / "lost"


def test_without_calibration_the_quantiles_are_the_models_own(
    lost: Path, tmp_path: Path, cli
) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    out = tmp_path / "next.csv"
    code, _, err = cli("forecast", lost, file, "--out", out)
    assert code == 0 and err.count("has no calibration") == 1 and "the model's own" in err
    table = pd.read_csv(out)
    assert list(table)[4:] == ["q0.1", "q0.5", "q0.9"]
    assert (table["q0.1"] <= table["q0.9"]).all()
    code, _, err = cli("backtest", lost, file, "--out", tmp_path / "all.csv")
    assert code == 0 and err.count("has no calibration") == 1
    code, _, err = cli("predict", lost, file, file, "--out", tmp_path / "rows.csv")
    assert code == 0 and err.count("has no calibration") == 1 and "UserWarning" not in err
    code, out, err = cli("eval", lost)
    assert code == 0 and "has no calibration" in err


@pytest.mark.parametrize("calibrated", [True, False])
def test_any_quantile_between_the_trained_ones(
    waves: Path, lost: Path, tmp_path: Path, cli, calibrated: bool
) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    folder, low = (waves, "0.05") if calibrated else (lost, "0.1")
    out = tmp_path / "next.csv"
    code, _, err = cli("forecast", folder, file, "--out", out, "--quantiles", ".1,.25,.5,.9")
    assert code == 0, err
    table = pd.read_csv(out)
    assert (table["q0.1"] <= table["q0.25"]).all() and (table["q0.25"] <= table["q0.5"]).all()
    assert not table["q0.25"].equals(table["q0.1"])
    out.unlink()
    code, _, err = cli("forecast", folder, file, "--out", out, "--quantiles", ".01")
    sentence = f"quantile 0.01: this run's quantiles go from {low} to"
    assert code == 2 and sentence in err.splitlines()[-1] and not out.exists()


@pytest.mark.filterwarnings("ignore:this run has no calibration")
def test_between_the_models_own_quantiles_lies_a_line(lost: Path) -> None:
    found = isoform.load(lost).forecast(runs.frame(), levels=(0.1, 0.3, 0.5)).quantiles
    south = found.sel(variate="south").values  # without bounds
    np.testing.assert_allclose(south[:, 1], south[:, [0, 2]].mean(1), rtol=1e-4)


def test_without_quantiles_or_validation_there_are_point_forecasts(tmp_path: Path, cli) -> None:
    folder = runs.trained(tmp_path, data={"val_fraction": 0.005}, train={"epochs": 1})
    code, out, err = cli("forecast", folder, tmp_path / "series.csv")
    assert code == 0 and "point forecasts alone" in err
    assert out.splitlines()[0] == "id,stamp,variate,mean"
    code, _, err = cli("forecast", folder, tmp_path / "series.csv", "--quantiles", ".5")
    assert code == 2 and "neither quantiles nor a calibration" in err
    code, _, err = cli("backtest", folder, tmp_path / "series.csv")
    assert code == 0 and err.count("point forecasts alone") == 1


def test_intervals_of_few_windows_are_flagged(tmp_path: Path, cli) -> None:
    """11 validation rows of 7 a horizon are 5 windows."""
    folder = runs.trained(tmp_path, data={"val_fraction": 11 / 431}, train={"epochs": 1})
    note = "calibrated on 5 validation windows, fewer than 20"
    assert note in " ".join(json.loads((folder / "results.json").read_text())["notes"])
    assert note in (folder / "report.html").read_text()
    for words in (["forecast"], ["backtest"]):
        code, _, err = cli(*words, folder, tmp_path / "series.csv")
        assert code == 0 and err.count(note) == 1, err
    code, _, err = cli("forecast", folder, tmp_path / "series.csv", "--quantiles", "")
    assert code == 0 and note not in err


def test_intervals_of_many_windows_are_not(waves: Path, tmp_path: Path, cli) -> None:
    assert "notes" not in json.loads((waves / "results.json").read_text())
    code, _, err = cli("forecast", waves, saved(runs.frame(), tmp_path / "series.csv"))
    assert code == 0 and "calibrat" not in err
