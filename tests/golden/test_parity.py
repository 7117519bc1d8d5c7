"""Every stored case of an official implementation, through the importer that the command line uses.

A kind is run by the adapter that `KINDS` names; one that nobody knows fails, and those in pending.txt are strict
expected failures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from golden import (
    adit_kinds,
    graph_kinds,
    molecule_kinds,
    point_kinds,
    series_kinds,
    timeseries_kinds,
    vision_kinds,
)
from golden.cases import PENDING, Case

KINDS: dict[str, Callable[[Case, Path], None]] = {
    **vision_kinds.KINDS, **timeseries_kinds.KINDS, **series_kinds.KINDS, **graph_kinds.KINDS,
    **molecule_kinds.KINDS, **adit_kinds.KINDS, **point_kinds.KINDS,
}  # fmt: skip


def test_parity(case_path: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    case = Case.load(case_path, Path(request.config.getoption("--golden-data")))
    assert case.kind in KINDS, f"no adapter runs the kind {case.kind!r} of {case_path}"
    KINDS[case.kind](case, tmp_path)


def test_no_kind_is_both_built_and_pending() -> None:
    assert not PENDING & KINDS.keys()
