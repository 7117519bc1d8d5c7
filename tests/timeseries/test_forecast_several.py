"""Forecasts of several series, by several seeds, and by the baselines beside a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform
from isoform.core import api
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN, plots
from isoform.timeseries.baselines import method
from isoform.timeseries.task import TimeseriesTask

from . import runs
from .runs import HORIZON, saved

# Several series -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a long file of series of their own."""
    return runs.trained(
        tmp_path_factory.mktemp("shops"), long_table(), train={"epochs": 1},
        data={"id": "shop", "panel": "series", "targets": ["sold", "left"], "drop": [], "bounds": {"*": [0, 900]}},
    )  # fmt: skip


def long_table(lengths: dict[str, int] | None = None) -> pd.DataFrame:
    parts = []
    for k, (name, rows) in enumerate((lengths or {"NA": 211, "b": 173}).items()):
        table = runs.frame(rows, start=f"2026-01-0{k + 1}")
        parts.append(
            pd.DataFrame(
                {
                    "shop": name,
                    "date": table["date"],
                    "sold": table["north"],
                    "left": table["south"],
                }
            )
        )
    return pd.concat(parts)


def test_each_series_goes_on_from_its_own_end(shops: Path, tmp_path: Path, cli) -> None:
    lengths = {"b": 61, "new": 97, "short": 5}
    file = saved(long_table(lengths), tmp_path / "a.csv")
    code, _, err = cli("forecast", shops, file, "--out", tmp_path / "next.csv")
    assert code == 0 and "left out: short: has 5 rows" in err
    found = pd.read_csv(tmp_path / "next.csv", keep_default_na=False)
    assert list(found["id"].unique()) == ["b", "new"] and len(found) == 2 * HORIZON * 2
    ends = long_table(lengths).groupby("shop")["date"].max()
    for name, part in found.groupby("id"):
        assert pd.Timestamp(part["stamp"].min()) == ends[name] + pd.Timedelta("1h")
        assert (part["mean"] != "").all() and list(part["variate"][:2]) == ["sold", "left"]


def test_ids_in_arrays_have_an_axis_of_their_own(shops: Path) -> None:
    found = isoform.load(shops).forecast(long_table({"b": 61, "new": 97}))
    assert found["mean"].dims == ("id", "time", "variate") and found.sizes["time"] == 2 * HORIZON
    curves = plots.curves(
        found, isoform.load(shops).read(long_table({"short": 5, "b": 61, "new": 97}))
    )
    assert [curve.title for curve in curves] == ["b · sold", "b · left", "new · sold", "new · left"]
    assert (found.step.max("time") == HORIZON).all() and found[
        "mean"
    ].notnull().sum() == 2 * HORIZON * 2


def test_a_name_of_two_letters_is_no_missing_value(shops: Path) -> None:
    assert list(isoform.load(shops).forecast(long_table())["id"].values) == ["NA", "b"]


# Several seeds, and stored baselines ----------------------------------------------------------------------------------


def test_seeds_together_forecast_their_mean(tmp_path: Path, cli) -> None:
    folder = runs.group(tmp_path, train={"epochs": 1})
    file = saved(runs.frame(97), tmp_path / "later.csv")
    each = [isoform.load(folder / f"seed-{seed}").forecast(file) for seed in (1, 2)]
    found = isoform.load(folder).forecast(file)
    pair = np.stack([one["mean"].values for one in each])
    np.testing.assert_allclose(found["mean"], pair.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["spread"], pair.std(0, ddof=1), rtol=1e-3, atol=1e-4)
    assert (found["spread"] > 0).any() and found["spread"].dims == found["mean"].dims
    assert list(found["quantile"].values) == [0.1, 0.5, 0.9]  # calibrated on its own errors
    code, _, _ = cli("forecast", folder, file, "--out", tmp_path / "next.csv")
    table = pd.read_csv(tmp_path / "next.csv")
    assert code == 0 and list(table)[3:6] == ["mean", "spread", "q0.1"]
    assert cli("eval", folder, "--json")[0] == 0


class WithBaselines(TimeseriesTask):
    """Without the pictures that a finished run has."""

    def figures(self, model, outputs):
        return []


def test_forecasting_with_a_stored_baseline(tmp_path: Path, cli) -> None:
    """What the baseline forecast of the run's last test window, from the rows before it alone."""
    pytest.importorskip("lightgbm")
    frame = runs.frame()
    names = ["last", "seasonal_naive", "lag_boosting"]
    config = runs.app(
        saved(frame, tmp_path / "series.csv"), train={"epochs": 1}, eval={"baselines": names}
    )
    prepared = DOMAIN.prepare(config)
    task, folder = WithBaselines(prepared.config, prepared.data), tmp_path / "run"
    train(task, RunFolder(folder), progress=False, say=lambda line: None)
    results = json.loads((folder / "results.json").read_text())
    assert results["stored_baselines"] == sorted(names)
    file = saved(frame[:-HORIZON], tmp_path / "before.csv")
    for name in names:
        found = api.load_baseline(DOMAIN, folder, name).forecast(file, levels=())
        fitted = method(name, task.season).fit(task.data)
        where = np.array([[0, len(frame) - HORIZON]])
        want = task.data.forecast_units(fitted.predict(task.data, where))[0]
        np.testing.assert_allclose(found["mean"], want, rtol=1e-3, atol=1e-3)
    code, out, err = cli("forecast", folder, file, "--with", "lag_boosting")
    assert code == 0 and "no intervals" in err and out.startswith("id,stamp,variate,mean\n")
    assert cli("forecast", folder, file, "--with", "linear")[0] == 2
    assert cli("forecast", folder, file, "--with", "last", "--quantiles", ".1")[0] == 2
    about = folder / "baselines" / "lag_boosting.json"
    about.write_text(about.read_text().replace('"season": 24', '"season": -24'))
    assert "is damaged" in cli("forecast", folder, file, "--with", "lag_boosting")[2]
