import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.data.calendar import marks, names, stamps_of
from isoform.timeseries.data.holidays import Holidays

from .panels import panel, series, walk

DAY = ("day_of_week", "day_of_month", "day_of_year")
# 29 February 2024 is a Thursday, the 60th day of its year, in week 9.
LEAP = pd.DatetimeIndex(["2024-02-29 13:45:30"])
BY_HAND = {
    "second_of_minute": 30 / 59 - 0.5,
    "minute_of_hour": 45 / 59 - 0.5,
    "hour_of_day": 13 / 23 - 0.5,
    "day_of_week": 3 / 6 - 0.5,
    "day_of_month": 28 / 30 - 0.5,
    "day_of_year": 59 / 365 - 0.5,
    "week_of_year": 8 / 52 - 0.5,
    "month_of_year": 1 / 11 - 0.5,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_mark_by_hand(name):
    found = marks(LEAP, (name,))
    assert found.dtype == np.float32 and found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(BY_HAND[name], abs=1e-7)


@pytest.mark.parametrize(
    ("freq", "want"),
    [
        ("h", ("hour_of_day", *DAY)),
        ("3h", ("hour_of_day", *DAY)),
        ("H", ("hour_of_day", *DAY)),
        ("15min", ("minute_of_hour", "hour_of_day", *DAY)),
        ("s", ("second_of_minute", "minute_of_hour", "hour_of_day", *DAY)),
        ("100ms", ("second_of_minute", "minute_of_hour", "hour_of_day", *DAY)),
        ("D", DAY),
        ("B", DAY),
        ("W-SUN", ("day_of_month", "week_of_year")),
        ("MS", ("month_of_year",)),
        ("QE-DEC", ("month_of_year",)),
        ("YS", ()),
    ],
)
def test_marks_of_a_frequency(freq, want):
    assert names("auto", freq) == want
    assert names(freq, "D") == want
    assert names("none", freq) == ()


def test_an_unknown_frequency_is_named():
    with pytest.raises(
        UserError, match=r'data.calendar = "hourly" is no frequency; write one such as "h"'
    ):
        names("hourly", "h")


@given(st.datetimes(pd.Timestamp("1970-01-01"), pd.Timestamp("2100-01-01")))
def test_marks_lie_in_half_a_unit_around_zero(stamp):
    found = marks(pd.DatetimeIndex([stamp]), tuple(BY_HAND))
    assert (np.abs(found) <= 0.5).all()


def test_the_ends_of_each_range():
    ends = marks(pd.DatetimeIndex(["2023-01-01 00:00:00", "2024-12-31 23:59:59"]), tuple(BY_HAND))
    wanted = {
        "day_of_week": (0.5, -4 / 12),
        "week_of_year": (51 / 52 - 0.5, -0.5),
    }  # a Sunday, a Tuesday of week 1
    for (low, high), name in zip(ends.T, BY_HAND, strict=True):
        assert (low, high) == pytest.approx(wanted.get(name, (-0.5, 0.5)), abs=1e-6), name


@pytest.mark.parametrize("freq", ["YS", "YE-JUN", "BYE-DEC", "2YS", "h"])
def test_no_marks_are_a_table_without_columns(freq):
    """Of yearly data, where nothing differs from row to row, and wherever data.calendar is none."""
    made = panel(series(walk(5, 2), freq=freq), freq=freq)
    ahead = stamps_of(made, 0, 3, 9)
    assert names("auto" if freq != "h" else "none", freq) == () == names("none", freq)
    assert marks(ahead, ()).shape == (6, 0)
    assert list(ahead) == list(pd.date_range("2024-01-01", periods=9, freq=freq)[3:])


# Local clocks --------------------------------------------------------------------------------------------------------


def berlin(start, rows):
    return panel(series(walk(rows, 2), start=start), tz="Europe/Berlin")


def test_spring_skips_an_hour_and_autumn_has_one_twice():
    spring = stamps_of(berlin("2024-03-30 23:00", 5), 0, 0, 5)
    assert list(spring.hour) == [0, 1, 3, 4, 5]
    autumn = stamps_of(berlin("2024-10-26 22:00", 5), 0, 0, 5)
    assert list(autumn.hour) == [0, 1, 2, 2, 3]
    assert marks(autumn, ("hour_of_day",))[:, 0] == pytest.approx(
        np.array([0, 1, 2, 2, 3]) / 23 - 0.5, abs=1e-7
    )


def test_rows_behind_the_end_go_through_the_change_of_the_clock():
    made = berlin("2024-10-26 18:00", 3)
    found = stamps_of(made, 0, 1, 9, aware=True)
    assert [f"{s:%H%z}" for s in found] == [
        "21+0200", "22+0200", "23+0200", "00+0200", "01+0200", "02+0200", "02+0100", "03+0100"
    ]  # fmt: skip
    assert list(stamps_of(made, 0, 1, 9)) == list(found.tz_localize(None))
    assert list(stamps_of(made, 0, 5, 7)) == list(found[4:6].tz_localize(None))


@pytest.mark.parametrize(
    ("freq", "want"),
    [
        ("MS", ["2024-04-01", "2024-05-01"]),
        ("B", ["2024-01-04", "2024-01-05", "2024-01-08"]),
        ("W-SUN", ["2024-01-28", "2024-02-04"]),
        ("15min", ["2024-01-01 00:45", "2024-01-01 01:00"]),
    ],
)
def test_frequencies_go_on_behind_the_end(freq, want):
    made = panel(series(walk(3, 2), freq=freq), freq=freq)
    assert list(stamps_of(made, 0, 3, 3 + len(want))) == [pd.Timestamp(day) for day in want]


def test_stamps_without_a_zone_stay_as_written():
    made = panel(series(walk(5, 2), start="2024-03-31 00:00"))
    assert list(stamps_of(made, 0, 0, 7).hour) == [0, 1, 2, 3, 4, 5, 6]
    assert stamps_of(made, 0, 0, 7, aware=True).tz is None


# Holidays ------------------------------------------------------------------------------------------------------------


def test_a_holiday_is_a_local_day():
    utc = pd.date_range("2024-12-24", periods=72, freq="h", tz="UTC")
    local = utc.tz_convert("Pacific/Auckland").tz_localize(
        None
    )  # 13 hours ahead: 25 December begins at 11:00 UTC
    assert Holidays("NZ-AUK").flags(local).tolist() == [0.0] * 11 + [1.0] * 48 + [0.0] * 13


def test_regions_differ():
    days = pd.date_range("2024-01-28", periods=3, freq="D")
    assert Holidays("NZ-AUK").flags(days).tolist() == [0, 1, 0]  # Auckland's anniversary
    assert Holidays("NZ").flags(days).tolist() == [0, 0, 0]
    assert Holidays("NZ").flags(days[:0]).shape == (0,)


@pytest.mark.parametrize("region", ["XX", "NZ-QQ", ""])
def test_unknown_places_are_named(region):
    with pytest.raises(UserError, match=rf'data.holidays = "{region}": .*"NZ-AUK"'):
        Holidays(region)
