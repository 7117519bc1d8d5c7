"""Years 1 to 9999: series longer than nanoseconds reach are read, checked, trained, forecast and drawn."""

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.core import config as configs
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN, forecast, plots
from isoform.timeseries.check import app_of_path, check
from isoform.timeseries.data.clock import NAT, within
from isoform.timeseries.data.frequency import parse_freq, stamps_after
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.origin import fitted_end, moment_of
from isoform.timeseries.state import TimeseriesState

from .files import read, refused
from .panels import panel, series, walk

TINY = {
    "backbone.dim": 16, "backbone.depth": 1, "backbone.heads": 2, "backbone.mlp_dim": 32, "train.epochs": 1,
}  # fmt: skip


def rings(path, rows, first, column="year"):
    """Widths of tree rings, a row a year."""
    width = 100 + walk(rows, 1)[:, 0].round(3)
    pd.DataFrame({column: first + np.arange(rows), "width": width}).to_csv(path, index=False)
    return path


def cells(*texts, name="date", **options):
    return parse_stamps([pd.Series(texts, name=name)], "f.csv", **options).time


@pytest.mark.parametrize(("rows", "first"), [(600, 1380), (1200, 800), (1187, 1), (1013, 1400)])
def test_long_yearly_series_are_checked_prepared_and_go_on(tmp_path, rows, first):
    path = rings(tmp_path / "rings.csv", rows, first)
    found = check(app_of_path(path))
    last = first + rows - 1
    assert found.refusal is None and found.page.count("<svg") == 1
    assert found.data["first"] == f"{first:04d}-01-01 00:00:00" and f">{last}-01-01<" in found.page
    config = configs.resolve_app("itransformer-own", domain=DOMAIN, sets=[f"data.path={path}"])
    prepared = DOMAIN.prepare(config)
    assert prepared.data.sizes().keys() == {"train", "val", "test"}
    one = prepared.data.panel
    assert one.freq == "YS-JAN" and one.rows == [rows] and one.first.time.dtype == "M8[us]"
    ahead = stamps_after(one.freq, one.first.time.values[-1], 3)
    assert forecast.texts_of(ahead) == [f"{last + k}-01-01" for k in (1, 2, 3)]


def test_a_training_on_rings_forecasts_the_years_behind_them(tmp_path):
    path = rings(tmp_path / "rings.csv", 613, 1203)
    run = isoform.train("timeseries/itransformer-own", run_dir=tmp_path / "run", progress=False,
                        **TINY, **{"data.path": str(path), "eval.baselines": ["last"]})  # fmt: skip
    model = isoform.load(run.folder)
    found = model.forecast(path)
    assert np.isfinite(found["mean"].values).all()
    assert forecast.columns_of(found)["stamp"][0] == "1816-01-01"
    assert model.forecast(path, start="1400").time.values[0] == np.datetime64("1400-01-01")
    plots.draw(plots.curves(found, model.read(path))).savefig(io.BytesIO(), format="svg")
    for name in ("next.nc", "next.zarr"):
        forecast.write(found, tmp_path / name)
        again = read(tmp_path / name)
        assert (again.first.time.values == found.time.values).all() and again.freq == "YS-JAN"


def test_what_is_a_year_is_told_by_its_column_or_its_size(tmp_path):
    for name, rows, first in (("year", 307, 211), ("Year", 101, 9899), ("date", 101, 1600)):
        time = read(rings(tmp_path / "a.csv", rows, first, name)).first.time.values
        assert time[0] == np.datetime64(f"{first:04d}-01-01") and len(time) == rows
    path = rings(tmp_path / "b.csv", 307, 1, "date")
    refused("holds numbers from 1 to 307", "if they are years, name it in data.time", path=path)
    found = read(path, time=("date",))
    assert "stamps are years: 1 to 307" in found.findings.lines and found.freq == "YS-JAN"
    refused("from 0 to 30", "years are 1 to 9999", path=rings(tmp_path / "c.csv", 31, 0))
    refused("from 9990 to 10020", "years are", path=rings(tmp_path / "d.csv", 31, 9990))


@pytest.mark.parametrize(
    ("text", "day"),
    [("0800-03-01", "0800-03-01"), ("800-03-01", "0800-03-01"), ("1.3.0024", "0024-03-01"), ("1.3.24", "2024-03-01"),
     ("0800-W10", "0800-03-06"), ("0800Q2", "0800-04-01"), ("0007M03", "0007-03-01"), ("9999-12-31", "9999-12-31")],
)  # fmt: skip
def test_old_and_late_dates_in_text(text, day):
    assert cells(text)[0] == np.datetime64(day)


def test_what_lies_beyond_the_calendar_is_no_stamp():
    beyond = cells("0000-12-31", "0001-01-01 00:00", "31.12.9999 24:00", "9999-W52-7")
    assert np.isnat(beyond).tolist() == [True, False, True, True]
    ends = np.array(["0000-12-31T23:59:59", "0001-01-01", "9999-12-31T23:59:59", "10000-01-01"])
    for unit in ("s", "ms", "us"):
        assert np.isnat(within(ends.astype(f"M8[{unit}]"))).tolist() == [True, False, False, True]
    assert np.isnat(within(np.array([NAT, "1969-07-20"], "M8[ns]"))).tolist() == [True, False]
    with pytest.raises(UserError, match="beyond the year 9999"):
        stamps_after("YS-JAN", np.datetime64("9998-01-01"), 2)


def test_finer_parts_than_microseconds_are_cut_off():
    want = np.datetime64("2024-02-29T13:05:00.123456")
    assert cells("2024-02-29 13:05:00.123456789")[0] == want
    assert cells("29.2.2024 13:05:00,123456789")[0] == want
    old = cells("0800-02-29 13:05:00.123456789", "2024-02-29 13:05:00.1")  # one parse of both
    assert old[0] == np.datetime64("0800-02-29T13:05:00.123456")
    epochs = [1709211900123456789 + 10**9 * k for k in range(3)]
    assert (cells(*epochs) == want + np.arange(3) * np.timedelta64(1, "s")).all()
    assert (cells(*map(str, epochs)) == cells(*epochs)).all()
    typed = np.array(["2024-02-29T13:05:00.123456789", "1969-12-31T23:59:59.999999999"], "M8[ns]")
    assert cells(*typed).tolist() == [
        want.item(),
        np.datetime64("1969-12-31T23:59:59.999999").item(),
    ]


@pytest.mark.parametrize("freq", ["ns", "5ns", "1500ns"])
def test_steps_of_nanoseconds_are_refused(freq):
    with pytest.raises(UserError, match="time is counted in whole microseconds") as caught:
        parse_freq(freq)
    assert "\n" not in str(caught.value)
    assert parse_freq("2000ns") == "2us"


def test_clocks_of_zones_in_old_years(tmp_path):
    days = [f"{day}" for day in np.arange("1400-01-01", "1400-03-02", dtype="M8[D]")]
    pd.DataFrame({"date": days, "x": walk(60, 1)[:, 0]}).to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv", tz="Europe/Berlin").rows == [60]
    path = rings(tmp_path / "b.csv", 31, 1)
    refused("the clock of Asia/Tokyo is known from 0001-01-02", path=path, tz="Asia/Tokyo")


def test_arrays_of_old_years_and_of_nanoseconds(tmp_path):
    for start, unit in (("0900-01-01", "us"), ("1900-01-01", "ns")):
        time = pd.date_range(start, periods=41, freq="YS", unit=unit)
        made = xr.Dataset({"x": ("time", walk(41, 1)[:, 0])}, {"time": time})
        made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        made.to_zarr(tmp_path / f"{unit}.zarr", zarr_format=2)
        for found in (read(tmp_path / "a.nc"), read(tmp_path / f"{unit}.zarr", stream="disk")):
            assert (found.first.time.values == time.values).all()
            assert found.first.time.dtype == "M8[us]"


@pytest.mark.parametrize("digits", [0, 6, 9])
def test_where_older_runs_end_is_read_in_either_unit(digits):
    stamp = "2024-03-21T00:00:00" + ("." + "0" * digits if digits else "")
    one = panel(series(walk(31, 1), freq="D"), freq="D")
    found = fitted_end(one, 0, TimeseriesState(fitted_until={"": stamp}))
    assert found == moment_of("2024-03-21", one) and found.dtype == "M8[us]"


def test_the_first_year_is_drawn():
    time = np.arange("0001", "0019", dtype="M8[Y]").astype("M8[us]")
    known, ahead = (time[:12], np.arange(12.0)), time[12:]
    none = np.full(6, np.nan)
    curve = plots.Curve("", "", known, ahead, np.arange(6.0), none, np.zeros((6, 0)))
    axes = plots.draw([curve]).axes[0]
    axes.figure.savefig(io.BytesIO(), format="svg")
    assert [text.get_text() for text in axes.get_xticklabels()][-1].isdigit()
