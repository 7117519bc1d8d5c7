"""Frequencies: every alias of pandas has its season and its grid, and what stamps follow is found."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.tslibs.offsets import prefix_mapping

from isoform.core.errors import UserError
from isoform.timeseries.data.calendar import names
from isoform.timeseries.data.find_frequency import find_freq
from isoform.timeseries.data.frequency import (
    DAY,
    natural_seasons,
    parse_freq,
    rows_a_season,
    shorter_than_a_day,
    stamps_after,
    usual_length,
)
from isoform.timeseries.data.grid import make_grid

from .axes import axis_of, refused

# Alias -> (as it is written here, rows a season, days of a step).
ALIASES = {
    "us": ("us", 24 * 3600 * 10**6, 1e-6 / 86400),
    "ms": ("ms", 24 * 3600 * 1000, 1e-3 / 86400), "s": ("s", 86400, 1 / 86400), "min": ("min", 1440, 1 / 1440),
    "h": ("h", 24, 1 / 24), "D": ("D", 7, 1), "B": ("B", 5, 1.4), "C": ("B", 5, 1.4), "W": ("W-SUN", 52, 7),
    "bh": ("h@09:00-16:00/B", 8, 1 / 24), "cbh": ("h@09:00-16:00/B", 8, 1 / 24),
    "ME": ("ME", 12, 30.44), "MS": ("MS", 12, 30.44), "BME": ("BME", 12, 30.44), "BMS": ("BMS", 12, 30.44),
    "CBME": ("BME", 12, 30.44), "CBMS": ("BMS", 12, 30.44), "SME": ("SME-15", 24, 15.22),
    "SMS": ("SMS-15", 24, 15.22), "QE": ("QE-DEC", 4, 91.3), "QS": ("QS-JAN", 4, 91.3), "BQE": ("BQE-DEC", 4, 91.3),
    "BQS": ("BQS-JAN", 4, 91.3), "HYE": ("HYE-DEC", 2, 182.6), "HYS": ("HYS-JAN", 2, 182.6),
    "BHYE": ("BHYE-DEC", 2, 182.6), "BHYS": ("BHYS-JAN", 2, 182.6), "YE": ("YE-DEC", 1, 365.25),
    "YS": ("YS-JAN", 1, 365.25), "BYE": ("BYE-DEC", 1, 365.25), "BYS": ("BYS-JAN", 1, 365.25),
    "WOM": ("WOM-3FRI", 12, 30.44), "LWOM": ("LWOM-FRI", 12, 30.44), "RE": ("RE-N-DEC-MON", 1, 365.25),
    "REQ": ("REQ-N-DEC-MON-1", 4, 91.3),
}  # fmt: skip
ANCHORED = {"WOM": "WOM-3FRI", "LWOM": "LWOM-FRI", "RE": "RE-N-DEC-MON", "REQ": "REQ-N-DEC-MON-1"}
MULTIPLES = {
    "60min": ("h", 24), "15min": ("15min", 96), "2h": ("2h", 12), "6h": ("6h", 4), "12h": ("12h", 2),
    "24h": ("D", 7), "168h": ("7D", 52), "36h": ("36h", 244), "2bh": ("2h@09:00-15:00/B", 4), "7D": ("7D", 52),
    "14D": ("14D", 26), "28D": ("28D", 13), "30D": ("30D", 12), "31D": ("31D", 12), "10D": ("10D", 37),
    "8D": ("8D", 46), "16D": ("16D", 23), "5B": ("5B", 52), "2W": ("2W-SUN", 26), "4W-MON": ("4W-MON", 13),
    "2MS": ("2MS", 6), "3ME": ("3ME", 4), "4MS": ("4MS", 3), "5MS": ("5MS", 1), "6MS": ("6MS", 2),
    "12MS": ("12MS", 1), "2QS": ("2QS-JAN", 2), "3QS": ("3QS-JAN", 1), "2YE": ("2YE-DEC", 1), "3YS": ("3YS-JAN", 1),
    "90D": ("90D", 4), "365D": ("365D", 1),
}  # fmt: skip


def test_the_table_has_every_alias_of_pandas():
    assert set(prefix_mapping) - {"ns"} <= set(ALIASES)


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_has_its_season_and_length(alias):
    if alias not in prefix_mapping:
        pytest.skip("this pandas has no such alias")
    text, season, days = ALIASES[alias]
    freq = parse_freq(ANCHORED.get(alias, alias))
    assert freq == text and parse_freq(freq) == freq
    assert rows_a_season(freq) == season and rows_a_season(freq, 17) == 17
    assert usual_length(freq) / DAY == pytest.approx(days, rel=2e-3)
    assert shorter_than_a_day(freq) == (days < 1)
    assert isinstance(names("auto", freq), tuple)


@pytest.mark.parametrize("alias", MULTIPLES)
def test_multiples_have_their_season(alias):
    text, season = MULTIPLES[alias]
    assert parse_freq(alias) == text
    assert rows_a_season(parse_freq(alias)) == season == natural_seasons(text)[0]


@pytest.mark.parametrize("alias", [*ALIASES, *MULTIPLES])
def test_the_grid_and_what_follows_it_are_pandas_own(alias):
    if alias in ALIASES and alias not in prefix_mapping:
        pytest.skip("this pandas has no such alias")
    said = ANCHORED.get(alias, alias)
    time = pd.date_range("2019-12-30", periods=41, freq=said).as_unit("us")
    clock = np.delete(time.asi8[:36], [3, 4, 17])
    grid = make_grid(clock, np.diff(clock), parse_freq(said), 0, "f.csv")
    assert (grid.time == time[:36]).all() and grid.moved == 0 and not grid.coarse
    assert (grid.time[grid.place].asi8 == clock).all()
    ahead = stamps_after(grid.freq, grid.time.values[-1], 5)
    assert list(ahead) == list(time[36:])


@pytest.mark.parametrize(
    "alias", ["3bh", "5bh", "0D", "m", "h@", "h@25:00/B/B", "h@09:00-10:00/MO", "MS@09:00/B"]
)
def test_what_is_no_step_is_refused_in_one_sentence(alias):
    with pytest.raises(UserError, match="sessions such as 30min@09:30-16:00/B") as caught:
        parse_freq(alias)
    assert "\n" not in str(caught.value)


# Weeks ----------------------------------------------------------------------------------------------------------------


def test_weeks_at_a_time_of_day_are_weeks():
    time = pd.date_range("2021-03-03 18:30", periods=37, freq="W-WED")
    axis, _ = axis_of(time.delete([5, 11]))
    assert axis.freq == "W-WED" and (axis.time == time).all() and rows_a_season(axis.freq) == 52
    again, _ = axis_of(time.delete([5, 11]), freq="W-WED")
    assert (again.time == axis.time).all() and (again.place == axis.place).all()


@pytest.mark.parametrize("days", [-2, -1, 1, 2])
def test_a_week_that_is_a_day_late_stays_in_its_week(days):
    time = pd.date_range("2021-03-03", periods=41, freq="W-WED")
    late = time.to_series().reset_index(drop=True)
    late[13] += pd.Timedelta(days=days)
    for settings_ in ({}, {"freq": "W-WED"}):
        axis, findings = axis_of(late, **settings_)
        assert axis.freq == "W-WED" and (axis.time == time).all() and findings.data["moved"] == 1
        assert (axis.place == np.arange(41)).all()


def test_every_four_weeks_is_no_month():
    time = pd.date_range("2020-01-06", periods=40, freq="28D")
    axis, _ = axis_of(time.delete(7))
    assert axis.freq == "28D" and (axis.time == time).all() and rows_a_season(axis.freq) == 13


# Months ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.sampled_from(["MS", "ME", "BMS", "BME", "QS-FEB", "QE-JAN", "BQS-MAR", "BQE-FEB", "YE-JUN", "YS-APR",
                     "BYE-MAR", "2QS-JAN", "2BQE-MAR", "2ME", "4MS", "SMS-15", "SME-15"]),
    st.integers(24, 60),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_months_are_found_with_gaps(freq, rows, random):
    time = pd.date_range("1990-01-01", periods=rows, freq=freq)
    kept = [i for i in range(rows) if i in (0, 1, rows - 1) or random.random() < 0.9]
    axis, _ = axis_of(time[kept])
    assert (axis.time == time).all() and (axis.time[axis.place] == time[kept]).all()
    following = pd.date_range(time[-1], periods=8, freq=freq)[1:]
    assert list(stamps_after(axis.freq, axis.time.values[-1], 7)) == list(following)
    assert rows_a_season(axis.freq) == rows_a_season(freq)


def test_business_months_are_told_from_the_calendars():
    assert axis_of(pd.date_range("2011-01-31", periods=40, freq="ME"))[0].freq == "ME"
    axis, _ = axis_of(pd.date_range("2011-01-31", periods=40, freq="BME"))
    assert axis.freq == "BME"
    ahead = stamps_after(axis.freq, axis.time.values[-1], 500)
    assert (ahead.day_of_week < 5).all()


def test_holidays_at_a_months_end_are_moved_to_its_last_business_day():
    time = pd.date_range("2010-01-29", periods=120, freq="BME")
    traded = time.to_series().reset_index(drop=True)
    traded[4] = pd.Timestamp("2010-05-28")  # Memorial Day
    traded[38] = pd.Timestamp("2013-03-28")  # Good Friday
    axis, findings = axis_of(traded)
    assert axis.freq == "BME" and (axis.time == time).all() and findings.data["moved"] == 2


def test_any_day_of_a_month_stands_for_it():
    fridays = pd.date_range("2015-01-01", periods=50, freq="WOM-3FRI")
    axis, findings = axis_of(fridays)
    assert axis.freq == "MS" and len(axis.time) == 50 and findings.data["moved"] == 50


@pytest.mark.parametrize(
    ("freq", "days", "named"),
    [
        ("MS", "31D", "MS"),
        ("BME", "30D", "BME"),
        ("QE-MAR", "91D", "QE-MAR"),
        ("YS", "365D", "YS-JAN"),
    ],
)
def test_days_that_drift_from_the_months_are_refused(freq, days, named):
    refused(
        pd.date_range("2001-01-01", periods=60, freq=freq),
        "drift",
        f"set data.freq = {named}",
        freq=days,
    )


def test_steps_of_31_days_are_kept_where_they_are_the_data():
    time = pd.date_range("2001-01-01", periods=60, freq="31D")
    for given_ in ({}, {"freq": "31D"}):
        axis, _ = axis_of(time, **given_)
        assert axis.freq == "31D" and (axis.time == time).all()


def test_a_time_of_day_of_a_calendars_step_is_kept():
    for freq in ("B", "MS", "BQE-MAR"):
        time = pd.date_range("2016-01-01 17:30", periods=50, freq=freq)
        axis, findings = axis_of(time)
        assert axis.freq == freq and (axis.time == time).all() and "moved" not in findings.data


# Clocks that are a little off ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.sampled_from(["min", "5min", "15min", "30min", "h", "2h", "6h", "12h"]),
    st.integers(30, 90),
    st.integers(0, 2**31),
)
def test_a_clock_that_is_a_little_off_has_whole_steps(freq, rows, seed):
    rng = np.random.default_rng(seed)
    time = pd.date_range("2022-02-28", periods=rows, freq=freq)
    width = pd.Timedelta(time[1] - time[0]) / 13
    stamps = time + pd.to_timedelta(rng.uniform(-1, 1, rows) * width).round("ms")
    gaps = [7, 11, 12] if rows > 40 else []
    for given_ in ({}, {"freq": freq}):
        axis, findings = axis_of(stamps.delete(gaps), **given_)
        assert axis.freq == freq and (axis.time == time).all()
        assert (axis.place == np.delete(np.arange(rows), gaps)).all()
        assert f"lie between steps of {freq}: moved to the nearest" in findings.lines[-1]


def test_half_hours_of_a_clock_that_is_off_stay_half_hours():
    rng = np.random.default_rng(3)
    time = pd.date_range("2022-02-28 00:30", periods=59, freq="h")
    axis, _ = axis_of(time + pd.to_timedelta(rng.integers(-200, 200, 59), "s"))
    assert axis.freq == "h" and (axis.time == time).all()


def test_one_row_a_day_at_any_time_of_it_is_daily():
    rng = np.random.default_rng(5)
    days = pd.date_range("2022-02-28", periods=61)
    axis, _ = axis_of((days + pd.to_timedelta(rng.integers(0, 24 * 3600, 61), "s")).delete(40))
    assert axis.freq == "D" and (axis.time == days).all() and 40 not in axis.place


def test_a_clock_that_drifts_is_refused_with_a_round_step():
    drifting = pd.Timestamp("2022-01-01") + pd.to_timedelta(
        np.cumsum(np.tile([3500, 3510, 3530], 40)), "s"
    )
    refused(drifting, "irregular", "set data.freq, for example h")


def test_the_finder_says_what_an_unsorted_union_of_series_follows():
    clock = pd.date_range("2022-01-01", periods=30, freq="D").as_unit("us").asi8
    assert find_freq(np.tile(clock, 3), np.tile(np.diff(clock), 3), "f.csv") == "D"
