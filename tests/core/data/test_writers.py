"""Files of rows and columns: exactly the columns that were given, and all files or none."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from isoform.core.data import writers
from isoform.core.errors import UserError, printable

COLUMNS = {
    "stamp": ["a", "b,c", "d"],
    "mean": np.array([1.5, -2.25, 3.0]),
    "q": [None, 0.5, [1, 2]],
}


def test_columns_are_written_as_they_are(tmp_path: Path) -> None:
    writers.write_columns(COLUMNS, tmp_path / "a.csv")
    assert (
        tmp_path / "a.csv"
    ).read_text() == 'stamp,mean,q\na,1.5,\n"b,c",-2.25,0.5\nd,3.0,"[1, 2]"\n'
    writers.write_columns(COLUMNS, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[1] == {"stamp": "b,c", "mean": -2.25, "q": 0.5} and len(lines) == 3
    assert [list(line) for line in lines] == [["stamp", "mean", "q"]] * 3


def test_rows_of_inputs_get_input_first_and_error_last() -> None:
    rows = [{"error": "", "input": "x", "p": 1}, {"input": "y", "q": np.float32(0.5)}]
    assert list(writers.columns_of(rows)) == ["input", "p", "q", "error"]
    assert writers.csv_text(writers.columns_of(rows)) == "input,p,q,error\nx,1,,\ny,,0.5,\n"


def test_no_rows_leave_the_header() -> None:
    assert writers.csv_text({"id": [], "mean": np.zeros(0)}) == "id,mean\n"


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    writers.write_columns(
        {"stamp": COLUMNS["stamp"], "mean": COLUMNS["mean"]}, tmp_path / "a.parquet"
    )
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist()[1] == {
        "stamp": "b,c",
        "mean": -2.25,
    }


def test_several_files_or_none(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UserError, match=r"folder.svg: can't be written \(Is a directory\)"):
        writers.write_together({tmp_path / "old.csv": b"new", tmp_path / "folder.svg": b"new"})
    assert (tmp_path / "old.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.svg", "old.csv"]
    writers.write_together({tmp_path / "old.csv": b"new", tmp_path / "a" / "b.svg": b"two"})
    assert (tmp_path / "old.csv").read_bytes() == b"new" and (
        tmp_path / "a" / "b.svg"
    ).read_bytes() == b"two"
    assert not list(tmp_path.rglob(".*"))


def test_a_name_that_is_no_text_costs_no_row(tmp_path: Path) -> None:
    """Bytes that aren't UTF-8 stand as such, in cells, in lists and in names of columns; two such names stay two."""
    names = [os.fsdecode(b"\xff.png"), os.fsdecode(b"\xfe.png"), "\ud800é"]
    want = [r"\xff.png", r"\xfe.png", r"\ud800é"]
    columns = {"input": names, names[0]: [names[:1], 2, None]}
    for ending in ("csv", "jsonl"):
        writers.write_columns(columns, tmp_path / f"a.{ending}")
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text("utf-8"))))
    assert rows[0] == ["input", want[0]] and [row[0] for row in rows[1:]] == want
    assert json.loads(rows[1][1]) == want[:1]
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {"input": want[0], want[0]: want[:1]}
    writers.write_features(names, np.zeros((3, 2)), tmp_path / "a.npz", {names[0]: names})
    arrays = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert arrays["inputs"].tolist() == arrays[f"column {want[0]}"].tolist() == want
    parquet = pytest.importorskip("pyarrow.parquet")
    writers.write_columns({names[0]: names}, tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == {want[0]: want}
    writers.write_atomically(tmp_path / "page.html", f"<p>{names[0]}</p>")
    assert (tmp_path / "page.html").read_text("utf-8") == f"<p>{want[0]}</p>"


@given(st.binary(max_size=7), st.binary(max_size=7))
def test_different_names_stay_different_and_text_stays_as_it_is(one: bytes, other: bytes) -> None:
    names = [printable(raw.decode("ascii", "surrogateescape")) for raw in (one, other)]
    assert (names[0] == names[1]) is (one == other) or b"\\" in one + other
    for raw, name in zip((one, other), names, strict=True):
        assert name == printable(os.fsdecode(raw)) == printable(name)
        with contextlib.suppress(UnicodeDecodeError):
            assert name == raw.decode()


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_every_written_file_has_the_mode_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for ending in ("csv", "jsonl", "parquet"):
            writers.write_columns({"a": [1, 2]}, tmp_path / f"a.{ending}")
        for ending in ("npz", "parquet"):
            writers.write_features(["x"], np.zeros((1, 3)), tmp_path / f"f.{ending}")
        writers.write_together({tmp_path / "b" / "x.nc": b"1", tmp_path / "y.xlsx": b"2"})
        with writers.staged(tmp_path / "model.safetensors") as out:
            save_file({"w": np.zeros(3, np.float32)}, out)
        with writers.staged(tmp_path / "folder") as out:
            out.mkdir()
            save_file({"w": np.zeros(3, np.float32)}, out / "model.safetensors")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 9
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ('=HYPERLINK("http://x")', "'=HYPERLINK(\"http://x\")"), ("@SUM(A1)", "'@SUM(A1)"), ("-OH", "'-OH"),
        ("+cmd|x", "'+cmd|x"), ("\t=1", "'\t=1"), ("=1", "'=1"), ("--1", "'--1"),
        ("-1.5", "-1.5"), ("+2", "+2"), ("-1,5e3", "-1,5e3"), ("-", "-"), ("+", "+"), ("=", "="),
        ("@", "@"), ("a=b", "a=b"), ("", ""),
        (-1.5, "-1.5"), (np.float64(-2), "-2.0"), (None, ""), ("C=C", "C=C"), ("(+)-x", "(+)-x"),
    ],
)  # fmt: skip
def test_a_text_that_a_spreadsheet_would_compute_gets_an_apostrophe(cell, written) -> None:
    text = writers.csv_text({"a": [cell], "b": [0]})
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], [written, "0"]]


@given(st.text(st.sampled_from("=+-@1.,e \"'ab\t"), max_size=7))
def test_no_cell_or_name_of_a_column_begins_like_a_formula(text: str) -> None:
    for row in csv.reader(io.StringIO(writers.csv_text({text: [text], f"{text}2": [1]}))):
        first = row[0]
        assert first in ("=", "@") or not first.startswith(("=", "@", "\t"))
        assert first.removeprefix("'") in (text, text[1:])
        if first.startswith(("+", "-")) and len(first) > 1:
            assert set(first) <= set("+-1.,e ab")  # a number, at most with its unit


def test_columns_in_front_of_input_stay_there() -> None:
    rows = [{"id": 1, "error (input)": 2, "input": "x", "p": 3, "error": ""}]
    assert list(writers.columns_of(rows)) == ["id", "error (input)", "input", "p", "error"]
