"""What a run was trained on is known again by its rows, under any name, and is judged apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import isoform
from isoform.core.data.digests import NOTHING
from isoform.core.engine.train import train
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN
from isoform.timeseries.backtest import backtest
from isoform.timeseries.data.digests import (
    BLOCK,
    FEWEST,
    MOST_VARIATES,
    digests_at,
    find_known,
    row_digests,
)
from isoform.timeseries.task import TimeseriesTask

from . import panels, runs
from .runs import CONTEXT, HORIZON, VARIATES

ROWS = 211  # of each shop
DATA = {"id": "shop", "panel": "series", "bounds": {}, "drop": []}


def shops(*names: str, rows: int = ROWS) -> pd.DataFrame:
    """A long table; a shop's sales are the same whatever it is called, by its last letter."""
    each = [
        pd.DataFrame({
            "date": pd.date_range("2026-03-02", periods=rows, freq="h"),
            "shop": name,
            "sales": panels.walk(rows, 1, seed=ord(name[-1]))[:, 0].round(3),
        })
        for name in names
    ]  # fmt: skip
    return pd.concat(each)


def task_on(path, **tables) -> TimeseriesTask:
    prepared = DOMAIN.prepare(runs.app(path, **tables))
    return runs.Plain(prepared.config, prepared.data)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on two shops."""
    folder = tmp_path_factory.mktemp("shops")
    return runs.trained(folder, shops("shop a", "shop b"), data=DATA, train={"epochs": 1})


# Rows ----------------------------------------------------------------------------------------------------------------


def test_a_row_is_known_by_its_stamp_and_the_values_up_to_it():
    value = panels.walk(31, 3)
    time = pd.date_range("2026-01-01", periods=31, freq="h").to_numpy()
    found = row_digests(value, time)
    assert found.shape == (31, 3) and (found[: BLOCK - 1] == NOTHING).all()
    rest = found[BLOCK - 1 :]
    assert len(np.unique(rest)) == rest.size and (rest != NOTHING).all()
    # A part of it in another order is the same; another hour, or one other value, is not.
    np.testing.assert_array_equal(
        row_digests(value[5:, ::-1], time[5:])[BLOCK:], found[5 + BLOCK :, ::-1]
    )
    assert not np.isin(row_digests(value, time + np.timedelta64(1, "h")), rest).any()
    other = value.copy()
    other[20, 1] += 0.001
    changed = (row_digests(other, time) != found).any(1)
    assert np.flatnonzero(changed).tolist() == list(range(20, 20 + BLOCK))


def test_what_hardly_changes_or_is_missing_is_known_by_nothing():
    time = pd.date_range("2026-01-01", periods=BLOCK, freq="D").to_numpy()
    steps = np.arange(BLOCK, dtype=float)
    few, enough = np.minimum(steps, FEWEST - 2), np.minimum(steps, FEWEST - 1)
    gap, end = steps.copy(), steps.copy()
    gap[1], end[-1] = np.nan, np.nan
    found = row_digests(np.stack([few, enough, gap, end, np.zeros(BLOCK)], 1), time)[-1]
    assert (found == NOTHING).tolist() == [True, False, False, True, True]
    signed = np.stack([steps, np.where(steps == 0, -0.0, steps)], 1)
    left, right = row_digests(signed, time)[-1]
    assert left == right


def test_many_variates_are_known_all_together_in_any_order():
    value = panels.walk(23, MOST_VARIATES + 1)
    made = panels.panel(panels.series(value))
    pairs = np.array([[0, 11], [0, 13]])
    found = digests_at(made, pairs, 7)
    assert found.shape == (2, 3)
    turned = panels.panel(panels.series(value[:, ::-1]))
    np.testing.assert_array_equal(digests_at(turned, pairs, 7), found)
    assert digests_at(panels.panel(panels.series(value[:, 1:])), pairs, 7).shape == (
        2,
        3 * MOST_VARIATES,
    )


def test_a_horizon_is_known_by_any_of_its_rows_and_not_by_those_behind_the_end():
    made = panels.panel(
        panels.series(panels.walk(29, 1)), panels.series(panels.walk(23, 1, seed=5))
    )
    seen = digests_at(made, np.array([[0, 17]]), 1).ravel()
    pairs = np.array([[0, 11], [0, 14], [0, 17], [0, 18], [1, 17], [1, 22]])
    assert find_known(made, pairs, 7, seen).tolist() == [True, True, True, False, False, False]
    assert not find_known(made, pairs, 7, None).any()


# Runs ----------------------------------------------------------------------------------------------------------------


def test_a_run_knows_its_own_windows_and_its_test_is_new(first):
    seen = RunFolder(first).seen()
    task = task_on(first.parent / "series.csv", data=DATA)
    for split, known in (("train", True), ("val", True), ("test", False)):
        found = np.isin(task.digests(split), seen).any(1)
        assert len(found) == task.sizes()[split] and found.all() == known and found.any() == known
    assert evaluate_run(DOMAIN, first)["unseen"] is None
    assert "unseen" not in RunFolder(first).results()


def test_rows_under_another_name_are_counted_and_judged_apart(first, tmp_path):
    """The id is new, so all of it is judged; one of the two is a shop that the run knows."""
    path = runs.saved(shops("new b", "new c"), tmp_path / "new.csv")
    found = evaluate_run(DOMAIN, first, data=path)
    windows = ROWS - CONTEXT - HORIZON + 1
    task = task_on(first.parent / "series.csv", data=DATA)
    fitted = task.data.cuts[1]["val"][1]
    known = fitted - CONTEXT  # every window whose first row was forecast in training or validation
    unseen = found["unseen"]
    assert (unseen["samples"], unseen["known"]) == (2 * windows, known)
    assert unseen["metrics"]["windows"] == 2 * windows - known
    assert unseen["metrics"]["mae"] != found["metrics"]["mae"]
    said = f"test without {known:,} of {2 * windows:,} windows that the run was trained on: "
    assert any(said in note for note in found["notes"])
    new = evaluate_run(DOMAIN, first, data=runs.saved(shops("new c"), tmp_path / "c.csv"))
    assert new["unseen"] is None


def test_test_windows_of_the_starting_run_are_counted(first, tmp_path):
    """Its test begins where the first run was still training."""
    path = runs.saved(shops("other b", rows=113), tmp_path / "b.csv")
    said = []
    task = task_on(path, data=DATA, train={"init": str(first), "epochs": 1})
    train(task, RunFolder(tmp_path / "run"), progress=False, say=said.append)
    count = task.sizes()["test"]
    text = "\n".join(said)
    assert (
        f"{count} of {count} windows of test are among those that the starting run was trained on"
        in text
    )
    assert f"the starting run was trained on all {count} windows of test" in text
    assert set(RunFolder(first).seen().tolist()) <= set(RunFolder(tmp_path / "run").seen().tolist())


def test_a_backtest_counts_what_was_trained_on(first, tmp_path):
    model = isoform.load(first)
    found = backtest(model, shops("new b", "new c"), step=3)
    told = found.to_json()
    assert 0 < told["trained_on"] < told["windows"]
    alone = backtest(model, shops("new c"), step=3)
    assert "trained_on" not in alone.to_json()
    line = next(
        line for line in found.remarks() if "forecast rows that this run was trained on" in line
    )
    assert line.startswith(f"{told['trained_on']:,} of {told['windows']:,} windows")
    # Without them: those of c, and of b those behind what the run was fitted on.
    late = backtest(model, shops("shop b"), step=1)
    rest = told["windows"] - told["trained_on"]
    assert alone.judged < rest < alone.judged + late.judged
    assert told["metrics_without"]["mae"] != told["metrics"]["mae"]
    usual = backtest(model, shops("shop a", "shop b"))
    assert usual.apart is None


def test_a_forecast_of_known_rows_says_so(first, cli, tmp_path):
    path = runs.saved(shops("new b"), tmp_path / "b.csv")
    early, late = (str(shops("new b")["date"][row]) for row in (50, 205))
    code, _, err = cli("forecast", first, path, "--from", early)
    assert code == 0 and f"the run was trained on rows from {early} on" in err
    code, _, err = cli("forecast", first, path, "--from", late)
    assert code == 0 and "trained on" not in err


def test_one_variate_of_several_is_known(tmp_path):
    """A run on three, and one of them alone under another name."""
    folder = runs.trained(tmp_path, train={"epochs": 1})
    table = runs.frame()[["date", VARIATES[1]]].rename(columns={VARIATES[1]: "y"})
    config = runs.app(runs.saved(table, tmp_path / "y.csv"), data={"bounds": {}, "drop": []})
    prepared = DOMAIN.prepare(config)
    task = TimeseriesTask(prepared.config, prepared.data)
    assert np.isin(task.digests("train"), RunFolder(folder).seen()).any(1).all()
