"""csv, parquet and tables: what a file of series may look like, however it was written."""

import gzip
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.read import read_frame

from .files import frame, hours, read, real, refused, same, table, values, wide

NAN = np.nan


# What a csv may look like ---------------------------------------------------------------------------------------------


def test_a_plain_file(plain_csv):
    panel = read(plain_csv)
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


def test_since_and_until_are_local_and_include_their_day(plain_csv, tmp_path):
    panel = read(plain_csv, since="2024-01-01 05:00", until="2024-01-01")
    assert panel.first.attrs["rows"] == panel.first.sizes["time"] == 19
    assert same(values(panel), wide()[5:24])
    zoned = read(
        plain_csv, tz="America/New_York", since="2024-01-01T10:00Z", until="2024-01-01 06:00"
    )
    assert same(values(zoned), wide()[5:7])
    refused(
        "data.since = 2025-01-01",
        "it goes from 2024-01-01 00:00:00",
        path=plain_csv,
        since="2025-01-01",
    )
    refused('data.until = "soon"', "is no date", path=plain_csv, until="soon")


def test_what_other_programs_write_is_read_alike(tmp_path, plain_csv):
    """Latin-1, UTF-16, bars, a preamble, quoted thousands, nameless columns and rows that stop early."""
    lines = plain_csv.read_text().splitlines()
    for name, content in {
        "latin": plain_csv.read_text().replace("a,", "Größe,", 1).encode("latin-1"),
        "wide": plain_csv.read_text().encode("utf-16"),
        "bars": plain_csv.read_text().replace(",", "|").encode(),
        "preamble": b"sep=,\n# station 7\n" + plain_csv.read_bytes(),
        "nameless": plain_csv.read_text().replace(",a,b,c", ",,,c", 1).encode(),
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


def test_a_spreadsheet_is_read_like_the_csv(tmp_path, plain_csv):
    pytest.importorskip("openpyxl")
    pd.read_csv(plain_csv, parse_dates=["date"]).to_excel(tmp_path / "x.xlsx", index=False)
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
