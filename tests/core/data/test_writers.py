"""Files of rows and columns: exactly the columns that were given, and all files or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isoform.core.data import writers
from isoform.core.errors import UserError

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
