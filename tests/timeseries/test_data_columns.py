"""What each column is: stamps found by themselves, targets, covariates, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from .files import frame, hours, read, refused, same, values

NAN = np.nan


def test_units_keep_their_place_in_the_name_but_need_not_be_given(tmp_path):
    columns = {
        "date": hours(5),
        "temp [degC]": [2, 7, 1, 8, 2],
        "188 Quay St (EW)": [3, 1, 4, 1, 5],
    }
    path = frame(tmp_path / "u.csv", columns)
    panel = read(path, targets="temp")
    assert panel.variates == ["temp [degC]"] and panel.first["units"].values.tolist() == ["degC"]
    both = read(path)
    assert both.variates == ["temp [degC]", "188 Quay St (EW)"] and both.first[
        "units"
    ].values.tolist() == ["degC", ""]


def test_columns_that_are_no_series_are_left_out_in_one_line(tmp_path):
    rows = 11
    data = {
        "No": range(1, rows + 1), "date": hours(rows), "load": np.arange(rows) ** 2, "site": ["x"] * rows,
        "empty": [None] * rows, "half": ["1", "x"] * 5 + ["2"], "year": 2024, "hour": hours(rows).hour,
        "made": hours(rows, start="2020-01-01"),
    }  # fmt: skip
    panel = read(frame(tmp_path / "x.csv", data))
    assert panel.variates == ["load", "half"]
    (line,) = [line for line in panel.findings.lines if line.startswith("columns left out")]
    for said in (
        "No (a running number)",
        "site (text)",
        "empty (empty)",
        "made (text)",
        "and 1 more",
    ):
        assert said in line, line
    left_out = {
        entry["column"]: entry["reason"] for entry in panel.findings.data["columns_left_out"]
    }
    assert left_out["year"] == "repeats the stamps" and left_out["hour"] == "a running number"
    assert read(frame(tmp_path / "y.csv", data), targets="No").variates == ["No"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"timestamp": hours(7)}, "column timestamp"),
        ({"Time": hours(7), "a": range(7)}, "column Time"),
        ({"when": hours(7)}, "column when"),
        ({"": hours(7)}, "column column 2"),
        ({"date": hours(7).date, "time": hours(7).strftime("%H:%M")}, "columns date, time"),
        ({"date": hours(7).date, "hour": hours(7).hour}, "columns date, hour"),
        ({"date": hours(7), "hour": hours(7).hour}, "column date"),
        ({"year": 2024, "month": 1, "day": 1, "hour": range(7)}, "columns year, month, day, hour"),
        (
            {"Year": 2024, "Day": 1, "Month": 1, "HR": range(7), "weekday": 1},
            "columns Year, Month, Day, HR",
        ),
    ],
)
def test_the_stamps_are_found_and_reported(tmp_path, columns, said):
    path = frame(tmp_path / "t.csv", {"x": [3, 1, 4, 1, 5, 9, 2], **columns})
    panel = read(path)
    assert (pd.DatetimeIndex(panel.first["time"].values) == hours(7)).all() and panel.variates[
        0
    ] == "x"
    assert f"stamps: {said}" in panel.findings.lines


MONTHS = pd.date_range("2007-11-01", periods=7, freq="MS")
WEEKS = pd.date_range("2019-12-16", periods=7, freq="W-MON")
QUARTERS = pd.date_range("1979-07-01", periods=7, freq="QS")
YEARS = pd.date_range("1981-01-01", periods=7, freq="YS")


@pytest.mark.parametrize(
    ("name", "cells", "time"),
    [
        ("TIME_PERIOD", MONTHS.strftime("%YM%m"), MONTHS),
        ("TIME_PERIOD", MONTHS.strftime("%Y-%m"), MONTHS),
        ("TIME_PERIOD", YEARS.year, YEARS),
        ("period", MONTHS.strftime("%m/%Y"), MONTHS),
        ("Month", MONTHS.strftime("%Y-%m"), MONTHS),
        ("month", MONTHS.strftime("%b-%y"), MONTHS),
        ("week", WEEKS.strftime("%G-W%V"), WEEKS),
        ("Quarter", [f"Q{one.quarter} {one.year}" for one in QUARTERS], QUARTERS),
        ("when", [f"{one.year}Q{one.quarter}" for one in QUARTERS], QUARTERS),
    ],
)
def test_stamps_that_are_periods_are_found_without_being_named(tmp_path, name, cells, time):
    columns = {"geo": ["DE"] * 7, name: cells, "x": [3, 1, 4, 1, 5, 9, 2]}
    panel = read(frame(tmp_path / "t.csv", columns))
    assert list(panel.first["time"].values) == list(time.values) and panel.variates == ["x"]
    assert f"stamps: column {name}" in panel.findings.lines


def test_of_several_columns_of_dates_the_one_called_after_a_period_holds_the_stamps(tmp_path):
    columns = {"LAST UPDATE": ["13/05/2024"] * 7, "x": [3, 1, 4, 1, 5, 9, 2]}
    for name in ("TIME_PERIOD", "period", "month"):
        made = frame(tmp_path / "t.csv", {**columns, name: MONTHS.strftime("%YM%m")})
        assert list(read(made).first["time"].values) == list(MONTHS.values)
    made = frame(tmp_path / "t.csv", {**columns, "when": MONTHS.strftime("%YM%m")})
    refused("LAST UPDATE and when all hold dates", "data.time = NAME", path=made)


def test_a_month_beside_a_year_and_numbers_of_weeks_are_as_they_were(tmp_path):
    data = {"year": MONTHS.year, "month": MONTHS.month, "x": [3, 1, 4, 1, 5, 9, 2]}
    panel = read(frame(tmp_path / "t.csv", data))
    assert list(panel.first["time"].values) == list(MONTHS.values) and panel.variates == ["x"]
    made = frame(tmp_path / "w.csv", {"week": range(1, 8), "x": data["x"]})
    refused("no column is called date or time", path=made)


def test_data_time_names_the_stamps(tmp_path):
    data = {
        "date": ["x"] * 5,
        "Y": 2024,
        "D": range(3, 8),
        "M": 2,
        "begin": hours(5),
        "v": [1, 3, 1, 3, 1],
    }
    path = frame(tmp_path / "t.csv", data)
    assert read(path, time="begin").freq == "h"
    panel = read(path, time=["Y", "M", "D"], targets="v")
    assert panel.freq == "D" and str(panel.first["time"].values[0])[:10] == "2024-02-03"


def test_roles(tmp_path):
    rows = 13
    data = {
        "date": hours(rows), "load": [*range(10), None, None, None], "temp": [*range(0, 20, 2), None, None, None],
        "price": range(100, 100 + rows), "area": 7.5, "junk": range(0, 39, 3),
    }  # fmt: skip
    panel = read(
        frame(tmp_path / "r.csv", data),
        past="temp",
        known_future="price",
        static="area",
        drop="junk",
    )
    one = panel.first
    assert (panel.variates, panel.names("past"), panel.names("known"), panel.names("static")) == (
        ["load"], ["temp"], ["price"], ["area"],
    )  # fmt: skip
    assert one.attrs["rows"] == 10 and one.sizes["time"] == rows  # the price is known further ahead
    assert same(one["known_values"][:, 0], range(100, 113)) and same(one["static_values"], [7.5])
    assert same(one["past_values"][:, 0], [*range(0, 20, 2), NAN, NAN, NAN])
    alone = read(frame(tmp_path / "r.csv", data), targets="load")
    assert (
        alone.first.sizes["time"] == alone.first.attrs["rows"] == 10
    )  # nothing is known behind the last target
    future = read(frame(tmp_path / "r.csv", data), targets=(), known_future="price")
    assert (
        future.first.attrs["rows"] == 0
        and future.first.sizes["time"] == rows
        and future.variates == []
    )


def test_covariates_of_text_become_columns_of_0_and_1(tmp_path):
    data = {
        "date": hours(5),
        "y": [5, 3, 5, 3, 5],
        "sky": ["sun", "rain", "sun", None, "snow"],
        "kind": ["a"] * 5,
    }
    panel = read(frame(tmp_path / "c.csv", data), known_future="sky", static="kind")
    assert panel.names("known") == ["sky=rain", "sky=snow", "sky=sun"] and panel.names(
        "static"
    ) == ["kind=a"]
    assert same(
        panel.first["known_values"], [[0, 0, 1], [1, 0, 0], [0, 0, 1], [NAN] * 3, [0, 1, 0]]
    )
    many = frame(
        tmp_path / "d.csv",
        {"date": hours(37), "y": range(0, 74, 2), "note": [f"n{i}" for i in range(37)]},
    )
    refused('column "note"', "37 different texts", "at most 32", path=many, past="note")


def test_covariates_are_averaged_where_targets_are_summed(tmp_path):
    data = {"date": hours(48), "rain": 1.0, "temp": np.arange(48.0)}
    panel = read(frame(tmp_path / "s.csv", data), freq="D", aggregate="sum", past="temp")
    assert same(values(panel)["rain"], [24, 24]) and same(
        panel.first["past_values"][:, 0], [11.5, 35.5]
    )
