"""docs/scale.md says what benchmarks/scale.py computes, and that is arithmetic one can do by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale_on_paper", ROOT / "benchmarks/scale.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_as_they_are_computed(scale):
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in scale.table() if line and line not in page] == []


@pytest.mark.parametrize(
    ("name", "matrices", "once"),
    [("ViT-L", 12, 0), ("ADiT-L", 12, 6), ("Graphormer", 6, 0)],
)
def test_parameters_work_and_sums_by_hand(scale, name, matrices, once):
    """`matrices` of dim x dim in a block that every token passes, `once` those of a sample's condition."""
    (trunk,) = (one for one in scale.TRUNKS if one.name.startswith(name))
    c, batch, tokens = trunk.config, trunk.samples, trunk.tokens
    square = c.depth * c.dim**2
    assert trunk.parameters == pytest.approx((matrices + once) * square, rel=0.003)
    scores = c.depth * c.heads * tokens**2 * (c.dim // c.heads) * 2 * 2 * 3  # two products, thrice
    work = batch * (6 * square * (matrices * tokens + once) + scores)
    assert trunk.work == pytest.approx(work, rel=0.003)
    assert trunk.compute == pytest.approx(work / 400e12, rel=0.003)
    assert trunk.summed(8) == pytest.approx(2 * 7 / 8 * 4 * trunk.parameters / 360e9)
    assert trunk.summed(1000) == pytest.approx(8 * trunk.parameters / 40e9, rel=0.003)
    assert scale.asked(1000) == pytest.approx(3 * 0.04, rel=0.003)
