"""predict == predictions.csv == every export, over kinds of labels, descriptors, transforms and ways to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isoform
from answers import rows_in
from isoform.core import api
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.scaling import TargetScaling
from isoform.molecules import DOMAIN
from isoform.molecules.data.descriptors import Normaliser
from one_answer import (
    ONCE,
    assert_a_changed_weight_is_seen,
    assert_caught,
    assert_exports_agree,
    assert_rows_close,
)

from .runs import TEXTS, app, table, task_of, trained

TABLES = (
    ("regression", {}),
    ("regression", {"targets": ["label", "size"]}),
    ("decades", {"transform": ["log10"]}),
    ("binary", {}),
    ("multiclass", {}),
)
GRAPH_TRANSFORMER = {
    "model": {"family": "gt"}, "head": {"pool": "mean"},
    "tokeniser": {"graph_token": False, "norm": False, "degree_ids": 0},
    "backbone": {"mixer": "neighbour", "norm": "batch", "order": "post", "channel": "relu", "final_norm": False,
                 "init": "torch"},
}  # fmt: skip
SETTINGS = st.fixed_dictionaries(
    {
        "table": st.sampled_from(TABLES),
        "descriptors": st.booleans(),
        "canonical": st.booleans(),
        "hydrogens": st.booleans(),
        "scale": st.sampled_from(["auto", "none"]),
        "family": st.sampled_from(["graphormer", "gt"]),
    }
)


def assert_predicts_its_predictions(run: Path) -> None:
    """Of its test molecules, within the rounding that other batch mates make."""
    stored = rows_in(run / "predictions.csv")
    texts = {f"m{k}": text for k, text in enumerate(TEXTS)}
    rows = isoform.load(run).predict([texts[row["input"]] for row in stored])
    columns = [name for name in stored[0] if name.startswith(("prediction", "probability", "p "))]
    assert columns
    ours = [{name: _cell(row[name]) for name in columns} for row in rows]
    assert_rows_close([{name: _cell(row[name]) for name in columns} for row in stored], ours)


def _cell(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def assert_one_answer(drawn: dict[str, Any], folder: Path, kinds: Sequence[str]) -> None:
    """Of a run with these settings."""
    task, given = drawn["table"]
    path = table(folder / "molecules.csv", task, size=[len(text) for text in TEXTS[:67]])
    data = {key: drawn[key] for key in ("canonical", "hydrogens", "scale")}
    tables: dict[str, Any] = {"head": {"descriptors": drawn["descriptors"]}}
    if drawn["family"] == "gt":
        tables = GRAPH_TRANSFORMER
    config = app(path, train={"epochs": 1}, data=data | given, **tables)
    run = RunFolder(folder / "run")
    train(task_of(config), run, progress=False, say=lambda line: None)
    assert_predicts_its_predictions(run.path)
    for kind in kinds:
        assert_exports_agree(DOMAIN, run.path, list(TEXTS[:7]), folder, kind)


@settings(max_examples=5, phases=ONCE)
@given(drawn=SETTINGS)
def test_predict_predictions_and_exports_are_one_answer(
    drawn: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_one_answer(drawn, tmp_path_factory.mktemp("one"), ("bundle", "safetensors"))


@settings(max_examples=1, phases=ONCE)
@given(drawn=SETTINGS)
def test_other_engines_answer_alike(
    drawn: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    drawn = {**drawn, "family": "graphormer"}  # the other has no fixed graph
    assert_one_answer(drawn, tmp_path_factory.mktemp("one"), ("onnx",))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run"), head={"descriptors": True}, train={"epochs": 1})


def test_a_scale_or_descriptors_applied_twice_are_noticed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_predicts_its_predictions(run)
    unscale, normalise = TargetScaling.unscale, Normaliser.__call__
    with monkeypatch.context() as planted:
        planted.setattr(
            TargetScaling, "unscale", lambda self, x, *more: unscale(self, unscale(self, x), *more)
        )
        assert_caught(lambda: assert_predicts_its_predictions(run))
    monkeypatch.setattr(Normaliser, "__call__", lambda self, x: normalise(self, normalise(self, x)))
    assert_caught(lambda: assert_predicts_its_predictions(run))


@pytest.mark.parametrize("kind", ["bundle", "safetensors"])
def test_verify_sees_one_changed_weight(
    run: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(run.parent / "molecules.csv")
    assert_a_changed_weight_is_seen(DOMAIN, run, [table], tmp_path, kind, capsys)


@pytest.mark.filterwarnings("ignore:this format has no place")
@pytest.mark.parametrize("kind", ["official", "transformers"])
def test_verify_reads_the_official_forms_back(kind: str, tmp_path: Path) -> None:
    run = trained(tmp_path, backbone={"final_norm": False}, train={"epochs": 1})
    found = api.export(DOMAIN, run, kind, tmp_path / "out", verify=list(TEXTS[:7]))
    assert found is not None and found.largest_difference == 0
