"""`isoform timeseries backtest`: which rows are judged, by which figures, and against whose forecasts."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform
from isoform.core.baselines import QUIET
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN
from isoform.timeseries.backtest import backtest
from isoform.timeseries.baselines import baselines
from isoform.timeseries.comparison import ComparisonResult
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.refit import recipe
from isoform.timeseries.scores import Backtest
from isoform.timeseries.significance import diebold_mariano, lags_for
from isoform.timeseries.task import TimeseriesTask

from . import runs
from .files import case
from .panels import panel, series, walk
from .runs import CONTEXT, HORIZON, VARIATES

ROWS, FIRST = (
    431,
    345,
)  # rows of the file, and the first that is neither for training nor validation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    return run.parent / "series.csv"


@pytest.fixture
def cli(cli):
    """Words behind `isoform timeseries backtest` -> (exit code, stdout, stderr)."""
    return partial(cli, "backtest")


@pytest.fixture(scope="module")
def every(run: Path, file: Path) -> pd.DataFrame:
    """Every forecast from every third row."""
    return pd.DataFrame(backtest(isoform.load(run), file, step=3, keep=True).columns())


def at_origins(table: pd.DataFrame) -> np.ndarray:
    """Rows of the file at which the forecasts begin."""
    stamps = list(runs.frame()["date"].astype(str))
    return np.array([stamps.index(one.replace("T", " ")) + 1 for one in table["origin"].unique()])


# Rows and figures -----------------------------------------------------------------------------------------------------


def test_what_is_judged_lies_behind_training_and_validation(
    run: Path, file: Path, every: pd.DataFrame
) -> None:
    assert list(at_origins(every)) == list(range(FIRST, ROWS - HORIZON + 1, 3))
    assert list(every) == [
        "id",
        "origin",
        "stamp",
        "variate",
        "lead",
        "mean",
        "q0.1",
        "q0.5",
        "q0.9",
        "truth",
    ]
    assert len(every) == len(range(FIRST, ROWS - HORIZON + 1, 3)) * HORIZON * len(VARIATES)
    found = backtest(isoform.load(run), file)
    assert (found.origins, found.judged) == (12, 12)  # 345, 352, ..., 422


def test_every_forecast_is_what_forecast_says_from_there(run: Path, every: pd.DataFrame) -> None:
    model, table = isoform.load(run), runs.frame()
    for row in (FIRST, FIRST + 33):
        want = model.forecast(table.iloc[:row])
        origin = str(table["date"][row - 1]).replace(" ", "T")
        mine = every[every["origin"] == origin]
        np.testing.assert_allclose(mine["mean"], want["mean"].values.ravel(), atol=2e-4)
        np.testing.assert_allclose(
            mine["q0.9"], want.quantiles.sel(quantile=0.9).values.ravel(), atol=2e-4
        )
        truth = table.iloc[row : row + HORIZON][VARIATES].to_numpy().ravel()
        np.testing.assert_array_equal(mine["truth"].astype(float), truth)


def test_figures_by_hand(run: Path, file: Path, every: pd.DataFrame) -> None:
    found = backtest(isoform.load(run), file, step=3, lead=2)
    mine = every[every["lead"] >= 2].assign(error=lambda t: t["mean"] - t["truth"].astype(float))
    result = found.to_json()
    assert (
        "unit_mae" not in result["metrics"]
    )  # of kilowatt hours and of two variates without a unit
    for end, those in (
        ("[kWh]", mine["variate"] == VARIATES[2]),
        ("[?]", mine["variate"] != VARIATES[2]),
    ):
        error = mine[those]["error"]
        assert result["metrics"][f"unit_mae{end}"] == pytest.approx(error.abs().mean())
        assert result["metrics"][f"unit_rmse{end}"] == pytest.approx(math.sqrt((error**2).mean()))
        assert result["metrics"][f"unit_bias{end}"] == pytest.approx(error.mean())
        by_step = error.abs().groupby(mine["lead"]).mean()
        found_by_step = {int(k): v[f"unit_mae{end}"] for k, v in result["by_step"].items()}
        assert found_by_step == pytest.approx(by_step.to_dict())
    south = mine[mine["variate"] == "south"]
    inside = (south["q0.1"] <= south["truth"].astype(float)) & (
        south["truth"].astype(float) <= south["q0.9"]
    )
    assert result["by_variate"]["south"]["coverage_80"] == pytest.approx(inside.mean())
    assert result["by_variate"]["south"]["unit_bias"] == pytest.approx(south["error"].mean())
    usual = runs.frame()["south"].shift(24)  # a day before, known at every origin
    rows = [row + step for row in at_origins(every) for step in range(1, HORIZON)]
    naive = (usual.iloc[rows] - runs.frame()["south"].iloc[rows]).abs().mean()
    want = 1 - south["error"].abs().mean() / naive
    assert result["by_variate"]["south"]["skill_seasonal_naive"] == pytest.approx(want, rel=1e-5)
    spread = {name: found.windows.spread_units()[v] for v, name in enumerate(VARIATES)}
    scaled = mine["error"].abs() / mine["variate"].map(spread)
    assert result["metrics"]["mae"] == pytest.approx(scaled.mean())


def test_missing_truth_counts_nowhere(run: Path, every: pd.DataFrame) -> None:
    table = runs.frame()
    table.loc[ROWS - 2, "south"] = (
        np.nan
    )  # the last step of the last window, which begins at row 423
    found = backtest(isoform.load(run), table, step=3)
    want = np.full((HORIZON, len(VARIATES)), len(at_origins(every)))
    want[6, 1] -= 1
    np.testing.assert_array_equal(found.sums["count"], want)
    assert np.isfinite(found.to_json()["metrics"]["unit_mae[?]"])


def test_the_table(run: Path, file: Path, tmp_path: Path, cli) -> None:
    code, out, err = cli(run, file, "--step", 5, "--lead", 4, "--out", tmp_path / "all.csv")
    assert code == 0, err
    assert "16 windows from 16 origins, one each 5 rows; steps 4 to 7 ahead count" in out
    assert len(pd.read_csv(tmp_path / "all.csv")) == 16 * 4 * 3
    lines = out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("steps ahead"))
    assert [line.split()[0] for line in lines[head + 1 : head + 6]] == ["4", "5", "6", "7", "all"]
    code, out, _ = cli(run, file, "--json")
    found = json.loads(out.splitlines()[-1])
    assert (
        found["windows"] == 12
        and list(found["by_variate"]) == VARIATES
        and len(found["by_step"]) == HORIZON
    )


def test_from_judges_earlier_rows(run: Path, file: Path) -> None:
    found = backtest(isoform.load(run), file, start="2026-03-03T05:00")
    assert found.origins == len(range(CONTEXT, ROWS - HORIZON + 1, HORIZON))


def test_it_is_said_where_the_season_before_lies_in_front_of_the_file(
    run: Path, file: Path, tmp_path: Path
) -> None:
    predictor = isoform.load(run)
    state = predictor.inner.state
    predictor.inner.state = state.model_copy(update={"season": 53})
    later = runs.saved(runs.frame()[FIRST:], tmp_path / "later.csv")
    found = backtest(predictor, later)  # windows from rows 29, 36, ..., 71 of 86, and 78
    said = [line for line in found.remarks() if "first season" in line]
    assert [line.split(" windows")[0] for line in said] == ["4 of 8"]
    assert not any("first season" in line for line in backtest(predictor, file).remarks())


def test_mistakes(run: Path, file: Path, tmp_path: Path, cli) -> None:
    runs.frame(FIRST + 3).to_csv(tmp_path / "old.csv", index=False)
    for words, want in (
        ((file, "--step", 0), "--step 0: should be at least 1"),
        ((file, "--lead", 8), "--lead 8: this run forecasts 7 steps"),
        (
            (tmp_path / "old.csv",),
            "behind 2026-03-16T08:00:00, up to where this run was trained and validated",
        ),
        ((file, "--out", "a.nc"), "--out should end in .csv, .parquet"),
        ((file, "--against", tmp_path / "none.csv"), "no such file (--against)"),
    ):
        code, _, err = cli(run, *words)
        assert code == 2 and want in err and len(err.splitlines()) <= 3, err


def test_a_variate_without_a_look_back_is_not_forecast_and_does_not_count(
    run: Path, tmp_path: Path, cli
) -> None:
    table, first = runs.frame(), FIRST + 2 - CONTEXT
    table.loc[first : FIRST + 13, "south"] = np.nan  # a look-back and twelve rows
    table.to_csv(tmp_path / "gap.csv", index=False)
    found = backtest(isoform.load(run), tmp_path / "gap.csv", step=1, keep=True)
    rows = pd.DataFrame(found.columns())
    none = rows[rows["mean"].isna()]
    assert set(none["variate"]) == {"south"} and none[["q0.1", "q0.9"]].isna().all(axis=None)
    at = at_origins(none)
    assert list(at) == list(range(FIRST + 2, FIRST + 15))
    assert found.to_json()["without_look_back"] == {"north": 0, "south": 13, VARIATES[2]: 0}
    south = rows[(rows["variate"] == "south") & rows["mean"].notna() & rows["truth"].notna()]
    assert found.sums["count"][:, 1].sum() == len(south)
    want = (south["mean"] - south["truth"].astype(float)).abs().mean()
    assert found.to_json()["by_variate"]["south"]["unit_mae"] == pytest.approx(want)
    code, _, err = cli(run, tmp_path / "gap.csv", "--step", 1)
    assert code == 0
    assert "no value in the 29 rows of look-back (south in 13 of 80 windows): there is no" in err


@pytest.mark.parametrize("season", [5, 24])
def test_the_seasonal_naive_forecast_is_that_of_the_runs_season(
    run: Path, file: Path, every: pd.DataFrame, season: int
) -> None:
    model = isoform.load(run)
    assert model.state.season == 24
    model.state = model.state.model_copy(update={"season": season})
    south = runs.frame()["south"]
    mine = every[every["variate"] == "south"]
    steps = np.arange(HORIZON)
    rows = at_origins(every)[:, None] + steps
    known = rows - season * (steps // season + 1)
    naive = np.abs(south.to_numpy()[known] - south.to_numpy()[rows]).mean()
    want = 1 - (mine["mean"] - mine["truth"].astype(float)).abs().mean() / naive
    found = backtest(model, file, step=3).to_json()["by_variate"]["south"]
    assert found["skill_seasonal_naive"] == pytest.approx(want, rel=1e-4)


def test_a_week_of_six_hours_is_the_season_of_report_and_backtest(tmp_path: Path) -> None:
    path = case("S5_weekly_pattern_6h.csv")
    table = pd.read_csv(path)
    (name,) = set(table) - {"date"}
    config = {"data": {"drop": [], "bounds": {}}, "model": {"context": 56, "horizon": 4}}
    folder = runs.trained(tmp_path, table, **config, train={"epochs": 1})
    model = isoform.load(folder)
    assert model.state.season == 28
    found = backtest(model, path, step=1, keep=True)
    rows = pd.DataFrame(found.columns())
    first = len(table) - round(0.2 * len(table))
    steps = np.arange(first, len(table) - 4 + 1)[:, None] + np.arange(4)
    value = table[name].to_numpy()
    naive = np.abs(value[steps - 28] - value[steps]).mean()
    assert naive == pytest.approx(2.31, abs=0.005)
    ours = (rows["mean"] - rows["truth"].astype(float)).abs().mean()
    assert found.figures()["skill_seasonal_naive"] == pytest.approx(1 - ours / naive, rel=1e-4)
    data = DOMAIN.prepare(runs.app(path, **config)).data
    task = TimeseriesTask(runs.app(path, **config), data)
    offered = {one.name: one for one in baselines(data, task.accumulator, task.season)}
    report = offered["seasonal_naive"].fit(QUIET)
    assert report["test"]["unit_mae"] == pytest.approx(naive, rel=1e-5)


def test_a_backtest_says_what_eval_says_of_the_same_windows(run: Path, file: Path) -> None:
    """Inside data.bounds, which the forecasts and the values of the third variate reach."""
    found = backtest(isoform.load(run), file, step=1)
    ours, test = found.to_json()["metrics"], json.loads((run / "results.json").read_text())
    eval_says = test["metrics"]["test"]
    assert found.judged == eval_says["windows"]
    for name in ("unit_mae[kWh]", "unit_mae[?]", "unit_rmse[kWh]", "mae", "coverage_80"):
        assert ours[name] == pytest.approx(eval_says[name], rel=1e-4), name


def test_tiny_values_keep_their_digits(tmp_path: Path, cli) -> None:
    """A run doesn't know how large its values are: a million millionth of them gives the same digits."""
    columns = {}
    for name, size in (("usual", 1.0), ("tiny", 1e-12)):
        (tmp_path / name).mkdir()
        table = runs.frame()[["date", "north"]]
        table["north"] *= size
        data = {"bounds": {}, "drop": []}
        made = runs.trained(tmp_path / name, table, data=data, train={"epochs": 1})
        out = tmp_path / f"{name}.csv"
        assert cli(made, made.parent / "series.csv", "--out", out)[0] == 0
        columns[name] = pd.read_csv(out)
    usual, tiny = columns["usual"], columns["tiny"]
    for name in ("mean", "q0.1", "q0.9", "truth"):
        np.testing.assert_allclose(tiny[name] * 1e12, usual[name], rtol=1e-3)


# Against somebody else's ----------------------------------------------------------------------------------------------


def theirs(every: pd.DataFrame, noise: float = 0.0) -> pd.DataFrame:
    """Forecasts that are off by that much more than ours, by turns too high and too low."""
    error = every["mean"] - every["truth"].astype(float)
    off = np.sign(error) * noise * every["truth"].astype(float).abs()
    return every[["origin", "stamp", "variate"]].assign(value=every["mean"] + off)


def only(found: Backtest) -> ComparisonResult:
    """The comparison of a file that holds one forecaster's."""
    (verdict,) = found.comparisons.values()
    return verdict


def test_the_same_forecasts_are_no_better(
    run: Path, file: Path, every: pd.DataFrame, tmp_path: Path
) -> None:
    theirs(every).to_csv(tmp_path / "same.csv", index=False)
    verdict = only(backtest(isoform.load(run), file, step=3, against=tmp_path / "same.csv"))
    assert (verdict.skill_mae, verdict.skill_rmse, verdict.pooled.statistic, verdict.pooled.p) == (
        0,
        0,
        0,
        1,
    )
    assert verdict.cells == len(every)


def test_skill_and_test_by_hand(
    run: Path, file: Path, every: pd.DataFrame, tmp_path: Path, cli
) -> None:
    other = theirs(every)
    other["value"] += np.random.default_rng(5).normal(0, 3, len(other))
    other.sample(frac=1, random_state=3).to_csv(tmp_path / "ours.csv", index=False)
    found = backtest(isoform.load(run), file, step=3, against=tmp_path / "ours.csv")
    verdict = only(found)
    spread = every["variate"].map(
        {name: found.windows.spread_units()[v] for v, name in enumerate(VARIATES)}
    )
    mine = (every["mean"] - every["truth"].astype(float)).abs() / spread
    his = (other["value"] - every["truth"].astype(float)).abs() / spread
    assert verdict.skill_mae == pytest.approx(1 - mine.mean() / his.mean())
    assert verdict.skill_rmse == pytest.approx(1 - math.sqrt((mine**2).mean() / (his**2).mean()))
    pooled = (mine - his).groupby(every["origin"], sort=False).mean().to_numpy()
    lags = lags_for(len(pooled), HORIZON, 3)
    want = diebold_mariano(pooled, lags)
    assert (
        verdict.pooled.statistic == pytest.approx(want.statistic, rel=1e-9)
        and verdict.pooled.lags == lags == 2
    )
    assert verdict.pooled.p == pytest.approx(want.p, rel=1e-6)
    code, out, _ = cli(run, file, "--step", 3, "--against", tmp_path / "ours.csv")
    assert (
        code == 0
        and "smaller than that of ours.csv" in out
        and "more than luck would explain" in out
    )


def test_without_an_origin_one_forecast_a_stamp(
    run: Path, file: Path, every: pd.DataFrame, tmp_path: Path
) -> None:
    """A file of what was said of each stamp, whenever; in any of the forms that people have it in."""
    model = isoform.load(run)
    table = runs.frame().iloc[FIRST:]
    said = table[["date", *VARIATES]].assign(**{name: table[name] + 1.5 for name in VARIATES})
    said.to_csv(tmp_path / "wide.csv", index=False)
    long = said.melt("date", var_name="unique_id", value_name="yhat").rename(columns={"date": "ds"})
    long.to_parquet(tmp_path / "long.parquet")
    wide = only(backtest(model, file, step=3, against=tmp_path / "wide.csv"))
    assert wide.cells == len(every)
    spread = every["variate"].map(
        dict(zip(VARIATES, backtest(model, file).windows.spread_units(), strict=True))
    )
    mine = (every["mean"] - every["truth"].astype(float)).abs() / spread
    assert wide.skill_mae == pytest.approx(1 - mine.mean() / (1.5 / spread).mean())
    other = only(backtest(model, file, step=3, against=tmp_path / "long.parquet"))
    assert other.skill_mae == wide.skill_mae
    half = long[long["unique_id"] == "south"].head(20)
    half.to_csv(tmp_path / "half.csv", index=False)
    part = only(backtest(model, file, step=3, against=tmp_path / "half.csv"))
    assert math.isnan(part.variates[0].p) and part.cells < wide.cells


def test_forecasts_that_cannot_be_compared(
    run: Path, file: Path, every: pd.DataFrame, tmp_path: Path
) -> None:
    model, path = isoform.load(run), tmp_path / "a.csv"
    good = theirs(every)
    for table, want in (
        (
            good.drop(columns="origin"),
            "holds several forecasts of north at .*; add a column origin",
        ),
        (good.drop(columns="stamp"), "no column is called stamp, date or time"),
        (good.drop(columns="value"), "needs the columns stamp, variate and value"),
        (good.assign(variate="else"), "none of its .* forecasts meets a row"),
        (good.assign(stamp="2031-01-01T00:00:00"), "none of its .* forecasts meets a row"),
        (good.assign(stamp=good["stamp"] + "+01:00"), "stamps have an offset"),
        (
            good.head(9).assign(origin="2026-03-16T07:00"),
            "no forecast there is of a stamp, variate and origin",
        ),
    ):
        table.to_csv(path, index=False)
        with pytest.raises(UserError, match=want):
            backtest(model, file, step=3, against=path)


def test_few_origins_are_said_not_to_be_enough(
    run: Path, file: Path, every: pd.DataFrame, tmp_path: Path, cli
) -> None:
    theirs(every, 0.1).to_csv(tmp_path / "a.csv", index=False)
    code, out, _ = cli(run, file, "--step", 15, "--against", tmp_path / "a.csv")
    assert code == 0 and "6 origins are too few for a test" in out


# Refits ---------------------------------------------------------------------------------------------------------------


def test_refits_use_what_came_before_and_nothing_else(run: Path) -> None:
    model, table = isoform.load(run), runs.frame()
    plain = pd.DataFrame(backtest(model, table, keep=True).columns())
    again = pd.DataFrame(backtest(model, table, refit=5, keep=True).columns())
    assert (
        backtest(model, table, keep=True).columns()["mean"].tolist() == plain["mean"].tolist()
    )  # as it was
    changed = table.copy()
    second = FIRST + 5 * HORIZON  # the first origin that is trained for
    changed.loc[second:, VARIATES] += 1000
    other = pd.DataFrame(backtest(isoform.load(run), changed, refit=5, keep=True).columns())
    rows = np.repeat(at_origins(plain), HORIZON * len(VARIATES))
    before, there = rows < second, rows == second
    np.testing.assert_array_equal(plain["mean"][before], again["mean"][before])
    assert (plain["mean"][there] != again["mean"][there]).mean() > 0.5
    np.testing.assert_array_equal(again["mean"][before | there], other["mean"][before | there])


def test_the_recipe() -> None:
    config = runs.app(Path("series.csv"), train={"lr": 0.02, "warmup": 1.0, "patience": 3})
    t = recipe(config).train
    assert (t.epochs, t.lr, t.schedule, t.warmup, t.patience) == (
        1,
        pytest.approx(0.002),
        "constant",
        0,
        None,
    )
    assert (t.batch, t.seed) == (config.train.batch, config.train.seed)


def test_a_fold_is_trained_on_with_every_row_that_came_before() -> None:
    config = runs.app(Path("series.csv"), data={"folds": 3, "fold": 1})
    past = panel(series(walk(ROWS, len(VARIATES))))
    sizes = WindowData(recipe(config), past).sizes()
    assert sizes == {"train": ROWS - CONTEXT - HORIZON + 1}


# Several series, and a clock that changes -----------------------------------------------------------------------------


def test_series_and_zones(tmp_path: Path) -> None:
    zone = "Europe/Berlin"
    parts = []
    for k, name in enumerate(("a", "b")):
        table = runs.frame(263 + k, start="2026-10-16").assign(shop=name)
        table["date"] = table["date"].dt.tz_localize("UTC").dt.tz_convert(zone).dt.tz_localize(None)
        parts.append(table[["shop", "date", "north"]])
    long = pd.concat(parts)
    assert long[long["shop"] == "a"]["date"].duplicated().sum() == 1
    run = runs.trained(
        tmp_path, long, train={"epochs": 1},
        data={"id": "shop", "panel": "series", "targets": ["north"], "drop": [], "bounds": {}, "tz": zone},
    )  # fmt: skip
    model = isoform.load(run)
    found = backtest(model, long, step=4, start="2026-10-24", keep=True)
    table = pd.DataFrame(found.columns())
    assert set(table["id"]) == {"a", "b"} and found.judged > found.origins
    first = table[(table["id"] == "b") & (table["lead"] == 1)]
    assert (
        first["stamp"].str.endswith("+02:00").any() and first["stamp"].str.endswith("+01:00").any()
    )
    # Their forecasts without offsets, in order: the doubled hour is told apart.
    local = table[["id", "origin", "stamp", "mean"]].rename(columns={"mean": "value"})
    for name in ("origin", "stamp"):
        local[name] = local[name].str[:19]
    local.to_csv(tmp_path / "local.csv", index=False)
    table[["id", "origin", "stamp", "mean"]].to_csv(tmp_path / "offsets.csv", index=False)
    verdicts = [
        only(backtest(model, long, step=4, start="2026-10-24", against=tmp_path / f"{name}.csv"))
        for name in ("offsets", "local")
    ]
    unclear = table["origin"].str.startswith("2026-10-25T02:00").sum()
    assert unclear and [one.cells for one in verdicts] == [len(table), len(table) - unclear]
    assert [one.pooled.p for one in verdicts] == [1, 1]
