"""`isoform timeseries forecast` on files as people have them, and the same from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.core import api
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.report import drawing
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN, inputs_for_run, plots
from isoform.timeseries.baselines import method
from isoform.timeseries.forecast import columns_of, parse_levels, write
from isoform.timeseries.task import TimeseriesTask

from . import panels, runs
from .runs import CONTEXT, HORIZON, VARIATES, saved

ZONE = "Europe/Berlin"
KNOWN = {"tz": ZONE, "known_future": ["temp"], "drop": [], "holidays": "DE"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on stamps without a zone; its intervals are conformal."""
    return runs.trained(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on local stamps of Berlin with a known covariate, holidays and quantiles of its own."""
    return runs.trained(
        tmp_path_factory.mktemp("known"), data=KNOWN, head={"quantiles": [0.1, 0.5, 0.9]},
        tokeniser={"calendar": "future"}, train={"epochs": 1},
    )  # fmt: skip


# What is written ------------------------------------------------------------------------------------------------------


def test_the_table_has_exactly_these_columns_and_rows(plain: Path, tmp_path: Path, cli) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    code, out, _ = cli(
        "forecast", plain, file, "--out", tmp_path / "next.csv", "--quantiles", ".9,.05"
    )
    table = pd.read_csv(tmp_path / "next.csv")
    assert code == 0 and "next.csv" in out
    assert list(table) == ["id", "stamp", "variate", "mean", "q0.05", "q0.9"]
    last = runs.frame()["date"].iloc[-1]
    stamps = pd.date_range(last, periods=HORIZON + 1, freq="h")[1:]
    assert list(pd.to_datetime(table["stamp"])) == list(np.repeat(stamps, len(VARIATES)))
    assert list(table["variate"]) == VARIATES * HORIZON
    assert (table["q0.05"] <= table["q0.9"]).all()
    bounded = table[table["variate"] == VARIATES[2]]
    assert (
        bounded[["mean", "q0.05", "q0.9"]].to_numpy().min() == 0
    )  # the model alone would go below
    assert bounded[["mean", "q0.05", "q0.9"]].to_numpy().max() == 0.28


def test_all_formats_say_the_same(plain: Path, tmp_path: Path, cli) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    for suffix in ("csv", "parquet", "nc", "zarr"):
        assert cli("forecast", plain, file, "--out", tmp_path / f"next.{suffix}")[0] == 0
    table = pd.read_csv(tmp_path / "next.csv")
    parquet = pd.read_parquet(tmp_path / "next.parquet")
    assert list(parquet) == list(table)
    pd.testing.assert_series_equal(
        parquet["stamp"], pd.to_datetime(table["stamp"]), check_dtype=False
    )
    for path, opened in (("nc", xr.open_dataset), ("zarr", xr.open_zarr)):
        with opened(tmp_path / f"next.{path}") as found:
            assert found["mean"].dims == ("time", "variate") and found.quantiles.dims == (
                "time",
                "variate",
                "quantile",
            )
            np.testing.assert_array_equal(found["mean"].values.ravel(), table["mean"])
            np.testing.assert_array_equal(
                found.quantiles.values.reshape(-1, 3), table[["q0.1", "q0.5", "q0.9"]]
            )
            assert list(found.units.values) == ["", "", "kWh"] and list(found.step.values) == [
                *range(1, HORIZON + 1)
            ]
    assert parquet["mean"].tolist() == table["mean"].tolist()


def test_without_out_the_table_is_printed(plain: Path, tmp_path: Path, cli) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    code, out, _ = cli("forecast", plain, file, "--quantiles", "")
    assert code == 0 and out.splitlines()[0] == "id,stamp,variate,mean"
    assert len(out.splitlines()) == 1 + HORIZON * len(VARIATES)
    code, out, _ = cli("forecast", plain, file, "--json")
    found = json.loads(out.splitlines()[-1])
    assert (found["horizon"], found["variates"], found["quantiles"]) == (
        HORIZON,
        len(VARIATES),
        [0.1, 0.5, 0.9],
    )
    assert found["rows"]["variate"][:3] == VARIATES


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures(plain: Path, tmp_path: Path, cli, suffix: str) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    code, _, err = cli(
        "forecast", plain, file, "--plot", tmp_path / f"a.{suffix}", "--from", "2026-03-10T07:00"
    )
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert code == 0, err
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])


def test_what_a_picture_shows(plain: Path, tmp_path: Path) -> None:
    model, table = isoform.load(plain), runs.frame()
    panel = model.read(table)
    start = CONTEXT + 100
    found = plots.curves(model.forecast(panel, start=table["date"][start]), panel)
    assert [curve.title for curve in found] == [*VARIATES[:2], VARIATES[2]]
    np.testing.assert_array_equal(found[1].truth, table["south"][start : start + HORIZON])
    np.testing.assert_array_equal(found[1].past[1], table["south"][start - 3 * HORIZON : start])
    beyond = plots.curves(model.forecast(panel), panel)
    assert np.isnan(beyond[0].truth).all()


# The numbers ----------------------------------------------------------------------------------------------------------


def test_only_the_look_back_counts(plain: Path) -> None:
    model, table = isoform.load(plain), runs.frame()
    start = 200
    before = model.forecast(table.iloc[:start])
    later = table.copy()
    later.loc[start:, VARIATES] = 1e6
    xr.testing.assert_equal(before, model.forecast(later, start=table["date"][start]))
    earlier = table.iloc[start - CONTEXT : start]
    np.testing.assert_array_equal(before["mean"], model.forecast(earlier)["mean"])


def test_a_forecast_is_what_evaluation_said_of_that_window(plain: Path) -> None:
    """Same scale, same look-back: the mean equals the stored prediction of the same origin, to the digits shown."""
    stored = xr.open_dataset(plain / "predictions.nc", engine="h5netcdf")
    table, k = runs.frame(), 11
    start = pd.Timestamp(stored.origin.values[k]) + pd.Timedelta("1h")
    found = isoform.load(plain).forecast(table, start=start, levels=())
    want = stored.forecast.values[k]
    np.testing.assert_allclose(found["mean"][:, :2], want[:, :2], atol=2e-4)
    np.testing.assert_allclose(found["mean"][:, 2], want[:, 2], atol=2e-6)


def test_columns_in_another_order_and_more_of_them_change_nothing(plain: Path) -> None:
    model, table = isoform.load(plain), runs.frame()
    other = table.assign(extra=1.5)[["extra", VARIATES[2], "north", "date", "south"]]
    xr.testing.assert_equal(model.forecast(table), model.forecast(other))


def test_missing_values_rows_and_order(plain: Path, tmp_path: Path, cli) -> None:
    """30 % NaN, a row left out and rows shuffled: the same forecast as from the gappy table in order."""
    rng = np.random.default_rng(1)
    table = runs.frame()
    table[VARIATES] = table[VARIATES].where(rng.random((len(table), 3)) > 0.3)
    table.loc[400, VARIATES] = np.nan
    model = isoform.load(plain)
    want = model.forecast(table)
    assert np.isfinite(want["mean"]).all()
    messy = table.drop(index=400).sample(frac=1, random_state=2)
    xr.testing.assert_equal(want, model.forecast(messy))


def test_a_variate_without_values_is_not_made_up(plain: Path, tmp_path: Path, cli) -> None:
    table = runs.frame()
    table.loc[len(table) - CONTEXT :, "south"] = np.nan
    code, _, err = cli(
        "forecast", plain, saved(table, tmp_path / "a.csv"), "--out", tmp_path / "next.csv"
    )
    found = pd.read_csv(tmp_path / "next.csv")
    assert code == 0 and f"south: no value in the {CONTEXT} rows before the forecast" in err
    assert found[found["variate"] == "south"][["mean", "q0.1"]].isna().all(axis=None)
    assert found[found["variate"] != "south"][["mean", "q0.1"]].notna().all(axis=None)


def test_variates_never_seen(plain: Path, tmp_path: Path) -> None:
    """A file with none of the run's columns is forecast as it is, any number of variates."""
    table = (
        runs.frame()
        .rename(columns={"north": "a", "south": "b", VARIATES[2]: "c"})
        .assign(d=lambda t: 100 * t["a"])
    )
    model = isoform.load(plain)
    found = model.forecast(table.drop(columns="temp"))
    assert list(found.variate.values) == ["a", "b", "c", "d"]
    assert (
        "4 of 4 variates are new to this run"
        in model.read(table.drop(columns="temp")).findings.lines[-1]
    )
    np.testing.assert_allclose(
        found["mean"].sel(variate="d"), 100 * found["mean"].sel(variate="a"), rtol=1e-4
    )


def test_a_model_bound_to_its_variates_takes_no_others(plain: Path) -> None:
    predictor = isoform.load(plain).inner
    other = panels.panel(panels.series(panels.walk(97, 5)))
    assert (
        inputs_for_run.read_for_run(other, predictor.config, predictor.state).variates
        == other.variates
    )
    for table, key, value in (("model", "normalise", "revin"), ("tokeniser", "identity", True)):
        changed = getattr(predictor.config, table).model_copy(update={key: value})
        config = predictor.config.model_copy(update={table: changed})
        with pytest.raises(UserError, match=f"learned something of each of its 3 .*{key}"):
            inputs_for_run.read_for_run(other, config, predictor.state)
        changes = {"scaling": None, "variates": [f"variate {k}" for k in range(5)]}
        nameless = predictor.state.model_copy(update=changes)
        assert inputs_for_run.read_for_run(other, config, nameless).variates == other.variates


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


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_mistakes_are_one_sentence_and_leave_nothing(plain: Path, tmp_path: Path, cli) -> None:
    table = runs.frame()
    daily = table.set_index("date").resample("D").mean().reset_index()
    sparse = table.iloc[::3]
    cases = {
        "no column": (table.drop(columns="south"), [], 'has no column "south"'),
        "text": (table.assign(south="low"), [], 'column "south" holds no number'),
        "one row": (table.iloc[:1], [], f"has 1 row, and this run looks back {CONTEXT}"),
        "short": (
            table.iloc[: CONTEXT - 1],
            [],
            f"has {CONTEXT - 1} rows, and this run looks back {CONTEXT}",
        ),
        "days": (daily, [], "its rows are D apart, and this run forecasts steps of h"),
        "3 h": (sparse, [], "its rows are 3h apart, and this run forecasts steps of h"),
        "stamp": (table, ["--from", "soon"], "--from soon: is no stamp"),
        "offset": (table, ["--from", "2026-03-05T03:00Z"], "have no offset; leave it out"),
        "between": (
            table,
            ["--from", "2026-03-05T03:20"],
            "nearest are 2026-03-05T03:00:00 and 2026-03-05T04:00:00",
        ),
        "later": (
            table,
            ["--from", "2027-01-01"],
            "a forecast from 2026-03-02T00:00:00 to 2026-03-19T23:00:00",
        ),
        "first": (table, ["--from", "2026-03-02T05:00"], "has 5 rows before 2026-03-02T05:00"),
        "level": (table, ["--quantiles", "0.5,1.5"], "every level lies between 0 and 1"),
        "word": (table, ["--quantiles", "low"], "should be numbers"),
        "tail": (
            table,
            ["--quantiles", "0.001"],
            "quantile 0.001: this run's quantiles go from 0.05 to 0.95",
        ),
        "future": (table, ["--future", "series.csv"], "has no known-future covariates"),
        "ending": (table, ["--out", "a.xlsx"], "--out should end in .csv, .parquet, .nc, .zarr"),
        "picture": (table, ["--plot", "a.gif"], "a.gif: a picture ends in .png, .svg, .pdf"),
    }
    for name, (frame, words, want) in cases.items():
        file = saved(frame, tmp_path / "series.csv")
        place = [] if "--out" in words else ["--out", tmp_path / "next.csv"]
        code, out, err = cli("forecast", plain, file, *words, *place)
        said = err.splitlines()[-1]
        assert (code, out) == (2, "") and want in said and "Traceback" not in err, (name, err)
        assert [path.name for path in tmp_path.iterdir()] == ["series.csv"], name


def test_a_missing_file(plain: Path, tmp_path: Path, cli) -> None:
    code, _, err = cli("forecast", plain, tmp_path / "none.csv")
    assert code == 2 and "no such file" in err


def test_table_and_picture_are_written_both_or_neither(
    plain: Path, tmp_path: Path, cli, monkeypatch
) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    (tmp_path / "a.svg").mkdir()
    monkeypatch.setattr(drawing, "picture", lambda plot, path: b"<svg/>")
    for out in ("next.csv", "next.parquet", "next.nc", "next.zarr"):
        code, _, err = cli(
            "forecast", plain, file, "--out", tmp_path / out, "--plot", tmp_path / "a.svg"
        )
        assert code == 2 and "a.svg" in err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "series.csv"]


def test_a_store_is_not_overwritten(plain: Path, tmp_path: Path) -> None:
    found = isoform.load(plain).forecast(runs.frame())
    write(found, tmp_path / "a.zarr")
    with pytest.raises(UserError, match="exists already"):
        write(found, tmp_path / "a.zarr")


def test_levels() -> None:
    assert (
        parse_levels(".9, .1,.1") == (0.1, 0.9)
        and parse_levels("") == ()
        and parse_levels(None) is None
    )


# Size -----------------------------------------------------------------------------------------------------------------


def test_thousands_of_variates(plain: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(CONTEXT, 3_001)).round(3)
    table = pd.DataFrame(values, columns=[f"s{i}" for i in range(3_001)])
    table.insert(0, "date", pd.date_range("2026-01-01", periods=CONTEXT, freq="h"))
    write(isoform.load(plain).forecast(table), tmp_path / "next.csv")
    found = pd.read_csv(tmp_path / "next.csv")
    assert len(found) == 3_001 * HORIZON and np.isfinite(found["mean"]).all()


@pytest.mark.filterwarnings("ignore")
def test_of_a_store_only_the_look_back_is_read(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """netCDF and Zarr hold the same as the csv; what streams from the disk is not read through."""
    table = runs.frame()
    columns = {name: ("date", table[name].to_numpy()) for name in VARIATES}
    arrays = xr.Dataset(columns, {"date": table["date"].to_numpy()})
    arrays.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    arrays.to_zarr(
        tmp_path / "a.zarr", zarr_format=2, encoding={name: {"chunks": (13,)} for name in VARIATES}
    )
    model = isoform.load(plain)
    want = model.forecast(table)
    np.testing.assert_array_equal(model.forecast(tmp_path / "a.nc")["mean"], want["mean"])
    config = model.inner.config
    streamed = config.data.model_copy(update={"stream": "disk"})
    monkeypatch.setattr(model.inner, "config", config.model_copy(update={"data": streamed}))
    panel = model.read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(model.forecast(panel)["mean"], want["mean"])
    assert not panel.first["target"].variable._in_memory


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


# The other verbs ------------------------------------------------------------------------------------------------------


def test_predict_and_embed_take_files(plain: Path, tmp_path: Path, cli) -> None:
    good, bad = (
        saved(runs.frame(), tmp_path / "good.csv"),
        saved(runs.frame(3), tmp_path / "bad.csv"),
    )
    code, _, err = cli("predict", plain, good, bad, "--out", tmp_path / "rows.csv")
    assert code == 0 and "bad.csv" in err
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (
        list(rows)[:5] == ["input", "id", "stamp", "variate", "mean"] and list(rows)[-1] == "error"
    )
    assert len(rows) == HORIZON * len(VARIATES) + 1 and "has 3 rows" in rows["error"].iloc[-1]
    assert cli("embed", plain, good, bad, "--out", tmp_path / "e.npz")[0] == 0
    with np.load(tmp_path / "e.npz") as stored:
        assert stored["features"].shape == (2, 16)
        assert np.isfinite(stored["features"][0]).all() and np.isnan(stored["features"][1]).all()
    features = isoform.load(plain).features(runs.frame())
    np.testing.assert_allclose(
        features.mean(("id", "variate")), isoform.load(plain).embed([runs.frame()])[0], rtol=1e-6
    )


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


def test_a_path_a_table_and_a_series_are_one_input(plain: Path, tmp_path: Path) -> None:
    file, model = saved(runs.frame(), tmp_path / "series.csv"), isoform.load(plain)
    listed = model.predict([file])
    assert model.predict(file) == model.predict(str(file)) == listed and len(listed) > 1
    keep = ("id", "stamp", "variate", "mean", "error")
    frame = model.predict(runs.frame())
    assert [[row[k] for k in keep] for row in frame] == [[row[k] for k in keep] for row in listed]
    np.testing.assert_array_equal(model.embed(file), model.embed([file]))
    (row,) = model.predict(runs.frame().set_index("date")[VARIATES[0]])
    assert row["error"] == "Series: give a file, a pandas DataFrame or a Panel"
