"""`predict` and `embed`: a row for every input, in every format."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from answers import rows_in
from isoform.core.data import writers
from isoform.core.errors import UserError

from .toys import last, mistake


def test_predict_writes_a_row_for_every_input_in_order(cli, trained):
    code, out, err = cli(
        "toys", "predict", trained, "3", "bad,one", "-0.5", "--out", "deep/rows.csv"
    )
    assert code == 0 and err == "bad,one: isn't a number\n" and "2 of 3" in out
    rows = rows_in("deep/rows.csv")
    assert [row["input"] for row in rows] == ["3", "bad,one", "-0.5"]
    assert list(rows[0]) == ["input", "prediction", "logits", "error"]
    assert [row["error"] for row in rows] == ["", "isn't a number", ""]
    assert rows[0]["prediction"].startswith("class") and rows[1]["prediction"] == ""
    assert len(json.loads(rows[0]["logits"])) == toy.CLASSES

    assert cli("toys", "predict", trained, "3", "bad", "--out", "rows.jsonl")[0] == 0
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == [None, "isn't a number"]
    assert (
        cli("toys", "predict", trained, "3", "bad")[1].splitlines()[0]
        == "input,prediction,logits,error"
    )
    assert [
        row["input"] for row in last(cli("toys", "predict", trained, "3", "4", "--json")[1])["rows"]
    ] == ["3", "4"]


@pytest.mark.parametrize(
    ("inputs", "options", "code"),
    [
        (["1", "bad"], [], 0),
        (["1", "bad"], ["--strict"], 2),
        (["1"], ["--strict"], 0),
        (["bad"], [], 2),
        (["empty"], [], 2),
    ],
)
def test_exit_codes_of_predict(cli, trained, inputs, options, code):
    assert cli("toys", "predict", trained, *inputs, *options)[0] == code


def test_parquet(cli, trained):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert cli("toys", "predict", trained, "3", "bad", "--out", "rows.parquet")[0] == 0
    rows = parquet.read_table("rows.parquet").to_pylist()
    assert [row["input"] for row in rows] == ["3", "bad"] and len(rows[0]["logits"]) == toy.CLASSES
    assert cli("toys", "embed", trained, "3", "4", "--out", "e.parquet")[0] == 0
    assert len(parquet.read_table("e.parquet").to_pylist()[1]["features"]) == toy.HIDDEN


def test_parquet_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        writers.format_of("a.parquet", writers.ROWS)


def test_embed_a_run_and_a_foreign_checkpoint(cli, trained):
    assert cli("toys", "embed", trained, "3", "4", "5", "--out", "e.npz")[0] == 0
    with np.load("e.npz") as found:
        assert found["inputs"].tolist() == ["3", "4", "5"] and found["features"].shape == (
            3,
            toy.HIDDEN,
        )
    Path("weights.bin").touch()
    assert cli("toys", "embed", "weights.bin", "3", "--out", "f.npz")[0] == 0
    with np.load("f.npz") as other:
        assert other["features"].shape == (1, toy.HIDDEN)
    mistake(cli("toys", "embed", "none.bin", "3", "--out", "f.npz"), "none.bin: doesn't exist")


def test_an_output_that_cannot_be_written(cli, trained):
    Path("file").touch()
    mistake(
        cli("toys", "predict", trained, "3", "--out", "file/rows.csv"),
        "file/rows.csv: can't be written",
    )
