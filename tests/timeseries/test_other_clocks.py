"""Files of another frequency or zone than a run's: one sentence, the same for every verb, or one line that says so."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from . import runs

VERBS = ["forecast", "backtest", "eval", "predict"]


def months(freq: str, rows: int) -> pd.DataFrame:
    return runs.frame(rows, "1950-01-01", freq)


def zoned(freq: str, zone: str, rows: int = 311) -> pd.DataFrame:
    table = runs.frame(rows, freq=freq, tz=zone)
    return table.assign(date=[stamp.isoformat() for stamp in table["date"]])


@pytest.fixture(scope="module")
def monthly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monthly")
    return runs.trained(folder, months("MS", 131), train={"epochs": 1})


@pytest.fixture(scope="module")
def berlin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table, data = zoned("30min", "Europe/Berlin"), {"tz": "Europe/Berlin"}
    return runs.trained(tmp_path_factory.mktemp("berlin"), table, data=data, train={"epochs": 1})


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half-hours without a zone."""
    folder = tmp_path_factory.mktemp("bare")
    return runs.trained(folder, runs.frame(311, freq="30min"), train={"epochs": 1})


@pytest.fixture
def say(cli, tmp_path: Path):
    """(exit code, all that a verb says of a run and a table)"""

    def call(verb: str, run: Path, table: pd.DataFrame) -> tuple[int, str]:
        file = tmp_path / "other.csv"
        table.to_csv(file, index=False)
        words = [verb, str(run), *(["--data"] if verb == "eval" else []), str(file)]
        words += ["--out", str(tmp_path / "out.csv")] if verb != "eval" else []
        code, out, err = cli(*words)
        said = out + err
        assert "Traceback" not in said and "Warning" not in said
        return code, said

    return call


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("run", "table", "apart"),
    [
        ("monthly", months("QS", 131), "QS-JAN apart, and this run forecasts steps of MS"),
        ("berlin", zoned("h", "Europe/Berlin"), "h apart, and this run forecasts steps of 30min"),
        ("bare", runs.frame(311, freq="45min"), "45min apart, and this run forecasts steps of 30min"),
    ],
)  # fmt: skip
def test_rows_further_apart_are_refused(
    request: pytest.FixtureRequest, say, verb: str, run: str, table: pd.DataFrame, apart: str
) -> None:
    code, said = say(verb, request.getfixturevalue(run), table)
    assert code == 2 and f"its rows are {apart}; give such rows, or train a run on these" in said


@pytest.mark.parametrize("verb", VERBS[:3])
@pytest.mark.parametrize(
    ("run", "table", "line"),
    [
        ("monthly", months("W-MON", 601), "rows of one MS step are aggregated (mean)"),
        ("bare", runs.frame(611, freq="15min"), "rows of one 30min step are aggregated (mean)"),
        ("bare", zoned("30min", "UTC"), "its stamps have a zone and those of the run had none"),
        ("berlin", runs.frame(311, freq="30min"), "stamps are Europe/Berlin's clock"),
        ("berlin", zoned("30min", "America/New_York"), "from UTC; zone Europe/Berlin"),
    ],
)  # fmt: skip
def test_finer_rows_and_other_zones_are_read_and_said(
    request: pytest.FixtureRequest, say, verb: str, run: str, table: pd.DataFrame, line: str
) -> None:
    code, said = say(verb, request.getfixturevalue(run), table)
    assert code == 0 and line in said, said
