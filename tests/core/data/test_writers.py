"""Files of rows and columns: exactly the columns that were given, and all files or none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from isoform.core.api import staged
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


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_every_written_file_has_the_mode_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for ending in ("csv", "jsonl", "parquet"):
            writers.write_columns({"a": [1, 2]}, tmp_path / f"a.{ending}")
        for ending in ("npz", "parquet"):
            writers.write_features(["x"], np.zeros((1, 3)), tmp_path / f"f.{ending}")
        writers.write_together({tmp_path / "b" / "x.nc": b"1", tmp_path / "y.xlsx": b"2"})
        with staged(tmp_path / "model.safetensors") as out:
            save_file({"w": np.zeros(3, np.float32)}, out)
        with staged(tmp_path / "folder") as out:
            out.mkdir()
            save_file({"w": np.zeros(3, np.float32)}, out / "model.safetensors")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 9
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask
