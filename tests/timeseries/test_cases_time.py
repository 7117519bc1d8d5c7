"""Files on which frequencies and stamps went wrong, with their right values."""

import numpy as np
import pandas as pd
import pytest

import isoform
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN
from isoform.timeseries.data.calendar import stamps_of
from isoform.timeseries.data.frequency import rows_a_season

from .files import case, read
from .runs import HORIZON, Plain, app


def read_case(name, **data):
    """(panel, its stamps, the two behind its end)."""
    found = read(case(f"{name}.csv"), **data)
    rows = found.rows[0]
    ahead = stamps_of(found, 0, rows, rows + 2)
    return found, pd.DatetimeIndex(found.first["time"].values), list(ahead.astype(str))


def test_weeks_at_six_in_the_morning():
    panel, time, ahead = read_case("S7_weekly_at_0600")
    assert (panel.freq, rows_a_season(panel.freq), len(time)) == ("W-MON", 52, 640)
    assert (time.hour == 6).all() and ahead[0][-8:] == "06:00:00"


@pytest.mark.parametrize("freq", [None, "BME"])
def test_business_month_ends(freq):
    panel, time, ahead = read_case("S7_business_month_end", freq=freq)
    assert panel.freq == "BME" and rows_a_season(panel.freq) == 12 and len(time) == 200
    assert ahead == ["2021-09-30", "2021-10-29"]


def test_business_month_ends_with_a_gap_and_starts():
    panel, time, ahead = read_case("S7_business_month_end_gap")
    assert panel.freq == "BME" and len(time) == 200 and ahead == ["2021-09-30", "2021-10-29"]
    assert np.isnan(panel.first["target"].values).sum() == 1
    panel, _, ahead = read_case("S7_business_month_start")
    assert panel.freq == "BMS" and ahead == ["2021-09-01", "2021-10-01"]


@pytest.mark.parametrize("freq", [None, "h"])
def test_jittered_hours(freq):
    panel, time, _ = read_case("S7_jittered_hours", freq=freq)
    assert panel.freq == "h" and len(time) == 400 and str(time[0]) == "2024-01-01 00:00:00"
    assert (time.minute == 0).all() and (time.second == 0).all()


@pytest.mark.parametrize(
    ("name", "freq", "tz", "first", "last"),
    [
        ("excel_serial", "h", None, "2024-01-01 00:00", "2024-01-09 07:00"),
        ("stamps_cet", "h", "Europe/Berlin", "2023-12-31 23:00", "2024-01-09 06:00"),
        ("stamps_eurostat_month", "MS", None, "2008-01-01", "2021-04-01"),
        ("stamps_iso_week", "W-MON", None, "2020-01-06", "2022-04-18"),
        ("stamps_mm_yyyy", "MS", None, "2008-01-01", "2021-04-01"),
        ("stamps_q1_1980", "QS-JAN", None, "1980-01-01", "2019-10-01"),
    ],
)
def test_stamps_as_others_write_them(name, freq, tz, first, last):
    panel, time, _ = read_case(f"M2_{name}")
    assert (panel.freq, panel.tz, str(time[0]), str(time[-1])) == (
        freq, tz, str(pd.Timestamp(first)), str(pd.Timestamp(last))
    )  # fmt: skip
    assert not np.isnan(panel.first["target"].values).any()
    assert any("spreadsheets" in line for line in panel.findings.lines) == (name == "excel_serial")


def test_trading_hours_train_and_forecast_the_next_sessions(tmp_path):
    config = app(case("M3_trading_hours.csv"), data={"bounds": {}, "drop": []}, train={"epochs": 1})
    prepared = DOMAIN.prepare(config)
    assert prepared.data.sizes()["train"] > 300
    train(
        Plain(prepared.config, prepared.data),
        RunFolder(tmp_path / "run"),
        progress=False,
        say=lambda line: None,
    )
    found = isoform.load(tmp_path / "run").forecast(case("M3_trading_hours.csv"))
    ahead = pd.DatetimeIndex(found["time"].values)
    assert list(ahead) == list(pd.date_range("2024-03-11 09:30", periods=HORIZON, freq="30min"))
