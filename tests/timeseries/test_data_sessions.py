"""Sessions: rows that come at some hours of the week only are one step apart, whatever lies between them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.data.axis import taker
from isoform.timeseries.data.calendar import marks, names, stamps_of
from isoform.timeseries.data.frequency import (
    natural_seasons,
    parse_freq,
    rows_a_season,
    sessions_of,
    stamps_after,
)
from isoform.timeseries.data.sessions import DAY, WEEK, Sessions

from .axes import axis_of
from .panels import panel, series

MINUTE = 60 * 10**6
TOKYO = "30min@09:00-11:30+12:30-15:00/B"
FOREX = "h@00:00-23:00/MON,TUE,WED,THU;00:00-21:00/FRI;22:00-23:00/SUN"


def opened(freq, weeks, start="2023-01-02", tz=None):
    """All stamps of some weeks, from a Monday on."""
    first = np.array([np.datetime64(start, "us") - np.timedelta64(1, "us")])
    sessions = sessions_of(freq)
    stamps = stamps_after(freq, first[0], weeks * len(sessions.slots))
    return stamps if tz is None else stamps.tz_localize(tz)


@given(st.sets(st.integers(0, 7 * 96 - 1), min_size=2, max_size=200), st.integers(-3000, 3000))
def test_numbers_and_stamps_of_slots_are_inverse(quarters, week):
    sessions = Sessions(tuple(sorted(15 * MINUTE * quarter for quarter in quarters)))
    numbers = week * len(quarters) + np.arange(len(quarters) + 3)
    stamps = sessions.stamps(numbers)
    assert (np.diff(stamps) > 0).all() and (np.diff(stamps) >= sessions.step).all()
    assert (sessions.at_or_before(stamps) == numbers).all()
    assert (sessions.nearest(stamps + MINUTE) == numbers).all()
    assert (sessions.nearest(stamps - MINUTE) == numbers).all()
    assert stamps[len(quarters)] - stamps[0] == WEEK
    weekday = pd.DatetimeIndex(stamps.view("M8[us]")).day_of_week
    assert (weekday == (np.array(sessions.slots)[numbers % len(quarters)] // DAY)).all()


@given(st.sets(st.integers(0, 7 * 48 - 1), min_size=2, max_size=100))
def test_the_text_of_sessions_says_them_all(halves):
    sessions = Sessions(tuple(sorted(30 * MINUTE * half for half in halves)))
    text = f"{sessions.step // MINUTE}min@{sessions.spans()}"
    assert sessions_of(text) == sessions and sessions_of(parse_freq(text)) == sessions


@pytest.mark.parametrize(
    ("freq", "season", "week"),
    [("30min@09:30-16:00/B", 14, 70), (TOKYO, 12, 60), (FOREX, 24, 120), ("h@22:00-04:00/MON,TUE,WED", 7, 21),
     ("D@00:00/MON,TUE,WED,THU,SUN", 5, 5), ("2D@00:00/MON,WED,FRI", 3, 3)],
)  # fmt: skip
def test_seasons_of_sessions(freq, season, week):
    assert rows_a_season(parse_freq(freq)) == season
    assert natural_seasons(parse_freq(freq)) == (
        (season, week, 52 * week) if week > season else (season, 0, 52 * week)
    )


@pytest.mark.parametrize(
    "freq",
    ["30min@09:30-16:00/B", "5min@09:30-15:55/B", TOKYO, FOREX, "h@00:00-23:00/B", "4h@08:00-20:00/D",
     "D@00:00/MON,TUE,WED,THU,SUN", "15min@06:00-13:45/MON,TUE,WED,THU,FRI,SAT", "4h@08:00+12:00+18:00/D"],
)  # fmt: skip
def test_sessions_are_found_with_holidays(freq):
    time = opened(freq, 9)
    holiday = (time.normalize() == "2023-01-25") | (time.normalize() == "2023-02-13")
    early = (time.normalize() == "2023-01-18") & (time.hour > 12)
    axis, findings = axis_of(time[~holiday & ~early])
    assert axis.freq == parse_freq(freq) and (axis.time == time).all()
    assert set(np.flatnonzero(holiday | early)).isdisjoint(axis.place)
    assert findings.data["sessions"] == axis.freq
    again, _ = axis_of(time[~holiday & ~early], freq=axis.freq)
    assert (again.time == axis.time).all() and (again.place == axis.place).all()


def test_outages_are_no_sessions():
    rng = np.random.default_rng(2)
    hours = pd.date_range("2023-01-02", periods=24 * 28, freq="h")
    for kept in (
        hours[rng.random(len(hours)) < 0.6],
        hours.delete(np.arange(100, 300)),
        hours[hours.hour != 3],
    ):
        assert axis_of(kept)[0].freq == "h"
    axis, findings = axis_of(opened("h@09:00-17:00/B", 1))
    assert axis.freq == "h"  # one week tells nothing
    assert (
        "where rows come in sessions, set data.freq to these, for example h@" in findings.lines[-1]
    )


def test_a_frequency_that_is_given_is_kept():
    time = opened("30min@09:30-16:00/B", 3)
    axis, findings = axis_of(time, freq="30min")
    assert axis.freq == "30min" and "sessions" not in findings.data
    assert len(axis.time) == (time[-1] - time[0]) // pd.Timedelta("30min") + 1


def test_days_of_the_week_that_never_come_are_no_gap():
    days = pd.date_range("2023-01-02", periods=70)
    for kept, freq, season in (
        ([0, 2, 4], "2D@00:00/MON,WED,FRI", 3), ([0, 1, 2, 3, 4, 5], "D@00:00/MON,TUE,WED,THU,FRI,SAT", 6),
        ([0, 1, 2, 3, 4], "B", 5),
    ):  # fmt: skip
        time = days[np.isin(days.day_of_week, kept)]
        axis, _ = axis_of(time.delete(8))
        assert axis.freq == freq and (axis.time == time).all() and rows_a_season(freq) == season


def test_stamps_outside_the_sessions_are_refused():
    hours = pd.date_range("2023-01-02", periods=24 * 28, freq="h")
    with pytest.raises(
        UserError, match=r"432 of 672 stamps lie outside the sessions .*2023-01-02 00:00"
    ) as caught:
        axis_of(hours, freq="h@09:00-20:00/B")
    assert "\n" not in str(caught.value)


def test_sessions_follow_the_clock_of_their_zone():
    time = opened(
        "30min@09:30-16:00/B", 16, "2024-01-29", "America/New_York"
    )  # the clock changes on 10 March
    utc = [stamp.isoformat() for stamp in time.tz_convert("UTC")]
    axis, _ = axis_of(utc, tz="America/New_York")
    assert axis.freq == "30min@09:30-16:00/B" and axis.tz is None
    assert (axis.time == time.tz_localize(None)).all()
    held, _ = axis_of(utc)  # nobody says which zone: what either clock has
    assert held.freq == "30min@13:30-21:00/B"


def test_sums_of_a_session_are_of_its_rows():
    time = opened("10min@09:00-10:50/B", 3)
    axis, _ = axis_of(time, freq="h@09:00-10:00/B", aggregate="sum")
    sums = axis.read(taker(np.ones((len(time), 1))), 0, len(axis.time), "sum")
    assert len(axis.time) == 30 and (sums == 6).all()


def test_rows_behind_the_end_lie_in_sessions_too():
    time = opened("h@09:00-12:00/B", 2)
    made = panel(
        series(np.zeros((len(time), 2)), start="2023-01-02", freq="h"), freq="h@09:00-12:00/B"
    )
    made.first["time"] = time.values
    found = stamps_of(made, 0, 38, 45)
    assert list(found.astype(str)) == [
        "2023-01-13 11:00:00", "2023-01-13 12:00:00", "2023-01-16 09:00:00", "2023-01-16 10:00:00",
        "2023-01-16 11:00:00", "2023-01-16 12:00:00", "2023-01-17 09:00:00",
    ]  # fmt: skip
    wanted = names("auto", made.freq)
    assert wanted[0] == "hour_of_day"
    assert marks(found, wanted)[2, 0] == pytest.approx(9 / 23 - 0.5, abs=1e-6)
