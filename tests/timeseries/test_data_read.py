"""csv and parquet: what is found by itself, what each setting means, and one sentence for each mistake."""

import gzip
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data import source_file
from isoform.timeseries.data.read import read_file, read_frame

from .files import frame, hours, read, real, refused, same, table, values

NAN = np.nan


def wide(rows=29, columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(3)


@pytest.fixture
def plain(tmp_path):
    """29 hours of a, b, c."""
    x = wide()
    return frame(
        tmp_path / "plain.csv", {"date": hours(29), "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}
    )


# What a csv may look like ---------------------------------------------------------------------------------------------


def test_a_plain_file(plain):
    panel = read(plain)
    assert (panel.freq, panel.tz, panel.name, panel.variates) == (
        "h",
        None,
        "plain.csv",
        ["a", "b", "c"],
    )
    assert same(values(panel), wide()) and (values(panel).index == hours(29)).all()
    assert panel.first.attrs == {"id": "", "rows": 29} and len(panel.sha256) == 64
    assert (
        panel.first["time"].dtype == "datetime64[us]"
        and panel.names("past") == panel.names("known") == []
    )
    assert panel.findings.lines == ["stamps: column date"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", [".csv", ".txt", ".csv.gz"])
def test_delimiters_and_packing(tmp_path, delimiter, ending):
    rows = [[stamp, *row] for stamp, row in zip(hours(29), wide().tolist(), strict=True)]
    path = table(tmp_path / "x.csv", ["date", "a", "b", "c"], rows, delimiter)
    if ending.endswith(".gz"):
        (tmp_path / "y.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "y.csv.gz"
    else:
        path = path.rename(tmp_path / f"y{ending}")
    assert same(values(read(path)), wide())


def test_decimal_commas_byte_order_mark_crlf_and_blank_lines(tmp_path):
    path = tmp_path / "german.csv"
    lines = [
        "Zeit;Datum;Last [MW];Temp. [°C]",
        ";01.01.2024 00:00;1.234,5;-1,5",
        ";01.01.2024 01:00;17,25; 2",
    ]
    path.write_bytes(
        "\r\n".join([*lines, "", ";01.01.2024 02:00;18;3,75", "", ""]).encode("utf-8-sig")
    )
    panel = read(path, time="Datum")
    assert panel.variates == ["Last [MW]", "Temp. [°C]"] and panel.first[
        "units"
    ].values.tolist() == ["MW", "°C"]
    assert same(values(panel), [[1234.5, -1.5], [17.25, 2], [18, 3.75]])
    assert "the comma is the decimal mark" in "".join(panel.findings.lines)


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


def test_missing_values_as_people_write_them(tmp_path):
    marks = ["NA", "NaN", "null", "", "-", "?", "n/a", "None", "--"]
    path = frame(
        tmp_path / "m.csv",
        {"date": hours(12), "a": [1.5, *marks, "inf", "-Infinity"], "b": range(0, 24, 2)},
    )
    panel = read(path)
    assert same(values(panel)["a"], [1.5] + [NAN] * 11) and panel.findings.data["infinite"] == 2
    assert "unreadable" not in panel.findings.data


def test_sentinels_are_missing_where_data_missing_names_them(tmp_path):
    a = [1.5, -9999, 3.25, -9999, 2.5]
    path = frame(
        tmp_path / "m.csv", {"date": hours(5), "a": a, "b": ["7", "out", "8.5", "9", "out"]}
    )
    assert "set data.missing = [-9999]" in "".join(read(path).findings.lines)
    panel = read(path, missing=(-9999.0, "out"))
    assert same(values(panel), [[1.5, 7], [NAN, NAN], [3.25, 8.5], [NAN, 9], [2.5, NAN]])
    assert "unreadable" not in panel.findings.data


def test_cells_that_cannot_be_read_are_missing_and_named(tmp_path):
    a = [str(i / 2) for i in range(31)]
    a[3], a[7], a[30] = "broken", "1,5", "12:00"
    panel = read(frame(tmp_path / "bad.csv", {"date": hours(31), "a": a, "b": range(0, 62, 2)}))
    found = values(panel)["a"]
    assert found.isna().sum() == 3 and found.iloc[[3, 7, 30]].isna().all() and found.iloc[4] == 2
    said = "".join(panel.findings.lines)
    assert all(
        text in said for text in ('row 5 column a ("broken")', 'row 9 column a ("1,5")', "row 32")
    )
    assert panel.findings.data["unreadable_cells"] == 3


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


def test_since_and_until_are_local_and_include_their_day(plain, tmp_path):
    panel = read(plain, since="2024-01-01 05:00", until="2024-01-01")
    assert panel.first.attrs["rows"] == panel.first.sizes["time"] == 19
    assert same(values(panel), wide()[5:24])
    zoned = read(plain, tz="America/New_York", since="2024-01-01T10:00Z", until="2024-01-01 06:00")
    assert same(values(zoned), wide()[5:7])
    refused(
        "data.since = 2025-01-01",
        "it goes from 2024-01-01 00:00:00",
        path=plain,
        since="2025-01-01",
    )
    refused('data.until = "soon"', "is no date", path=plain, until="soon")


def test_what_other_programs_write_is_read_alike(tmp_path, plain):
    """Latin-1, UTF-16, bars, a preamble, quoted thousands, nameless columns and rows that stop early."""
    lines = plain.read_text().splitlines()
    for name, content in {
        "latin": plain.read_text().replace("a,", "Größe,", 1).encode("latin-1"),
        "wide": plain.read_text().encode("utf-16"),
        "bars": plain.read_text().replace(",", "|").encode(),
        "preamble": b"sep=,\n# station 7\n" + plain.read_bytes(),
        "nameless": plain.read_text().replace(",a,b,c", ",,,c", 1).encode(),
    }.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(content)
        assert same(values(read(path)), wide()), name
    (tmp_path / "short.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0]]))
    panel = read(tmp_path / "short.csv")
    want = wide()
    want[-1, -1] = NAN
    assert same(values(panel), want) and "1 rows have fewer cells" in "".join(panel.findings.lines)
    quoted = table(
        tmp_path / "thousands.csv",
        ["date", "a"],
        zip(hours(3), ["1,234.5", "17.25", "2,018.0"], strict=True),
    )
    assert same(values(read(quoted)), [[1234.5], [17.25], [2018]])


def test_a_spreadsheet_is_read_like_the_csv(tmp_path, plain):
    pytest.importorskip("openpyxl")
    pd.read_csv(plain, parse_dates=["date"]).to_excel(tmp_path / "x.xlsx", index=False)
    assert same(values(read(tmp_path / "x.xlsx")), wide())


# Parquet and DataFrames -----------------------------------------------------------------------------------------------


def test_parquet_types(tmp_path):
    x = wide(7, 1)[:, 0]
    columns = {
        "when": pa.array(hours(7, tz="Europe/Berlin")), "f32": pa.array(x.astype(np.float32)), 
        "bool": pa.array([True, False] * 3 + [True]),
        "money": pa.array([Decimal("1.25")] * 6 + [None]), "site": pa.array(list("abcdefg")).dictionary_encode(),
        "nested": pa.array([[1]] * 7), "clock": pa.array([0] * 7, pa.time32("s")),
        "small": pa.array([1, 2, 1, 2, 1, 2, None], pa.int8()),
    }  # fmt: skip
    schema = pa.schema(
        [
            pa.field(n, c.type, metadata={"units": "kW"} if n == "f32" else None)
            for n, c in columns.items()
        ]
    )
    pq.write_table(pa.table(list(columns.values()), schema=schema), tmp_path / "p.parquet")
    panel = read(tmp_path / "p.parquet")
    assert (
        panel.tz == "Europe/Berlin"
        and str(panel.first["time"].values[0]) == "2023-12-31T23:00:00.000000"
    )
    assert (
        panel.variates == ["f32", "bool", "money", "small"]
        and panel.first["units"].values[0] == "kW"
    )
    assert same(values(panel)["f32"], x.astype(np.float32)) and same(
        values(panel)["money"], [1.25] * 6 + [NAN]
    )
    left_out = {entry["column"] for entry in panel.findings.data["columns_left_out"]}
    assert left_out == {"site", "clock"} and "lists or bytes are left out: nested" in "".join(
        panel.findings.lines
    )


def test_an_index_of_stamps_counts_as_a_column(tmp_path):
    made = pd.DataFrame(wide(), index=hours(29), columns=["a", "b", "c"])
    made.to_parquet(tmp_path / "i.parquet")
    made.to_csv(tmp_path / "i.csv")
    for panel in (
        read(tmp_path / "i.parquet"),
        read(tmp_path / "i.csv"),
        read_frame(made, DataConfig()),
    ):
        assert same(values(panel), wide()) and panel.variates == ["a", "b", "c"]
    assert read_frame(made.astype(np.float32), DataConfig()).first["target"].dtype == np.float32


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_mistakes_in_settings(plain):
    refused("data.path is not set")
    refused("no such file or folder", path=plain.with_name("none.csv"))
    refused('has no column "laod" (data.targets)', path=plain, targets="laod")
    refused('has no column "bb"', "did you mean b?", "only date, a, b, c", path=plain, past="bb")
    refused('has no column "when" (data.time)', path=plain, time="when")
    refused('has no column "site" (data.id)', path=plain, id="site")
    refused('column "a" is named as past and as targets', path=plain, past="a", targets="a")
    refused('column "a"', path=plain, past=["a", "a"])
    refused('column "a" (data.static) changes', path=plain, static="a")
    refused('data.freq = "often"', path=plain, freq="often")
    refused("data.freq = 15min is finer", path=plain, freq="15min")
    refused("has no numeric column", path=plain, drop=["a", "b", "c"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("the first line is empty",)),
        ("\n\n1,2\n", ("the first line is empty",)),
        ("date,a\n", ("has a head but no rows",)),
        ("date,a\n\n\n", ("has a head but no rows",)),
        ("date,a\n2024-01-01,1\n", ("one stamp tells no frequency",)),
        ("date,a,a\n2024-01-01,1,2\n", ('they are called "a"',)),
        ("2024-01-01,1\n2024-01-02,2\n", ("holds values", "name the columns")),
        (
            "date,a\n2024-01-01,1,2\n2024-01-02,3,4\n",
            ("line 2: has 3 cells where there are 2 columns", "1 more"),
        ),
        (
            "date,a\n2024-01-01,1\n2024-01-02,1,2,3\n",
            ("line 3: has 4 cells where there are 2 columns",),
        ),
        ('date,a\n2024-01-01,"1\n', ("line 2", "is a quotation mark missing?")),
        ("date,a\n2024-01-01,x\n2024-01-02,y\n", ("no numeric column", "a text")),
        ("a,b\n1,2\n3,4\n", ("data.time = NAME", "a, b")),
        ("x,y,v\n2024-01-01,2024-01-01,1\n2024-01-02,2024-01-02,2\n", ("x and y all hold dates",)),
        ("date,v\n1,5\n2,6\n", ("holds numbers from 1 to 2", "no stamps")),
        ("date,v\n2024-01-01,\n2024-01-02,\n", ("no numeric column",)),
        ("PK\x03\x04\0\0", ("is no text",)),
    ],
)
def test_mistakes_in_a_csv(tmp_path, content, words):
    (tmp_path / "x.csv").write_text(content)
    refused("x.csv", *words, path=tmp_path / "x.csv")


def test_mistakes_in_other_files(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(wide(99).tobytes())[:400])
    refused("damaged", path=tmp_path / "x.csv.gz")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    refused("is no parquet file", path=tmp_path / "x.parquet")
    (tmp_path / "x.docx").touch()
    refused("is no file of series by its ending", ".parquet", path=tmp_path / "x.docx")
    (tmp_path / "folder").mkdir()
    refused("is a folder and no Zarr store", path=tmp_path / "folder")
    path = frame(tmp_path / "t.csv", {"date": hours(3), "a": ["x", "y", "z"]})
    refused('column "a" holds no number ("x" in row 2)', path=path, targets="a")


def test_large_files_are_refused_before_they_are_read(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(source_file, "MOST_BYTES", 2**20)
    bomb = tmp_path / "b.csv.gz"
    bomb.write_bytes(gzip.compress(b"date,a\n" + b"0" * 2**21))
    refused("its unpacked size", path=bomb)
    pq.write_table(
        pa.table({"date": np.zeros(2**18, "M8[s]"), "a": np.zeros(2**18)}), tmp_path / "b.parquet"
    )
    assert (tmp_path / "b.parquet").stat().st_size < 2**20  # packed by runs
    refused("its content of", path=tmp_path / "b.parquet")
    monkeypatch.setattr(source_file, "MOST_BYTES", 99)
    refused("its size of", path=plain)


@settings(max_examples=60)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="date,a;b0129.-:T \n\"'x\t", max_size=200).map(str.encode)
)
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"date,a\n" + content)
    try:
        panel = read_file(path, DataConfig())
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert panel.first["target"].dims == ("time", "variate")


# Size and real files --------------------------------------------------------------------------------------------------


def test_ten_thousand_variates_take_seconds(tmp_path):
    x = wide(61, 10_007)
    lines = ["date," + ",".join(f"v{i}" for i in range(x.shape[1]))]
    lines += [
        f"{stamp}," + ",".join(map(str, row))
        for stamp, row in zip(hours(61), x.tolist(), strict=True)
    ]
    (tmp_path / "w.csv").write_text("\n".join(lines))
    start = time.process_time()
    panel = read(tmp_path / "w.csv")
    assert time.process_time() - start < 20 and len(panel.variates) == 10_007
    assert same(panel.first["target"], x)


def test_published_files(golden_data):
    panel = read(real(golden_data, "ETTh1.csv"))
    assert (panel.freq, panel.first.attrs["rows"], panel.variates[-1]) == ("h", 17_420, "OT")
    assert panel.findings.data["empty_steps"] == panel.findings.data["repeated_rows"] == 0
    panel = read(real(golden_data, "exchange_rate.csv"))
    assert (panel.freq, panel.first.sizes["time"], len(panel.variates)) == ("D", 7_588, 8)
    daily = read(real(golden_data, "ETTh1.csv"), freq="D", aggregate="sum")
    assert (
        daily.first.attrs["rows"] == 725 and daily.first.sizes["time"] == 725
    )  # the 726th day is cut short
