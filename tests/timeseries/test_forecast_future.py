"""Forecasts of what is known ahead: the clock of a zone and its changes, and covariates of the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.timeseries.forecast import columns_of

from . import runs
from .runs import HORIZON, VARIATES, saved

ZONE = "Europe/Berlin"
KNOWN = {"tz": ZONE, "known_future": ["temp"], "drop": [], "holidays": "DE"}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on local stamps of Berlin with a known covariate, holidays and quantiles of its own."""
    return runs.trained(
        tmp_path_factory.mktemp("known"), data=KNOWN, head=runs.QUANTILES,
        tokeniser={"calendar": "future"}, train={"epochs": 1},
    )  # fmt: skip


# Time -----------------------------------------------------------------------------------------------------------------


def berlin(rows: int, start: str) -> pd.DataFrame:
    """Hours of Berlin's clock without their offset, as a logger writes them, from `start` (local)."""
    table = runs.frame(
        rows, start=str(pd.Timestamp(start, tz=ZONE).tz_convert("UTC").tz_localize(None))
    )
    table["date"] = table["date"].dt.tz_localize("UTC").dt.tz_convert(ZONE).dt.tz_localize(None)
    return table


@pytest.mark.parametrize(
    ("rows", "start", "offsets"),
    [  # spring: 29 March has no 2:00; autumn: 25 October has two
        (73, "2026-03-26T00:00", ["+01:00"] + ["+01:00"] + ["+02:00"] * 5),
        (73, "2026-10-22T00:00", ["+02:00"] * 3 + ["+01:00"] * 4),
    ],
)
def test_stamps_across_a_change_of_the_clock(
    known: Path, tmp_path: Path, cli, rows, start, offsets
) -> None:
    table = berlin(rows - 1 + HORIZON, start)
    table.loc[rows - 1 :, VARIATES] = np.nan  # what follows is weather alone
    code, _, err = cli(
        "forecast", known, saved(table, tmp_path / "a.csv"), "--out", tmp_path / "next.csv"
    )
    assert code == 0, err
    stamps = pd.read_csv(tmp_path / "next.csv")["stamp"].unique()
    assert [stamp[-6:] for stamp in stamps] == offsets
    instants = pd.to_datetime(stamps, utc=True)
    assert (np.diff(instants) == np.timedelta64(1, "h")).all() and len(stamps) == HORIZON


def test_look_back_across_a_change_of_the_clock(known: Path) -> None:
    """The doubled hour is two rows: the forecast equals that of the same rows with their offsets."""
    table = berlin(60 + HORIZON, "2026-10-24T00:00")
    assert table["date"].duplicated().sum() == 1
    aware = table.assign(date=table["date"].dt.tz_localize(ZONE, ambiguous="infer"))
    model = isoform.load(known)
    start = aware["date"].iloc[60].isoformat()
    xr.testing.assert_equal(model.forecast(table, start=start), model.forecast(aware, start=start))


def test_from_is_local_time_or_has_an_offset(known: Path) -> None:
    model, table = isoform.load(known), berlin(100, "2026-10-22T00:00")
    local = model.forecast(table, start="2026-10-24T05:00")
    xr.testing.assert_equal(local, model.forecast(table, start="2026-10-24T03:00Z"))
    first = columns_of(local)["stamp"][0]
    assert first == "2026-10-24T05:00:00+02:00"
    for twice, offset in (("2026-10-25T02:00", "+02:00"), ("2026-10-25T02:00+01:00", "+01:00")):
        assert (
            columns_of(model.forecast(table, start=twice))["stamp"][0]
            == f"2026-10-25T02:00:00{offset}"
        )


def test_days_are_written_as_days() -> None:
    time = pd.date_range("2026-03-28", periods=3)
    found = xr.Dataset(
        {"mean": (("time", "variate"), np.arange(6.0).reshape(3, 2))},
        {"time": time, "variate": ["a", "b"], "step": ("time", [1, 2, 3])},
    )
    assert columns_of(found)["stamp"].tolist()[::2] == ["2026-03-28", "2026-03-29", "2026-03-30"]


# Covariates of the future ---------------------------------------------------------------------------------------------


def test_the_future_may_be_a_file_or_rows_of_the_same(known: Path, tmp_path: Path, cli) -> None:
    table = berlin(90 + HORIZON, "2026-05-01T00:00")
    rows = table.copy()
    rows.loc[90:, VARIATES] = np.nan
    history = saved(table.iloc[:90], tmp_path / "history.csv")
    future = saved(table.iloc[90:][["date", "temp"]], tmp_path / "future.csv")
    model = isoform.load(known)
    want = model.forecast(rows)
    xr.testing.assert_equal(want, model.forecast(history, future=future))
    xr.testing.assert_equal(
        want, model.forecast(table.iloc[:90].drop(columns="temp"), future=table[["date", "temp"]])
    )
    warmer = table[["date", "temp"]].assign(temp=lambda t: t["temp"] + 5)
    assert (model.forecast(history, future=warmer.iloc[90:])["mean"] != want["mean"]).any()
    code, _, err = cli(
        "forecast", known, history, "--future", future, "--out", tmp_path / "next.csv"
    )
    assert code == 0, err
    np.testing.assert_array_equal(
        pd.read_csv(tmp_path / "next.csv")["mean"], want["mean"].values.ravel()
    )


def test_the_look_back_goes_by_the_file_and_the_horizon_by_the_future(known: Path) -> None:
    table = berlin(90 + HORIZON, "2026-05-01T00:00")
    model, start = isoform.load(known), table["date"][90]
    said = table[["date", "temp"]].copy()
    want = model.forecast(table, start=start, future=said)
    said.loc[:89, "temp"] = -40  # what the forecast of the weather said then
    xr.testing.assert_equal(want, model.forecast(table, start=start, future=said))


def test_a_future_that_ends_too_soon_says_which_columns_and_when(
    known: Path, tmp_path: Path, cli
) -> None:
    table = berlin(90 + HORIZON, "2026-05-01T00:00")
    history = saved(table.iloc[:90], tmp_path / "history.csv")
    code, _, err = cli("forecast", known, history, "--out", tmp_path / "next.csv")
    assert code == 2 and "(temp: not known); give them with --future" in err
    future = saved(table.iloc[90:93][["date", "temp"]], tmp_path / "future.csv")
    code, _, err = cli(
        "forecast", known, history, "--future", future, "--out", tmp_path / "next.csv"
    )
    assert code == 2 and "temp: known until 2026-05-04T20:00:00+02:00" in err and "too short" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["future.csv", "history.csv"]


def test_a_gap_in_the_future_is_filled_and_said(known: Path) -> None:
    table = berlin(90 + HORIZON, "2026-05-01T00:00")
    table.loc[90:, VARIATES] = np.nan
    table.loc[92, "temp"] = np.nan
    with pytest.warns(UserWarning, match="gaps of temp in the horizon"):
        assert np.isfinite(isoform.load(known).forecast(table)["mean"]).all()


def test_the_models_own_quantiles_do_not_cross(known: Path) -> None:
    table = berlin(90 + HORIZON, "2026-05-01T00:00")
    found = (
        isoform.load(known)
        .forecast(table, start=table["date"][90], levels=(0.1, 0.2, 0.5, 0.77, 0.9))
        .quantiles
    )
    assert (found.diff("quantile") >= 0).all() and found.sizes["quantile"] == 5
