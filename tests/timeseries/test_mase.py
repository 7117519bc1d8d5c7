"""MASE is one number: of a run's test rows, whichever verb and file they come by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isoform.core import config as configs
from isoform.timeseries import DOMAIN
from isoform.timeseries.state import TimeseriesState
from isoform.timeseries.task import task_from_run

from . import runs
from .runs import CONTEXT, HORIZON, VARIATES

SEASON = 24


def evaluated(run: Path, path: Path | None = None):
    """The task of a run on data, and its MASE, had from forecasts that are off by a deviation everywhere."""
    state = TimeseriesState.model_validate_json((run / "task.json").read_text())
    task = task_from_run(configs.load_run_config(run, DOMAIN), state, path)
    size = task.sizes()["test"]
    batch = task.collate([task.sample("test", index, None) for index in range(size)])
    truth = batch["target"].numpy()
    outputs = {"forecast": truth + 1, "target": truth, "where": batch["where"].numpy()}
    accumulator = task.accumulator("test")
    accumulator.add(range(size), outputs)
    return task, accumulator.metrics()["mase"]


def shops(*sizes: tuple[str, int]) -> pd.DataFrame:
    """Sales that swing ever more, so that every further row changes the mean change over a season."""
    parts = []
    for name, rows in sizes:
        table = runs.frame(rows).assign(shop=name)[["shop", "date", "north"]]
        table["north"] *= (1 + len(name)) * np.linspace(1, 5, 431)[:rows]
        parts.append(table)
    return pd.concat(parts)


def mean_change(values: np.ndarray, season: int = SEASON) -> float:
    return float(np.nanmean(np.abs(values[season:] - values[:-season])))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"id": "shop", "panel": "series", "targets": ["north"], "drop": [], "bounds": {}}
    table = shops(("a", 263), ("bb", 241), ("short", 20))
    return runs.trained(tmp_path_factory.mktemp("many"), table, data=data, train={"epochs": 1})


def test_the_runs_own_file_has_the_mase_of_the_run(tmp_path: Path) -> None:
    table = runs.frame()
    for name in VARIATES:
        table[name] *= np.linspace(1, 5, len(table))
    run = runs.trained(tmp_path, table, train={"epochs": 1})
    _, own = evaluated(run)
    for made in (table, table[table.columns[::-1]], table.iloc[60:]):
        made.to_csv(tmp_path / "again.csv", index=False)
        task, mase = evaluated(run, tmp_path / "again.csv")
        assert task.sizes()["test"] == len(table) - HORIZON + 1 - round(0.8 * len(table))
        assert mase == pytest.approx(own, rel=1e-9)
    stored = json.loads((run / "task.json").read_text())["seasonal_scale"]
    train = table[: task.panel.rows[0]].iloc[: round(0.7 * len(table))]
    assert stored == {"": [pytest.approx(mean_change(train[name].to_numpy())) for name in VARIATES]}


def test_every_series_has_its_own_and_new_ones_that_of_all_their_rows(
    many: Path, tmp_path: Path
) -> None:
    later = shops(("new", 61), ("a", 299), ("short", 71), ("bb", 241))
    later.to_csv(tmp_path / "later.csv", index=False)
    task, _ = evaluated(many, tmp_path / "later.csv")
    names = [str(one.attrs["id"]) for one in task.panel]
    found = dict(zip(names, task._mase_scale_SV[:, 0].tolist(), strict=True))
    own, _ = evaluated(many)
    for place, one in enumerate(own.panel):
        rows = own.data.cuts[place]["train"][1]
        season = SEASON if rows > SEASON else 1
        want = mean_change(one.target.values[:rows, 0], season)
        assert found[str(one.attrs["id"])] == pytest.approx(want)
    new = task.panel.series[names.index("new")].target.values[:, 0]
    assert found["new"] == pytest.approx(mean_change(new))


def test_runs_from_before_it_was_kept_take_the_rows_that_there_are(
    many: Path, tmp_path: Path
) -> None:
    shops(("a", 299)).to_csv(tmp_path / "later.csv", index=False)
    state = TimeseriesState.model_validate_json((many / "task.json").read_text())
    old = state.model_copy(update={"seasonal_scale": None})
    task = task_from_run(configs.load_run_config(many, DOMAIN), old, tmp_path / "later.csv")
    seen = task.panel.first.target.values[: task.data.cuts[0]["train"][1], 0]
    assert task._mase_scale_SV[0, 0] == pytest.approx(mean_change(seen))


def test_a_variate_that_has_no_scale_counts_nowhere() -> None:
    state = TimeseriesState(variates=["x", "y"], seasonal_scale={"": [None, 1.7]})
    for name in ("", "other"):
        known = state.scale_of(name)
        assert np.isnan(known["x"]) and known["y"] == 1.7
    several = TimeseriesState(variates=["x"], seasonal_scale={"a": [1.3], "b": [1.9]})
    assert (several.scale_of("b"), several.scale_of("c")) == ({"x": 1.9}, {})
    assert TimeseriesState().scale_of("") == {} and CONTEXT > SEASON
