"""Small files of series for the tests of what is read, and what is refused."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reported
from answers import refusal
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.read import read_panel

case = partial(reported.case, "timeseries")


def hours(rows, freq="h", start="2024-01-01", **options):
    return pd.date_range(start, periods=rows, freq=freq, **options)


def table(path, columns, rows, delimiter=","):
    """A csv."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def wide(rows=29, columns=3, seed=0):
    """Numbers of three digits, none like another."""
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(3)


def frame(path, data):
    """A csv of {name: cells}."""
    pd.DataFrame(data).to_csv(path, index=False)
    return path


def read(path, **data):
    return read_panel(DataConfig(path=str(path), **data))


def refused(*words, path=None, **data):
    """Asserts one sentence with all the words; returns it."""
    given = {} if path is None else {"path": str(path)}
    return refusal(lambda: read_panel(DataConfig(**given, **data)), *words)


def values(panel, series=0):
    """Targets as a table with the stamps of the grid."""
    one = panel.series[series]
    return pd.DataFrame(one["target"].values, pd.DatetimeIndex(one["time"].values), panel.variates)


def same(a, b):
    return np.array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64), equal_nan=True)


def real(golden_data: Path, name: str) -> Path:
    """A published file, or the test is skipped."""
    path = golden_data / "timeseries" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path
