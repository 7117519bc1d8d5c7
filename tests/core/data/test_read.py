"""One reader for every domain: ugly tables, what is chosen and said, limits, and round trips by other writers."""

import csv
import gzip
import io
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answers import refusal
from isoform.core.data.read import read_table
from isoform.core.data.text import Limits
from isoform.core.errors import UserError
from ugly_tables import KEYS, UGLY


def read(tmp_path, content, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


def said(table):
    return [str(finding) for finding in table.findings]


def values(table, name):
    return [None if math.isnan(value) else value for value in table.numbers(name).values.tolist()]


@pytest.mark.parametrize("ugly", UGLY, ids=lambda ugly: ugly.name)
def test_ugly_tables(tmp_path, ugly):
    if ugly.refusal and not ugly.of_column:
        refusal(lambda: read(tmp_path, ugly.content(), ugly.file), ugly.refusal, ugly.file)
        return
    table = read(tmp_path, ugly.content(), ugly.file, **ugly.settings)
    assert table.cells("name") == KEYS[: ugly.rows] and not table.ragged
    if ugly.refusal:
        assert ugly.refusal in table.numbers("load").problem
        return
    for name, expected in ugly.numbers.items():
        assert values(table, name) == expected and not table.numbers(name).unread
        table.say_bounds(name)
    if ugly.finding:
        assert any(ugly.finding in line for line in said(table)), said(table)
    else:
        assert said(table) == []


def test_a_bomb_is_refused_early(tmp_path):
    bomb = next(ugly for ugly in UGLY if ugly.name == "a gz bomb").content()
    start = time.process_time()
    refusal(lambda: read(tmp_path, bomb, "t.csv.gz"), "128 MiB")
    assert time.process_time() - start < 5
    small = gzip.compress(b"a,b\n" + b"1,2\n" * 999)
    assert len(read(tmp_path, small, "t.csv.gz")) == 999
    assert "doesn't end in .gz" in said(read(tmp_path, small))[0]
    refusal(lambda: read(tmp_path, small[:-9], "t.csv.gz"), "damaged or unreadable")
    refusal(lambda: read(tmp_path, b"no gzip at all", "t.csv.gz"), "damaged or unreadable")
    refusal(
        lambda: read(tmp_path, small, "t.csv.gz", limits=Limits(bytes=2000)), "its unpacked size"
    )
    refusal(lambda: read(tmp_path, b"a\n" + b"1\n" * 999, limits=Limits(bytes=1000)), "its size")


def test_limits_of_rows_and_columns(tmp_path):
    text = "a,b,c\n" + "1,2,3\n" * 11
    assert len(read(tmp_path, text, limits=Limits(cells=33))) == 11
    refusal(lambda: read(tmp_path, text, limits=Limits(cells=32)), "more than 10 rows of 3 columns")
    refusal(lambda: read(tmp_path, text, limits=Limits(columns=2)), "3 columns")


def test_rows_are_numbered_as_an_editor_does(tmp_path):
    table = read(
        tmp_path, '# c\nid,note,y\n1,"two\nlines",1.5\n\n2,x\n3,z,2.5,4\n4,x,3.5,,\n,,\n5,y,5\n'
    )
    assert list(table.rows) == [3, 6, 7, 8, 10] and table.row_name(1) == "line 6"
    assert table.ragged == {1: ["2", "x"], 2: ["3", "z", "2.5", "4"]}
    assert table.cells("id") == ["1", "", "", "4", "5"] and table.cells("note")[0] == "two\nlines"
    assert any("a row without any cell is left out (line 9)" in line for line in said(table))
    refusal(table.refuse_ragged, "line 6", "has 2 cells where there are 3 columns", "1 more")
    table.fill_short_rows()
    assert table.cells("id") == ["1", "2", "", "4", "5"] and list(table.ragged) == [2]


def test_names_of_columns(tmp_path):
    table = read(tmp_path, ",smiles,\n0,C,1\n")
    assert (
        table.names == ["column 1", "smiles", "column 3"] and "column 1, column 3" in said(table)[0]
    )
    assert read(tmp_path, "#date,load\n1.5,2\n2.5,3\n").names == ["date", "load"]
    assert read(tmp_path, "#,load\n1,2\n2,3\n").names == ["#", "load"]
    refusal(
        lambda: read(tmp_path, "1,2024-01-01\n2,2024-01-02\n"), "holds values", "name the columns"
    )
    refusal(lambda: read(tmp_path, "\n\na,b\n"), "the first line is empty")
    table = read(tmp_path, "C,1.5\nCC,2.5\n", headless=lambda head: head[0][1] == "1.5")
    assert table.names == ["column 1", "column 2"] and table.cells("column 1") == ["C", "CC"]
    assert list(table.rows) == [1, 2] and "holds values" in said(table)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1,5;2,5\n3,5;4\n", ";"),
        ("a;b, c\n1;2\n3;4\n", ";"),
        ("path,label\nx.png,a|b\ny.png,c|d\n", ","),
        ("path,label\nx.png,a;b\ny.png,c;d\n", ","),
        ("a\tb\n1,5\t2\n", "\t"),
        ('a,b\n"x;y;z",1\n"x;y;z",2\n', ","),
        ("a|b|c\n1|2|3\n", "|"),
        ("a,b\n1\n2\n", ","),
    ],
)
def test_the_delimiter_is_told_by_the_body(tmp_path, text, expected):
    assert read(tmp_path, text).delimiter == expected


def test_a_single_column_of_decimal_commas(tmp_path):
    assert values(read(tmp_path, "Last\n1,5\n-2,25\n"), "Last") == [1.5, -2.25]


def test_thousands_or_decimals_are_never_guessed_in_silence(tmp_path):
    def column(text, name="b"):
        table = read(tmp_path, text)
        return values(table, name), " ".join(line for line in said(table) if f'"{name}"' in line)

    # The other columns of the file tell.
    assert column("a;b\n1,5;1.105\n2,5;2.210\n") == (
        [1105, 2210], 'column "b": the point is read as a thousands mark, as the other columns show (such as 1.105)'
    )  # fmt: skip
    # Whole numbers below 1000 beside it do.
    found, line = column("a;b\nx;1.105\ny;922\n")
    assert found == [1105, 922] and "thousands mark" in line
    found, line = column("a;b\nx;1.105\ny;2.310\n")
    assert found == [1.105, 2.31] and "either could be meant by 1.105" in line
    assert column("a,b\nx,1.105\ny,2.310\n") == ([1.105, 2.31], "")
    assert column("a,b\nx,0.105\ny,2\n") == ([0.105, 2], "")
    found, line = column('a,b\nx,"12,345"\ny,"63,701"\n')
    assert found == [12345, 63701] and "the comma is read as a thousands mark" in line
    found, line = column("a;b\nx;12,345\ny;63,701\n")
    assert found == [12.345, 63.701] and "decimal mark" in line
    # A cell that can't be of its column's way is named, not read otherwise.
    table = read(tmp_path, 'a,b\nx,1.5\ny,"1,5"\nz,2.5\nw,"1,234.5"\n')
    assert values(table, "b") == [1.5, None, 2.5, 1234.5] and table.numbers("b").unread == [
        (1, "1,5")
    ]
    assert table.shown(table.numbers("b").unread) == "'1,5' (line 3)"


def test_what_looks_like_numbers_is_read_or_refused(tmp_path):
    table = read(
        tmp_path,
        "m,u,p,d,t,i\n0.5 uM,$5,1 ± 0.1,01.02.2024,2008M01,>10\n7 nM,$-6,2 ± 0.1,03.02.2024,x,3\n",
    )
    assert "several units (uM, nM)" in table.numbers("m").problem and not table.numbers("m").numeric
    assert "'1 ± 0.1'" in table.numbers("p").problem.replace('"', "'")
    assert values(table, "u") == [5, -6] and table.units["u"] == "$"
    for name in "dt":
        assert not table.numbers(name).problem and not table.numbers(name).numeric
    found = table.numbers("i")
    assert found.values.tolist() == [10, 3] and found.censored == [(0, ">10")] and found.numeric
    found = read(tmp_path, "a,b\ninf,1_000\n2,3\n").numbers("a")
    assert found.infinite == [(0, "inf")] and math.isnan(found.values[0])
    assert read(tmp_path, "a,b\ninf,1_000\n2,3\n").numbers("b").unread == [(0, "1_000")]


def test_words_and_codes_for_missing(tmp_path):
    table = read(tmp_path, "a,b\n1.5,-9\n2.5,7\nLOD,8\n", missing=["lod", -9])
    assert values(table, "a") == [1.5, 2.5, None] and values(table, "b") == [None, 7, 8]
    assert (
        not table.numbers("a").unread
        and "-9 counts as missing (data.missing), 1 cell" in said(table)[0]
    )


def test_long_cells_and_quotes(tmp_path):
    long = "x" * 131_073
    table = read(tmp_path, f'a,b\n{long},1\n "q, r",2\n')
    assert table.cells("a") == [long, "q, r"] and csv.field_size_limit() == 131_072
    refusal(lambda: read(tmp_path, 'a,b\n"x,1\ny,2\n'), "line 2", "is a quotation mark missing?")


def test_one_line_for_what_many_columns_share(tmp_path):
    names = [f"c{i}" for i in range(13)]
    table = read(tmp_path, ";".join(names) + "\n" + ";".join(["1,5"] * 13) + "\n")
    for name in names:
        table.numbers(name)
    assert len([line for line in said(table) if "decimal mark" in line]) == 1
    assert '13 columns "c0"' in said(table)[-1] and "and 8 more" in said(table)[-1]


def test_standard_input_and_digest(tmp_path, monkeypatch):
    content = b"a,b\n1,2\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(content))))
    table = read_table("-")
    assert table.name == "standard input" and values(table, "b") == [2]
    import hashlib

    assert read(tmp_path, content).sha256 == hashlib.sha256(content).hexdigest()
    refusal(
        lambda: read_table(tmp_path / "none.csv", key="data.table"), "no such file (data.table)"
    )
    refusal(lambda: read_table(tmp_path), "is a folder")
    refusal(lambda: read_table(tmp_path / "x.xls"), "save it as .xlsx or .csv")
    refusal(lambda: read_table([1, 2]), "no table")


def test_equal_short_texts_are_held_once(tmp_path):
    cells = read(tmp_path, "a,b\n" + "CCO,0.125\n" * 500).cells("b")
    assert len(cells) == 500 and len({id(cell) for cell in cells}) == 1


def test_reading_a_csv_imports_no_pandas():
    code = (
        "import sys, isoform.core.data.read; "
        "assert not {'pandas', 'pyarrow', 'openpyxl', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hundred_thousand_rows_take_about_a_second(tmp_path):
    x = np.random.default_rng(0).normal(size=(100_003, 11))
    text = ",".join(f"c{i}" for i in range(11)) + "\n"
    text += "\n".join(",".join(map(repr, row)) for row in x.tolist())
    path = tmp_path / "t.csv"
    path.write_text(text)
    start = time.process_time()
    table = read_table(path)
    found = np.stack([table.numbers(name).values for name in table.names], 1)
    assert time.process_time() - start < 8  # 2 here, on a machine that does nothing else
    assert np.array_equal(found, x)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="ab,;|\t\"' \n\r#=.0123456789-sep", max_size=200).map(str.encode)
)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, raw):
    for name in ("x.csv", "x.csv.gz", "x.parquet"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(raw)
        try:
            table = read_table(path)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert all(len(table.cells(column)) == len(table) for column in table.names)
            assert all(len(table.numbers(column).values) == len(table) for column in table.names)


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), max_size=9
)
floats = st.floats(-1e12, 1e12)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(texts, floats, st.integers(-(10**6), 10**6)), min_size=1, max_size=11),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_python_writes_is_read_back(tmp_path_factory, rows, delimiter, encoding):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["note", "value", "count"])
    writer.writerows([note, repr(value), count] for note, value, count in rows)
    path = tmp_path_factory.getbasetemp() / "back.csv"
    path.write_bytes(buffer.getvalue().encode(encoding))
    table = read_table(path)
    assert table.delimiter == delimiter and table.cells("note") == [note for note, _, _ in rows]
    assert table.cells("value") == [repr(value) for _, value, _ in rows] and not table.ragged
    assert [int(cell) for cell in table.cells("count")] == [count for _, _, count in rows]
    assert table.numbers("count").values.tolist() == [count for _, _, count in rows]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.floats(-1e15, 1e15).filter(lambda value: round(value, 2) != round(value)),
        min_size=1,
        max_size=13,
    ),
    st.sampled_from(
        [(".", ",", ","), (",", ".", ";"), (",", " ", ";"), (",", "\u202f", "\t"), (".", "'", ",")]
    ),
)
def test_numbers_with_marks_are_read_back(tmp_path_factory, numbers, marks):
    """With two decimals, which no thousands mark can look like, every way of writing is told by the cells."""
    decimal, thousands, delimiter = marks
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["key", "value"])
    for place, number in enumerate(numbers):
        text = f"{number:,.2f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
        writer.writerow([f"k{place}", text])
    path = tmp_path_factory.getbasetemp() / "marks.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8")
    table = read_table(path)
    assert table.numbers("value").values.tolist() == [float(f"{number:.2f}") for number in numbers]
