"""Data from outside: read alike whatever is done with them, judged where the run has not been, said in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import isoform
from isoform.timeseries import inputs_for_run
from isoform.timeseries.predictor import DIGITS, OWN_DIGITS, _rounded
from isoform.timeseries.state import TimeseriesState

from . import runs
from .panels import app, panel, series, walk
from .runs import CONTEXT, HORIZON, VARIATES, saved


def common(one: dict, other: dict) -> list[str]:
    return [
        name for name in one if name in other and name.startswith(("unit_mae", "unit_rmse", "mae"))
    ]


# One reader -----------------------------------------------------------------------------------------------------------


def test_own_file_extra_columns_and_another_order_are_judged_alike(
    waves: Path, tmp_path: Path, result
) -> None:
    table = runs.frame()
    own = result("eval", waves)
    other = table.assign(extra=1.5)[["extra", VARIATES[2], "temp", "north", "date", "south"]]
    for name, one in (("same", table), ("other", other)):
        found = result("eval", waves, "--data", saved(one, tmp_path / f"{name}.csv"))
        assert found["samples"] == own["samples"]
        for key in ("mse", "scaled_crps", *common(own["metrics"], found["metrics"])):
            assert found["metrics"][key] == pytest.approx(own["metrics"][key], rel=1e-9), key
        assert f"every one of {name}.csv behind 2026-03-16T" in found["judged"]


@pytest.mark.parametrize("verb", ["forecast", "backtest", "predict", "embed", "eval"])
def test_what_does_not_fit_is_refused_alike(waves: Path, tmp_path: Path, cli, verb: str) -> None:
    table = runs.frame()
    daily = table.set_index("date").resample("D").mean().reset_index()
    wrong = {
        'has no column "south"': table.drop(columns="south"),
        "its rows are D apart, and this run forecasts steps of h": daily,
    }
    for sentence, one in wrong.items():
        file = saved(one, tmp_path / "wrong.csv")
        words = ["eval", waves, "--data", file] if verb == "eval" else [verb, waves, file]
        code, _, err = cli(*words, *(["--out", tmp_path / "e.npz"] if verb == "embed" else []))
        assert code == 2 and sentence in err and "Traceback" not in err, err


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a covariate of words, one of which the test rows lack."""
    return runs.trained(
        tmp_path_factory.mktemp("weather"), with_sky(), train={"epochs": 1},
        data={"known_future": ["sky"], "targets": ["north", "south"], "bounds": {}}, head=runs.QUANTILES,
        tokeniser={"calendar": "future"},
    )  # fmt: skip


def with_sky() -> pd.DataFrame:
    """Fog in the first days alone; before rain and sun in the alphabet."""
    rng = np.random.default_rng(5)
    table = runs.frame()
    sky = rng.choice(["rain", "sun"], len(table))
    sky[:211:7] = "fog"
    return table.assign(sky=sky, north=table["north"] + 5 * (sky == "rain"))


def test_words_are_known_by_name(weather: Path, tmp_path: Path, result) -> None:
    """A later file without fog has the run's three columns all the same, in the run's order."""
    table = with_sky()
    later = table.iloc[300:]
    assert "fog" not in set(later["sky"])
    own = result("eval", weather)
    found = result("eval", weather, "--data", saved(later, tmp_path / "later.csv"))
    assert found["samples"] == own["samples"]
    assert found["metrics"]["mse"] == pytest.approx(own["metrics"]["mse"], rel=1e-6)


def test_covariates_of_ids_with_slashes_are_found_by_their_end() -> None:
    have = ["S1/P1/price", "price", "P2/sold"]
    assert inputs_for_run._find("S1/P1/price", have) == 0
    assert inputs_for_run._find("S9/P7/price", have) == 1
    assert inputs_for_run._find("S2/P2/sold", have) == 2
    assert inputs_for_run._find("S2/P2/left", have) is None


@pytest.mark.parametrize("kind", ["past", "known", "static"])
def test_texts_that_the_run_never_saw_are_named(kind: str) -> None:
    def one(*names: str):
        rows = () if kind == "static" else (31,)
        found = series(walk(31, 1), **{kind: np.ones((*rows, len(names)))})
        return panel(found.assign_coords({kind: list(names)}))

    config, learned = app(7, 5), ["sky=rain", "sky=sun", "wind"]
    state = TimeseriesState(variates=["v0"], **{kind: learned})
    with pytest.warns(UserWarning, match="never saw .*: sky=hail, sky=a=b"):
        file = one("sky=rain", "sky=hail", "sky=a=b", "wind", "moon=new")
        found = inputs_for_run.read_for_run(file, config, state)
    assert found.names(kind) == learned
    assert (found.first[f"{kind}_values"].values[..., 1] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs_for_run.read_for_run(one("sky=rain", "wind", "moon=new"), config, state)


# What is judged -------------------------------------------------------------------------------------------------------


def test_a_new_file_is_judged_whole_and_says_so(waves: Path, tmp_path: Path, cli, result) -> None:
    later = saved(runs.frame(101, start="2026-05-01"), tmp_path / "may.csv")
    found = result("eval", waves, "--data", later)
    assert found["samples"] == 101 - CONTEXT - HORIZON + 1
    code, out, _ = cli("eval", waves, "--data", later)
    assert code == 0 and out.startswith(
        "judged: 66 windows, every one of may.csv behind 2026-03-16T"
    )
    code, out, _ = cli("eval", waves)
    assert code == 0 and out.startswith("judged: 80 windows, the test split of series.csv")
    early = saved(runs.frame(101), tmp_path / "early.csv")
    code, _, err = cli("eval", waves, "--data", early)
    assert code == 2 and "early.csv: ends at 2026-03-06T04:00:00 and holds no window" in err
    assert "backtest --from" in err


def shops(lengths: dict[str, int]) -> pd.DataFrame:
    parts = [
        runs.frame(rows, start=f"2026-01-0{k + 1}")[["date", "north", "south"]].assign(shop=name)
        for k, (name, rows) in enumerate(lengths.items())
    ]
    return pd.concat(parts)


def test_series_by_series(tmp_path: Path, result) -> None:
    """Known ones behind all training, a new one whole; as many windows as a backtest of every row."""
    folder = runs.trained(
        tmp_path, shops({"a": 211, "b": 173}), train={"epochs": 1},
        data={"id": "shop", "panel": "series", "bounds": {}, "drop": []},
    )  # fmt: skip
    file = saved(shops({"a": 211, "b": 199, "new": 97}), tmp_path / "later.csv")
    found = result("eval", folder, "--data", file)
    walked = result("backtest", folder, file, "--step", "1")
    fitted = {
        "a": 169,
        "b": 169 - 24,
    }  # 80 % of a's rows, which are behind 80 % of b's; b begins a day later
    want = sum({"a": 211, "b": 199}[name] - end - HORIZON + 1 for name, end in fitted.items())
    assert found["samples"] == walked["windows"] == want + 97 - CONTEXT - HORIZON + 1
    assert "by series" in found["judged"] and "1 series that are new to it" in found["judged"]


@pytest.mark.parametrize(("split", "windows"), [("val", 37), ("train", 267)])
def test_every_split_can_be_evaluated(waves: Path, result, split: str, windows: int) -> None:
    """Of a run whose test intervals are calibrated; those of the other splits are the model's own."""
    found = result("eval", waves, "--split", split)
    assert found["samples"] == found["metrics"]["windows"] == windows
    with xr.open_dataset(waves / f"predictions.{split}.nc", engine="h5netcdf") as stored:
        assert stored["quantile"].values.tolist() == [0.1, 0.5, 0.9]
        assert stored.sizes["window"] == windows


# The same number everywhere -------------------------------------------------------------------------------------------


def test_bounds_hold_in_metrics_predictions_forecast_and_backtest(
    waves: Path, tmp_path: Path, result
) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    own = result("eval", waves)["metrics"]
    walked = result("backtest", waves, file, "--step", "1", "--out", tmp_path / "all.csv")
    names = common(own, walked["metrics"])
    assert "unit_mae[kWh]" in names and "mae" in names
    for name in names:
        assert own[name] == pytest.approx(walked["metrics"][name], rel=1e-5), name
    table = pd.read_csv(tmp_path / "all.csv")
    with xr.open_dataset(waves / "predictions.nc", engine="h5netcdf") as stored:
        values = stored.forecast.sel(variate="north").values
        assert values.min() == 40 and values.max() == 60
        spread = stored.quantiles.sel(variate="north").values
        assert spread.min() == 40 and spread.max() == 60
        walk = table[table["variate"] == "north"]["mean"].to_numpy().reshape(values.shape)
        np.testing.assert_allclose(values, walk, rtol=1e-5)


def test_the_origin_is_the_last_stamp_known_everywhere(waves: Path, tmp_path: Path, cli) -> None:
    file = saved(runs.frame(), tmp_path / "series.csv")
    assert cli("backtest", waves, file, "--step", "1", "--out", tmp_path / "all.csv")[0] == 0
    table = pd.read_csv(tmp_path / "all.csv", parse_dates=["origin", "stamp"])
    with xr.open_dataset(waves / "predictions.nc", engine="h5netcdf") as stored:
        np.testing.assert_array_equal(
            stored["origin"].values, table["origin"].drop_duplicates().to_numpy()
        )
        assert "time_zone" not in stored.attrs
    first = table[table["lead"] == 1]
    assert (first["stamp"] - first["origin"] == pd.Timedelta("1h")).all()


def test_origins_of_zoned_stamps_are_in_utc(tmp_path: Path) -> None:
    table = runs.frame(start="2026-10-14", tz="Europe/Berlin")
    folder = runs.trained(tmp_path, table, data={"tz": "Europe/Berlin"}, train={"epochs": 1})
    with xr.open_dataset(folder / "predictions.nc", engine="h5netcdf") as stored:
        origins = pd.DatetimeIndex(stored["origin"].values).tz_localize("UTC")
        assert stored.attrs["time_zone"] == "Europe/Berlin"
    instants = pd.DatetimeIndex(table["date"]).tz_convert("UTC")
    np.testing.assert_array_equal(origins, instants[-len(origins) - HORIZON : -HORIZON])


def test_a_variate_without_values_has_one_answer(waves: Path, tmp_path: Path, cli, result) -> None:
    """No forecast, said, and nothing of it counts: forecast, backtest, evaluation and its predictions."""
    table = runs.frame()
    table.loc[351:, "south"] = np.nan
    table.loc[390:, "south"] = 30.0
    file = saved(table, tmp_path / "gap.csv")
    start = str(table["date"][381])
    code, _, err = cli("forecast", waves, file, "--from", start, "--out", tmp_path / "next.csv")
    assert code == 0 and f"south: no value in the {CONTEXT} rows before the forecast" in err
    next_ = pd.read_csv(tmp_path / "next.csv")
    assert next_[next_["variate"] == "south"][["mean", "q0.1", "q0.9"]].isna().all(axis=None)
    walk = ["backtest", waves, file, "--step", "1", "--out", tmp_path / "all.csv"]
    code, _, err = cli(*walk)
    assert code == 0 and "south" in err and "no value in the" in err
    every = pd.read_csv(tmp_path / "all.csv", parse_dates=["origin"])
    mine = every[(every["variate"] == "south") & (every["origin"] == table["date"][380])]
    assert mine["mean"].isna().all() and len(mine) == HORIZON
    walked, judged = result(*walk)["metrics"], result("eval", waves, "--data", file)["metrics"]
    for name in common(judged, walked):
        assert judged[name] == pytest.approx(walked[name], rel=1e-5), name
    with xr.open_dataset(waves / "predictions.gap.nc", engine="h5netcdf") as stored:
        at = int(np.flatnonzero(stored["origin"].values == table["date"][380].to_datetime64())[0])
        one = stored.isel(window=at)
        assert one.forecast.sel(variate="south").isnull().all()
        assert one.quantiles.sel(variate="south").isnull().all()
        assert one.forecast.sel(variate="north").notnull().all()


# Digits ---------------------------------------------------------------------------------------------------------------


@given(
    st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6),
    st.floats(1e-3, 1e3),
    st.integers(-200, 200),
)
def test_digits_are_significant_ones_at_any_size(value: float, spread: float, power: int) -> None:
    x, s = value * 10.0**power, np.array([spread * 10.0**power])
    found = float(_rounded(np.array([[[x]]]), s)[0, 0, 0])
    assert abs(found - x) <= 0.5001 * s[0] * 10.0 ** (
        1 - DIGITS
    )  # a digit of the deviation is kept
    assert abs(found - x) <= 0.5001 * abs(x) * 10.0 ** (1 - OWN_DIGITS)
    assert found != 0


def test_tiny_values_are_written_as_they_are(tmp_path: Path, cli) -> None:
    """Currents of attoamperes: the csv has the numbers that predictions and arrays have."""
    table = runs.frame()
    table[VARIATES] *= 1e-18
    folder = runs.trained(tmp_path, table, data={"bounds": {}}, train={"epochs": 1})
    for suffix in ("csv", "parquet", "nc"):
        code, _, err = cli("forecast", folder, tmp_path / "series.csv", "--out", tmp_path / f"n.{suffix}")  # fmt: skip
        assert code == 0, err
    written = pd.read_csv(tmp_path / "n.csv")
    plain = isoform.load(folder)
    with xr.open_dataset(tmp_path / "n.nc", engine="h5netcdf") as arrays:
        np.testing.assert_array_equal(arrays["mean"].values.ravel(), written["mean"])
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "n.parquet")["mean"], written["mean"])
    north = written[written["variate"] == "north"]
    assert north["mean"].nunique() == HORIZON and (north["q0.1"] < north["q0.9"]).all()
    assert plain.forecast(table)["mean"].max() < 1e-15


def test_a_file_in_other_units_than_the_run_is_named() -> None:
    def one(*units: str):
        return panel(series(walk(31, 3)).assign_coords(units=("variate", list(units))))

    config, state = app(7, 5), TimeseriesState(variates=["v0", "v1", "v2"], units=["kWh", "m", ""])
    line = "v0 in Wh, the run in kWh\\)"
    with pytest.warns(UserWarning, match=line):
        found = inputs_for_run.read_for_run(one("Wh", "m", "K"), config, state)
    assert found.units == ["Wh", "m", "K"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs_for_run.read_for_run(one("kWh", "", "K"), config, state)
