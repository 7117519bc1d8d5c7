"""The command line of this domain, for its tests, and what several of them use."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from . import files, runs


@pytest.fixture
def cli(cli):
    """Words behind `isoform timeseries` -> (exit code, stdout, stderr)."""
    return partial(cli, "timeseries")


@pytest.fixture
def result(cli):
    """The same, of a command that succeeds -> what --json says."""

    def call(*words: object) -> dict:
        code, out, err = cli(*words, "--json")
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    return call


@pytest.fixture(scope="session")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with quantiles of its own and bounds that its forecasts go beyond; only evaluations are written into it."""
    return runs.trained(
        tmp_path_factory.mktemp("waves"), train={"epochs": 1}, head=runs.QUANTILES,
        data={"bounds": {"north": [40, 60], runs.VARIATES[2]: [0, 0.28]}},
    )  # fmt: skip


@pytest.fixture
def plain_csv(tmp_path: Path) -> Path:
    """29 hours of a, b, c."""
    x = files.wide()
    columns = {"date": files.hours(29), "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}
    return files.frame(tmp_path / "plain.csv", columns)
