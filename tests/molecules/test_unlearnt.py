"""Targets of which training has no label, and splits that can't give a metric: named, and left out everywhere."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run, load_trained
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.metrics import describe_one_sided
from isoform.molecules import DOMAIN
from isoform.molecules.data.check import check
from isoform.molecules.prepare import prepare
from isoform.molecules.task import MoleculesTask

from .miniatures import case
from .runs import TEXTS, app

ROWS = TEXTS[:67]

SPLIT = ["train"] * 43 + ["val"] * 13 + ["test"] * 11


def config_of(name, **tables):
    config = app(case(name), **tables)
    data = config.data.model_copy(update={"label": None, "targets": None, "split": "given"})
    return config.model_copy(update={"data": data})


def write_table(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "smiles", "split", *columns])
        for k, text in enumerate(ROWS):
            cells = [columns[name][k] for name in columns]
            writer.writerow([f"m{k}", text, SPLIT[k], *cells])
    return path


def made(tmp_path, kind):
    """Targets a and c; c has no label in training, and m60 has one of c alone."""
    values = [k % 2 if kind == "binary" else 0.5 * k for k in range(len(ROWS))]
    a = ["" if k == 60 else value for k, value in enumerate(values)]
    c = ["" if SPLIT[k] == "train" else value for k, value in enumerate(values)]
    path = write_table(tmp_path / "t.csv", {"a": a, "c": c})
    return app(path, data={"split": "given", "targets": ["a", "c"], "duplicates": "keep"})


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_target_without_a_training_label_is_in_nothing(tmp_path, kind):
    config = made(tmp_path, kind)
    prepared = prepare(config)
    assert any('has a label of the target "c": left out' in note for note in prepared.notes)
    assert prepared.data.names == ("a",) and prepared.config.head.outputs == 1
    assert prepared.data.sizes() == {"train": 43, "val": 13, "test": 10}
    assert ("m60", "has labels of no learned target") in prepared.data.skipped
    assert prepare(prepared.config).config == prepared.config
    report = check(config)
    assert list(report.data["targets"]) == ["a"] and report.data["splits"]["test"] == 10
    train(
        MoleculesTask(prepared.config, prepared.data), RunFolder(tmp_path / "run"),
        progress=False, say=lambda line: None,
    )  # fmt: skip
    results = RunFolder(tmp_path / "run").results()
    metrics = [*results["metrics"]["test"], *results["metrics"]["val"]]
    assert not [name for name in metrics if name.endswith(" c")]
    trained = load_trained(DOMAIN, tmp_path / "run")
    assert trained.state.names == ("a",)
    rows = DOMAIN.predictor(trained).predict(["CCO"])
    assert not [name for name in rows[0] if "c" in name.split()]
    again = evaluate_run(DOMAIN, tmp_path / "run")["metrics"]
    monitored = results["monitor"]
    assert again[monitored] == pytest.approx(results["metrics"]["test"][monitored], rel=1e-5)
    elsewhere = evaluate_run(DOMAIN, tmp_path / "run", data=tmp_path / "t.csv")
    assert elsewhere["samples"] == 66 and not [n for n in elsewhere["metrics"] if n.endswith(" c")]


def test_the_case_of_a_target_that_training_lacks():
    prepared = prepare(config_of("task_missing_in_val.csv"))
    assert prepared.data.names == ("a", "b")
    notes = "\n".join(prepared.notes)
    assert 'the target "c": left out, not learned, predicted or scored' in notes
    assert (
        "warning: val holds 1 of 2 targets, and its metrics run over these; no sample of b" in notes
    )
    assert any(
        line.startswith("warning: val holds 1 of 2 targets")
        for line in DOMAIN.check(config_of("task_missing_in_val.csv")).lines
    )
    task = MoleculesTask(prepared.config, prepared.data)
    target = prepared.data.targets("val")
    guess = np.linspace(0.1, 0.9, len(target))[:, None].repeat(2, 1)
    found = task.score(guess, target)
    assert found["roc_auc"] == found["roc_auc a"] and "roc_auc b" not in found
    assert list(prepared.data.targets("train").shape) == [140, 2]


def test_outputs_that_count_a_target_without_training_labels_are_refused(tmp_path):
    config = made(tmp_path, "regression")
    asked = config.model_copy(update={"head": config.head.model_copy(update={"outputs": 2})})
    with pytest.raises(UserError, match=r"head\.outputs = 2, but t\.csv has 1 target"):
        prepare(asked)


def test_a_validation_of_one_class_says_which_metrics_it_lacks():
    prepared = prepare(config_of("one_class_val.csv"))
    line = "validation has no positive: neither roc_auc nor average_precision can be given"
    assert line in prepared.notes
    assert line in MoleculesTask(prepared.config, prepared.data).notes


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([[1, 0, 1]], None),
        ([[0, 0, np.nan]], "test has no positive: neither roc_auc nor average_precision can be given"),
        ([[1, 1, 1]], "test has no negative: neither roc_auc nor average_precision can be given"),
        ([[1, 0, 1], [0, 0, 0], [1, 1, np.nan]],
         "test has no positive of y1 and no negative of y2: roc_auc and average_precision are means over the others"),
        ([[1, 0, 1], [np.nan] * 3], None),
    ],
)  # fmt: skip
def test_labels_of_one_kind(columns, said):
    names = [f"y{k}" for k in range(len(columns))]
    assert describe_one_sided(np.array(columns, float).T, names, "test") == said
