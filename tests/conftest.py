"""Options, seeds and threads of every test."""

from __future__ import annotations

import os

# Before torch is imported: thread pools are sized once. No test reaches a network or a display.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from commands import exit_code

ROOT = Path(__file__).resolve().parent.parent

# The same examples on every machine and in every run; slow machines are no failures.
hypothesis.settings.register_profile("isoform", derandomize=True, deadline=None)
hypothesis.settings.load_profile("isoform")
torch.set_num_threads(1)
# Autograd counts devices once, at its first backward pass. Where it finds any it starts threads, and a process with
# them can't train in a fork, as runs that are killed do. So it counts here, before any test or library adds one.
torch.zeros(1, requires_grad=True).sum().backward()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=ROOT.parent / "shared" / "golden",
        help="stored parity cases",
    )
    parser.addoption(
        "--golden-data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="data files they name",
    )


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Words behind `isoform` -> (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return exit_code(*words), *capsys.readouterr()

    return call


@pytest.fixture
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """Folder of --golden-dir; the test is skipped where there is none."""
    return _existing(request, "--golden-dir")


@pytest.fixture
def golden_data(request: pytest.FixtureRequest) -> Path:
    """Folder of --golden-data; the test is skipped where there is none."""
    return _existing(request, "--golden-data")


def _existing(request: pytest.FixtureRequest, option: str) -> Path:
    folder = Path(request.config.getoption(option))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: give {option} DIR")
    return folder
