"""Parquet, spreadsheets and DataFrames: the same table from each."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answers import refusal
from isoform.core.data.frame import to_frame
from isoform.core.data.read import read_table
from isoform.core.data.text import Limits

pd = pytest.importorskip("pandas")


def made():
    return pd.DataFrame({"name": ["a", None, "NA"], "y": [1.105, np.nan, -3.0], "n": [7, 11, 13]})


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "name": pa.array(["a", None, "NA"]), "y": pa.array([1.105, None, -3.0]), "n": pa.array([7, 11, None]),
        "money": pa.array([Decimal("1.25"), None, Decimal("2.50")]), "lists": pa.array([[1], [2], [3]]),
        "site": pa.array(list("xyx")).dictionary_encode(), "ok": pa.array([True, False, None]),
    }  # fmt: skip
    fields = [
        pa.field(n, c.type, metadata={"units": "kW"} if n == "y" else None)
        for n, c in columns.items()
    ]
    pq.write_table(
        pa.table(list(columns.values()), schema=pa.schema(fields)), tmp_path / "a.parquet"
    )
    table = read_table(tmp_path / "a.parquet")
    assert table.names == ["name", "y", "n", "money", "site", "ok"] and table.units == {"y": "kW"}
    assert table.cells("name") == ["a", "", "NA"] and table.cells("n") == ["7", "11", ""]
    np.testing.assert_array_equal(table.numbers("money").values, [1.25, np.nan, 2.5])
    np.testing.assert_array_equal(table.numbers("ok").values, [1, 0, np.nan])
    assert table.row_name(2) == "row 3" and table.cells("site") == ["x", "y", "x"]
    assert [str(one) for one in table.findings] == ["columns of lists or bytes are left out: lists"]
    assert "more than is read" in refusal(
        lambda: read_table(tmp_path / "a.parquet", limits=Limits(cells=5))
    )
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    assert "is no parquet file that can be read" in refusal(
        lambda: read_table(tmp_path / "b.parquet")
    )


def test_a_data_frame_is_one_table():
    table = read_table(made())
    assert table.names == ["name", "y", "n"] and table.cells("name") == ["a", "", "NA"]
    np.testing.assert_array_equal(table.numbers("y").values, [1.105, np.nan, -3])
    stamped = made().set_index(pd.date_range("2024-01-01", periods=3))
    assert read_table(stamped).names == ["time", "name", "y", "n"]
    assert read_table(made().set_index("name")).names == ["name", "y", "n"]
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert "same name" in refusal(lambda: read_table(twice))
    assert len(read_table(pd.DataFrame({"a": [], "b": []}))) == 0


def test_spreadsheets(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["name", "y", "n"], ["a", 1.105, 7], [], [None, None, 11.0], ["NA", -3, "13"]):
        sheet.append(row)
    book.create_sheet("other")
    book.save(tmp_path / "a.xlsx")
    table = read_table(tmp_path / "a.xlsx")
    assert list(table.rows) == [2, 4, 5] and table.cells("name") == ["a", "", "NA"]
    assert table.cells("n") == ["7", "11", "13"] and table.numbers("n").values.tolist() == [
        7,
        11,
        13,
    ]
    np.testing.assert_array_equal(table.numbers("y").values, [1.105, np.nan, -3])
    assert any('the first of 2 sheets is read, "Sheet"' in str(one) for one in table.findings)
    (tmp_path / "b.xlsx").write_bytes(b"PK\x03\x04 no")
    assert "is no spreadsheet that can be read" in refusal(lambda: read_table(tmp_path / "b.xlsx"))


def test_frames_have_the_types_of_their_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,y,n,ok,note,gap\nNA,1.5,7,True,x,1\nb,NA,11,False,NA,\n")
    frame = to_frame(read_table(path), text=["id"])
    assert [frame[name].dtype.kind for name in frame] == ["O", "f", "i", "b", "O", "f"]
    assert frame["id"].tolist() == ["NA", "b"] and frame["note"].fillna("-").tolist() == ["x", "-"]
    path.write_text("d;y;z\nx;1.105,5;inf\ny;broken;1\nz;;2\nw;7,25;3\n")
    frame = to_frame(read_table(path))
    assert frame["y"].tolist() == [1105.5, "broken", None, 7.25] and frame["z"].tolist() == [
        np.inf,
        1,
        2,
        3,
    ]
    kept = to_frame(read_table(made()))
    pd.testing.assert_frame_equal(kept, made())


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")),
    min_size=1,
    max_size=9,
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(cells, st.floats(-1e9, 1e9) | st.none(), st.integers(-(10**9), 10**9)),
        min_size=2,
        max_size=11,
    ),
    st.sampled_from([(",", "."), (";", ","), ("\t", "."), ("|", ".")]),
)
def test_what_pandas_writes_is_read_back(tmp_path_factory, rows, marks):
    delimiter, decimal = marks
    frame = pd.DataFrame(rows, columns=["note", "value", "count"])
    frame["value"] = frame["value"].astype(np.float64)
    path = tmp_path_factory.getbasetemp() / "pandas.csv"
    frame.to_csv(path, sep=delimiter, decimal=decimal, index=False)
    table = read_table(path)
    assert table.cells("note") == frame["note"].tolist()
    assert table.numbers("count").values.tolist() == frame["count"].tolist()
    told = any(value is not None and round(value, 3) != value for _, value, _ in rows)
    if told or decimal == ".":  # otherwise 1,105 alone may be either, and the choice is said
        np.testing.assert_array_equal(table.numbers("value").values, frame["value"])
