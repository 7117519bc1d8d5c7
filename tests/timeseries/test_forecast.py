"""`isoform timeseries forecast` on files as people have them, and the same from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.core.errors import UserError
from isoform.core.report import drawing
from isoform.timeseries import inputs_for_run, plots
from isoform.timeseries.forecast import parse_levels, write

from . import panels, runs
from .runs import CONTEXT, HORIZON, VARIATES, saved

FIRST = "2026-03-03T05:00:00"  # the 29 rows of a look-back behind the first one of `runs.frame`


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on stamps without a zone; its intervals are conformal."""
    return runs.trained(tmp_path_factory.mktemp("plain"))


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
            f"a forecast from {FIRST} to 2026-03-19T23:00:00, as this run looks back {CONTEXT} (model.context)",
        ),
        "early": (table, ["--from", "2026-03-02T05:00"], f"a forecast from {FIRST} to 2026-03-19"),
        "only one": (
            table.iloc[:CONTEXT],
            ["--from", "2026-03-02T05:00"],
            f"its {CONTEXT} rows allow a forecast from {FIRST} alone",
        ),
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
