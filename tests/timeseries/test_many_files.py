"""Many files forecast in one start."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoform

from . import runs
from .runs import HORIZON, VARIATES, saved


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three that fit and two that don't."""
    good = [saved(runs.frame(59 + k), tmp_path / f"good{k}.csv") for k in range(3)]
    short = saved(runs.frame(3), tmp_path / "short.csv")
    return [good[0], short, good[1], tmp_path / "none.csv", good[2]]


def test_many_files_are_one_table(waves: Path, files: list[Path], tmp_path: Path, cli) -> None:
    one = isoform.load(waves)
    code, out, err = cli("forecast", waves, *files, "--out", tmp_path / "next.csv")
    assert code == 0 and "3 of 5 files forecast" in out
    assert "none.csv: no such file" in err and "has 3 rows" in err and "Traceback" not in err
    table = pd.read_csv(tmp_path / "next.csv")
    assert list(table)[:5] == ["file", "id", "stamp", "variate", "mean"]
    assert list(table["file"].unique()) == [str(files[k]) for k in (0, 2, 4)]
    for name, part in table.groupby("file"):
        np.testing.assert_array_equal(part["mean"], one.forecast(name)["mean"].values.ravel())
    code, _, _ = cli("forecast", waves, *files, "--out", tmp_path / "next.parquet")
    assert code == 0
    parquet = pd.read_parquet(tmp_path / "next.parquet")
    assert parquet["mean"].tolist() == table["mean"].tolist()
    assert str(parquet["stamp"].dtype).startswith("datetime64")


def test_many_files_printed(waves: Path, files: list[Path], cli) -> None:
    code, out, _ = cli("forecast", waves, *files, "--quantiles", "")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "file,id,stamp,variate,mean"
    assert len(lines) == 1 + 3 * HORIZON * len(VARIATES)
    code, out, _ = cli("forecast", waves, *files, "--json")
    found = json.loads(out.splitlines()[-1])
    assert found["failed"] == 2 and [one["file"] for one in found["files"]] == [*map(str, files)]
    assert "no such file" in found["files"][3]["error"] and found["files"][0]["horizon"] == HORIZON


def test_many_files_into_a_folder(waves: Path, files: list[Path], tmp_path: Path, cli) -> None:
    code, _, err = cli("forecast", waves, *files, "--out", f"{tmp_path}/next/", "--strict")
    assert code == 2 and "2 of 5 files failed" in err
    assert sorted(one.name for one in (tmp_path / "next").iterdir()) == [
        "good0.csv",
        "good1.csv",
        "good2.csv",
    ]
    assert cli("forecast", waves, files[0], "--out", tmp_path / "one.csv")[0] == 0
    assert (tmp_path / "next" / "good0.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_what_many_files_cannot_share(waves: Path, files: list[Path], tmp_path: Path, cli) -> None:
    (tmp_path / "b").mkdir()
    twin = saved(runs.frame(59), tmp_path / "b" / "good0.csv")
    wrong = {
        "go into one table, .csv or .parquet": [*files, "--out", tmp_path / "next.nc"],
        "draws the forecasts of one file": [*files, "--plot", tmp_path / "a.png"],
        "both would go to": [files[0], twin, "--out", f"{tmp_path}/next/"],
        "none of 2 files could be forecast": [files[1], files[3]],
        "quantile 0.001": [*files, "--quantiles", ".001"],
    }
    for sentence, words in wrong.items():
        code, out, err = cli("forecast", waves, *words)
        assert code == 2 and out == "" and sentence in err.splitlines()[-1], err


def test_what_is_said_of_all_files_is_said_once(waves: Path, tmp_path: Path, cli) -> None:
    unseen = runs.frame().rename(columns={"north": "a", "south": "b", VARIATES[2]: "c"})
    many = [saved(unseen.drop(columns="temp"), tmp_path / f"f{k}.csv") for k in range(4)]
    code, _, err = cli("forecast", waves, *many, "--out", tmp_path / "next.csv")
    assert code == 0 and err.count("are new to this run") == 1 and "f0.csv and 3 more: " in err


def test_zones_of_several_files(waves: Path, tmp_path: Path, cli) -> None:
    """In one parquet table stamps of several zones are in UTC; with and without a zone they don't go together."""
    east, west = (
        saved(runs.frame(61, tz=zone), tmp_path / f"{k}.csv")
        for k, zone in enumerate(("Asia/Tokyo", "America/Lima"))
    )
    out = tmp_path / "next.parquet"
    code, _, err = cli("forecast", waves, east, west, "--out", out)
    assert code == 0, err
    stamps = pd.read_parquet(out)["stamp"]
    assert str(stamps.dt.tz) == "UTC"
    assert stamps.min() == pd.Timestamp("2026-03-02T00:00Z") + pd.Timedelta("52h")
    plain = saved(runs.frame(61), tmp_path / "plain.csv")
    code, _, err = cli("forecast", waves, east, plain, "--out", tmp_path / "b.parquet")
    assert code == 2 and "some files have a zone and those of others none" in err


def test_a_hundred_files_in_one_start(waves: Path, tmp_path: Path, cli) -> None:
    """Under ten seconds more than one file takes; the processor's, so that a busy machine says the same."""
    many = [saved(runs.frame(59), tmp_path / f"f{k}.csv") for k in range(100)]
    seconds = []
    for files in (many[:1], many):
        begin = time.process_time()
        assert cli("forecast", waves, *files, "--out", tmp_path / "next.csv")[0] == 0
        seconds.append(time.process_time() - begin)
    assert seconds[1] - seconds[0] < 10
    assert pd.read_csv(tmp_path / "next.csv")["file"].nunique() == 100
