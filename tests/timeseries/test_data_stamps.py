"""Stamps: every form that is read, to the microsecond, and those that are not guessed."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import make_axis
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.stamps import parse_stamps, unit_of

MOMENT = "2024-02-29T13:05:00"
instants = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))


def parse(*columns, names=("stamp", "hour", "minute")):
    given_names = names if len(columns) > 1 else (names[0],)
    return parse_stamps(
        [pd.Series(c, name=n) for c, n in zip(columns, given_names, strict=False)], "f.csv"
    )


def one(*cells, **options):
    found = parse(*[[cell] for cell in cells], **options)
    return str(found.time[0].astype("M8[s]")), found.zoned


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29 13:05", "2024-02-29T13:05:00", "2024/2/29 13:05", "29.2.2024 13:05", "29.02.24 13:05:00",
        "29/2/2024 13:05", "2/29/2024 1:05 PM", "2/29/2024 01:05:00 p.m.", "29 Feb 2024 13:05", "Feb 29, 2024 13:05",
        " 2024-02-29 13:05:00.000 ", "202402291305", "20240229130500",
    ],
)  # fmt: skip
def test_forms_of_one_moment(text):
    assert one(text) == (MOMENT, False)


@pytest.mark.parametrize(
    "text",
    ["2024-02-29T13:05Z", "2024-02-29 14:05+01:00", "2024-02-29 13:05:00 UTC", "2024-02-29 08:35-0430",
     "29.2.2024 15:05 +02", "1709211900", "1709211900000", "1709211900000000000"],
)  # fmt: skip
def test_forms_with_an_offset_are_utc(text):
    assert one(text) == (MOMENT, True)


@pytest.mark.parametrize(
    ("text", "day"),
    [("2024-02", "2024-02-01"), ("202402", "2024-02-01"), ("2024Q2", "2024-04-01"), ("1789", "1789-01-01"),
     ("20240229", "2024-02-29"), ("29.02.2024", "2024-02-29"), ("31.12.2023 24:00", "2024-01-01")],
)  # fmt: skip
def test_coarse_stamps_begin_their_step(text, day):
    assert one(text) == (f"{day}T00:00:00", False)


@pytest.mark.parametrize(
    "text", ["now", "today", "", "soon", "2023-02-29", "31.4.2024", "2024-01-01 25:00", "x" * 999]
)
def test_what_is_no_stamp_is_missing(text):
    found = parse([text, "2024-01-01 00:00"])
    assert np.isnat(found.time[0]) and not np.isnat(found.time[1])


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (("2024-02-29", "13:05"), ("date", "time")),
        (("29.02.2024", "1:05 PM"), ("date", "time")),
        (("2024-02-29", "13:05-13:59"), ("date", "hour")),
        ((20240229, 1305), ("date", "hour")),
        (("2024-02-29", 13, 5), ("date", "hour", "minute")),
        ((2024, 2, 29, 13, 5), ("year", "month", "day", "hour", "minute")),
        ((13, 29, 2, 2024, 5), ("HR", "Day", "MON", "yr", "Min")),
        ((2024, 2, 29, 13, 5), ("a", "b", "c", "d", "e")),
    ],
)
def test_several_columns(columns, names):
    assert one(*columns, names=names) == (MOMENT, False)


def test_an_hour_of_24_is_the_next_day():
    found = parse(["2024-02-29"] * 3, [1, 23, 24])
    assert found.time.astype("M8[h]").astype(str).tolist() == [
        "2024-02-29T01",
        "2024-02-29T23",
        "2024-03-01T00",
    ]


def test_day_or_month_first_is_told_by_all_rows():
    assert parse(["1/2/2024", "2/13/2024"]).time[0] == np.datetime64("2024-01-02")
    assert parse(["1/2/2024", "13/2/2024"]).time[0] == np.datetime64("2024-02-01")
    with pytest.raises(UserError, match=r"day and month.*told apart"):
        parse(["1/2/2024", "2/3/2024"])


def test_offsets_must_be_everywhere_or_nowhere():
    with pytest.raises(UserError, match='"2024-01-01 02:00" has no offset'):
        parse(["2024-01-01 00:00+01:00", "2024-01-01 02:00"])
    found = parse(["2024-03-31 01:30+01:00", "2024-03-31 03:30+02:00", None])
    assert (
        found.zoned
        and np.diff(found.time[:2])[0] == np.timedelta64(1, "h")
        and np.isnat(found.time[2])
    )


@pytest.mark.parametrize("numbers", [[1, 2, 3], [0.5, 0.7], [5e7, 6e7], [-4.0, 3.0]])
def test_other_numbers_are_no_stamps(numbers):
    with pytest.raises(UserError, match=r"are no stamps; .*name"):
        parse(numbers)


def test_fractions_of_seconds():
    assert parse([1709211900.25]).time[0] == np.datetime64("2024-02-29T13:05:00.25")
    assert parse(["29.2.2024 13:05:00.125"]).time[0] == np.datetime64("2024-02-29T13:05:00.125")


def test_typed_columns_keep_their_zone():
    assert parse(pd.date_range("2024-03-31", periods=2, tz="Europe/Berlin")).zone == "Europe/Berlin"
    assert parse(pd.date_range("2024-03-31", periods=2, tz="UTC")).zone is None
    wide = parse(np.array(["0000-12-31", "0001-01-01", "10000-01-01"], "M8[s]"))
    assert np.isnat(wide.time).tolist() == [True, False, True] and not wide.zoned


def test_names_of_units():
    assert [unit_of(name) for name in ("Year", " HR", "mon", "years", "")] == [
        "year",
        "hour",
        "month",
        None,
        None,
    ]


@given(
    st.lists(instants, min_size=1, max_size=7), st.sampled_from(["iso", "dots", "parts", "offset"])
)
def test_what_was_written_is_read(moments, form):
    moments = [moment.replace(microsecond=0) for moment in moments]
    expected = np.array(moments, "M8[us]")
    if form == "parts":
        names = ("year", "month", "day", "hour", "minute", "second")
        found = parse(*[[getattr(m, unit) for m in moments] for unit in names], names=names)
    elif form == "dots":
        found = parse([f"{m.day}.{m.month}.{m.year:04d} {m.hour}:{m:%M:%S}" for m in moments])
    elif form == "offset":
        found = parse([f"{m.isoformat(' ')}-03:30" for m in moments])
        expected = expected + np.timedelta64(210, "m")
    else:
        found = parse([m.isoformat() for m in moments])
    assert (found.time == expected).all() and found.zoned == (form == "offset")


@given(
    st.lists(
        st.one_of(st.text(max_size=30), st.none(), st.integers(), st.floats()),
        min_size=1,
        max_size=7,
    )
)
def test_any_cells_give_instants_or_one_sentence(cells):
    try:
        found = parse([None if cell is None else str(cell) for cell in cells])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert found.time.dtype == "M8[us]" and len(found.time) == len(cells)
        assert isinstance(found.show(0), str)


# Periods, zones by name, spreadsheets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "day"),
    [("2019M07", "2019-07-01"), ("2019-M07", "2019-07-01"), ("2019m7", "2019-07-01"), ("07/2019", "2019-07-01"),
     ("7-2019", "2019-07-01"), ("2019/07", "2019-07-01"), ("2019-07", "2019-07-01"),
     ("Jul-19", "2019-07-01"), ("Jul 2019", "2019-07-01"), ("July 2019", "2019-07-01"), ("2019 Jul", "2019-07-01"),
     ("Mar-85", "1985-03-01"), ("2019Q3", "2019-07-01"), ("2019-Q3", "2019-07-01"), ("Q3 2019", "2019-07-01"),
     ("Q3-2019", "2019-07-01"), ("3Q2019", "2019-07-01"), ("2019:Q3", "2019-07-01"), ("2019-S2", "2019-07-01"),
     ("2019H2", "2019-07-01"), ("2019-W27", "2019-07-01"), ("2019W27", "2019-07-01"), ("2019-W27-4", "2019-07-04"),
     ("2020-W53", "2020-12-28"), ("2021-W01", "2021-01-04"), ("1987", "1987-01-01"), ("31.12.99", "1999-12-31")],
)  # fmt: skip
def test_a_period_is_its_first_instant(text, day):
    assert one(text) == (f"{day}T00:00:00", False)


@pytest.mark.parametrize(
    "text", ["2019M13", "13/2019", "2019-W54", "2021-W53", "2019-W00", "2019Q5", "Q0 2019", "2019S3", "Foo-19"]
)  # fmt: skip
def test_periods_that_there_are_not_are_missing(text):
    assert np.isnat(parse([text, "2024-01-01 00:00"]).time[0])


@pytest.mark.parametrize(
    ("text", "utc"),
    [("2023-07-01 13:00 CEST", "2023-07-01T11:00:00"), ("01.12.2023 13:00 MEZ", "2023-12-01T12:00:00"),
     ("2023-07-01T13:00:00 MESZ", "2023-07-01T11:00:00"), ("2023-12-01 13:00:30 EET", "2023-12-01T11:00:30"),
     ("2023-07-01 13:00 EEST", "2023-07-01T10:00:00"), ("2023-12-01 13:00 WET", "2023-12-01T13:00:00"),
     ("1 Jul 2023 13:00 WEST", "2023-07-01T12:00:00"), ("2023-12-01 13:00 GMT", "2023-12-01T13:00:00")],
)  # fmt: skip
def test_short_names_of_european_zones_are_offsets(text, utc):
    assert one(text) == (utc, True)


def test_a_zones_short_names_tell_the_zone():
    utc = pd.date_range("2023-10-28 20:00", periods=31, freq="h", tz="UTC")
    texts = utc.tz_convert("Europe/Berlin").strftime("%Y-%m-%d %H:%M %Z")
    found = parse(texts)
    assert (found.time == utc.tz_localize(None).to_numpy()).all() and found.zone == "Europe/Berlin"
    summer = pd.date_range("2023-07-01", periods=5, freq="h").strftime("%Y-%m-%d %H:%M CET")
    assert parse(summer).zone == "Etc/GMT-1"  # a clock that never changes
    athens = pd.date_range("2023-07-01", periods=5, freq="h").strftime("%Y-%m-%d %H:%M EEST")
    assert parse(athens).zone == "Europe/Athens"


@pytest.mark.parametrize("name", ["EST", "IST", "CST", "BST", "XYZ"])
def test_other_short_names_are_named_and_not_guessed(name):
    stamps = parse([f"2023-07-{day:02d} 13:00 {name}" for day in range(1, 8)])
    assert np.isnat(stamps.time).all()
    with pytest.raises(
        UserError, match=rf'row 1 \(.*{name}"\).*{name} stands for several zones'
    ) as caught:
        make_axis(stamps, DataConfig(), Findings(), "f.csv")
    assert "2024-01-31 13:00-05:00" in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_read_says_how_to_write_it():
    with pytest.raises(UserError, match=r'row 1 \("week 3 of 2020"\).*weeks as 2024-W05'):
        make_axis(parse(["week 3 of 2020"] * 5), DataConfig(), Findings(), "f.csv")


@given(
    st.sampled_from(["h", "15min", "D", "min", "7s"]),
    st.integers(5, 8),
    st.datetimes(pd.Timestamp("1971-01-01"), pd.Timestamp("2099-12-01")),
)
def test_days_of_a_spreadsheet_are_read_to_the_second(freq, digits, start):
    time = pd.date_range(pd.Timestamp(start).floor("min"), periods=29, freq=freq)
    serial = ((time - pd.Timestamp("1899-12-30")) / pd.Timedelta("1D")).to_numpy()
    found = parse(np.round(serial, digits))
    assert (found.time == time.to_numpy()).all() and not found.zoned
    assert "days since 1900, as spreadsheets count" in found.note
    assert parse([str(number) for number in np.round(serial, digits)]).note == found.note
