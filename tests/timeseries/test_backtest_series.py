"""A backtest of several series: each judged behind what the run was fitted on, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform
from commands import exit_code
from isoform.core.errors import UserError
from isoform.timeseries.backtest import backtest

from . import runs
from .files import case
from .runs import CONTEXT, HORIZON

LONG = {"id": "shop", "panel": "series", "targets": ["north"], "drop": [], "bounds": {}}
WANTED = {"a": range(210, 257), "b": range(210, 264), "new": range(CONTEXT, 44)}  # first steps


def shop(name: str, rows: int, **options: str) -> pd.DataFrame:
    table = runs.frame(rows, **options).assign(shop=name)[["shop", "date", "north"]]
    table["north"] *= 1 + len(name)  # of different size
    return table


def known() -> pd.DataFrame:
    """The last one begins behind the end of the others, and is shorter than a window."""
    return pd.concat([shop("a", 263), shop("b", 240), shop("short", 20, start="2026-03-20")])


def later() -> pd.DataFrame:
    """One as it was, one with 30 rows more, the short one, and one that the run never saw."""
    short = shop("short", 20, start="2026-03-20")
    return pd.concat([shop("a", 263), shop("b", 270), short, shop("new", 50)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.trained(tmp_path_factory.mktemp("run"), known(), data=LONG, train={"epochs": 1})


@pytest.fixture(scope="module")
def rows(run: Path) -> pd.DataFrame:
    """Every forecast, with its error."""
    table = pd.DataFrame(backtest(isoform.load(run), later(), step=1, keep=True).columns())
    return table.assign(error=table["mean"] - table["truth"].astype(float))


def test_every_series_is_judged_behind_all_training(run: Path, rows: pd.DataFrame) -> None:
    stamps = list(runs.frame(270)["date"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    for name, want in WANTED.items():
        origins = rows[rows["id"] == name]["origin"].unique()
        assert [stamps.index(one) + 1 for one in origins] == list(want), name
    found = backtest(isoform.load(run), later(), step=1)
    assert found.judged == sum(map(len, WANTED.values()))
    assert list(found.walked.left_out) == ["short"] and found.walked.unseen == ["new"]
    alone = pd.concat([part for name, part in later().groupby("shop") if name == "b"])
    assert backtest(isoform.load(run), alone, step=1).judged == len(WANTED["b"])


def test_what_is_judged_is_said(run: Path, tmp_path: Path, capsys) -> None:
    later().to_csv(tmp_path / "later.csv", index=False)
    words = ["timeseries", "backtest", str(run), str(tmp_path / "later.csv"), "--step", "1"]
    assert exit_code(*words) == 0
    out, err = capsys.readouterr()
    assert "116 windows from" in out and "origins in 3 of 4 series, one each 1 rows" in out
    assert "3 of 4 series judged; left out: short (has 20 of the 29 + 7 rows" in err
    assert "new to this run, so judged from their first possible row: new" in err
    assert exit_code(*words, "--json") == 0
    found = json.loads(capsys.readouterr()[0].splitlines()[-1])
    assert {id: one["windows"] for id, one in found["by_series"].items()} == {
        name: len(rows) for name, rows in WANTED.items()
    }
    assert list(found["left_out"]) == ["short"] and found["unseen"] == ["new"]


def test_windows_in_times_that_another_series_was_fitted_on_are_counted(run: Path) -> None:
    found = backtest(isoform.load(run), later(), step=1)
    held = 210 - 192  # of b, up to the last row that a, the longer one, was fitted on
    assert found.walked.held_back == held == found.to_json()["held_back"]
    assert f"{held} windows in times that this run was fitted on" in " ".join(found.remarks())
    want = len(WANTED["new"])
    assert found.walked.overlapping == want == found.to_json()["overlapping"]
    assert f"{want} of 116 windows lie in times" in " ".join(found.remarks())
    only = backtest(isoform.load(run), shop("a", 263), step=1)
    assert not only.walked.overlapping and not only.remarks()


def test_figures_by_series_by_hand_the_worst_first(run: Path, rows: pd.DataFrame) -> None:
    found = backtest(isoform.load(run), later(), step=1)
    by_series = found.to_json()["by_series"]
    skills = [one["skill_seasonal_naive"] for one in by_series.values()]
    assert skills == sorted(skills) and len(skills) == 3
    for name, figures in by_series.items():
        mine = rows[rows["id"] == name]
        assert figures["unit_mae"] == pytest.approx(mine["error"].abs().mean())
        assert figures["unit_bias"] == pytest.approx(mine["error"].mean())
        truth = mine["truth"].astype(float)
        inside = (mine["q0.1"] <= truth) & (truth <= mine["q0.9"])
        assert figures["coverage_80"] == pytest.approx(inside.mean())
    head, lines = found.table_by_series()
    assert head[0] == "series" and [line[0] for line in lines] == list(by_series)
    total = sum(one["unit_mae"] * one["windows"] for one in by_series.values())
    assert found.figures()["unit_mae"] == pytest.approx(total / found.judged)


def test_only_the_worst_are_shown(run: Path, tmp_path: Path, capsys) -> None:
    many = pd.concat([shop(f"new{k:02}", CONTEXT + HORIZON) for k in range(23)])
    many.to_csv(tmp_path / "many.csv", index=False)
    words = ["timeseries", "backtest", str(run), str(tmp_path / "many.csv")]
    assert exit_code(*words) == 0
    out = capsys.readouterr().out
    assert sum(line.startswith("new") for line in out.splitlines()) == 20
    assert "the first 20 of 23 series; --json has all" in out


def test_a_late_short_series_does_not_hold_back_the_others(tmp_path: Path) -> None:
    """Of series that end long before, less than half of the windows would be left: they are judged by themselves."""
    early = [shop(name, 263) for name in ("p", "q")]
    late = shop("late", 101, start="2026-04-20")
    table = pd.concat([*early, late])
    run = runs.trained(tmp_path, table, data=LONG, train={"epochs": 1})
    found = backtest(isoform.load(run), table, step=1)
    windows = {id: one["windows"] for id, one in found.to_json()["by_series"].items()}
    assert windows["p"] == windows["q"] == 263 - HORIZON + 1 - 210
    assert not found.walked.held_back and found.walked.overlapping == 2 * windows["p"]


def test_without_any_window(run: Path) -> None:
    table = pd.concat([shop("a", 214), shop("b", 195)])
    with pytest.raises(
        UserError, match=r"none of its 2 series can be judged; a: ends at .* behind"
    ):
        backtest(isoform.load(run), table)
    with pytest.raises(UserError, match=r"DataFrame: has 20 of the 29 . 7 rows"):
        backtest(isoform.load(run), shop("short", 20))


def test_from_judges_every_series_from_there_on(run: Path) -> None:
    start = runs.frame()["date"][60]
    found = backtest(isoform.load(run), later(), step=1, start=start)
    counts = dict(zip("ab", (263 - HORIZON - 59, 270 - HORIZON - 59), strict=True))
    by_series = found.to_json()["by_series"]
    assert {id: one["windows"] for id, one in by_series.items()} == counts
    assert found.walked.unseen == [] and "from 2026" in found.walked.left_out["new"]


def test_a_file_with_a_new_store(tmp_path: Path) -> None:
    file = case("P1_panel_with_new_store.csv")
    table = pd.read_csv(file)
    data = {"id": "store", "targets": None, "drop": [], "bounds": {}}
    run = runs.trained(
        tmp_path, table, data=data, model={"context": 24, "horizon": 7}, train={"epochs": 1}
    )
    found = backtest(isoform.load(run), file, step=1)
    # Behind all that the run was fitted on, of whichever store: as many as without the new one.
    assert found.judged == 85 and not found.walked.overlapping
    assert list(found.walked.left_out) == ["NEW"]
    assert found.walked.held_back == 300 - 7 - 240 + 1 + 240 - 7 - 192 + 1 - 85


def test_weighted_means_agree_with_eval(tmp_path: Path) -> None:
    """The windows of a run's own file that a backtest judges row by row are its test windows."""
    table = pd.concat([shop("a", 263), shop("bb", 263)])
    run = runs.trained(tmp_path, table, data=LONG, train={"epochs": 1})
    found = backtest(isoform.load(run), table, step=1).to_json()["metrics"]
    test = json.loads((run / "results.json").read_text())["metrics"]["test"]
    for name in ("unit_mae", "unit_rmse", "mae", "coverage_80"):
        assert found[name] == pytest.approx(test[name], rel=1e-4), name
    assert np.isfinite(found["skill_seasonal_naive"])
