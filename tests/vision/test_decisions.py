"""What chooses a run's checkpoint and its answers: train.monitor, eval.threshold, --min-probability; and intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core import api
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.decision import choose
from isoform.vision import DOMAIN

from .pictures import app, picture, table
from .pictures import task as task_of

RULE = "sensitivity@specificity=0.7"


def folder_of(root, classes=("cat", "dog")):
    """47 images of each class, of levels that overlap."""
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(47):
            picture(100 * k + i, level=30 + 20 * k + 3 * i).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose threshold a rule chose, its task, and what was said."""
    root = tmp_path_factory.mktemp("decisions")
    data = {"root": str(folder_of(root / "own")), "val_fraction": 0.3, "test_fraction": 0.3}
    asked = {"epochs": 3, "monitor": "loss", "lr": 0.01}
    evaluation = {"threshold": RULE, "baselines": []}
    task = task_of(app(data=data, train=asked, eval=evaluation))
    said: list[str] = []
    train(task, RunFolder(root / "run"), progress=False, say=said.append)
    return root / "run", task, said


def test_the_checkpoint_is_the_best_by_the_metric_asked_for(made):
    run, task, _ = made
    results = RunFolder(run).results()
    assert (
        (results["monitor"], results["monitor_mode"])
        == ("loss", "min")
        == (
            task.monitor,
            task.monitor_mode,
        )
    )
    val = [line for line in RunFolder(run).metrics() if line["split"] == "val"]
    best = min(val, key=lambda line: line["loss"])
    assert RunFolder(run).step_of("best") == best["step"]
    assert results["metrics"]["val"]["loss"] == best["loss"]


def test_the_threshold_is_validations_and_test_is_judged_by_it(made):
    run, _, said = made
    evaluate_run(DOMAIN, run, split="val")
    val = rows_in(run / "predictions.val.csv")
    score = np.array([float(row["p dog"]) for row in val])
    truth = np.array([row["target"] == "dog" for row in val])
    (threshold,) = RunFolder(run).calibration()["threshold_K"]
    assert threshold == choose(RULE, score, truth) != 0.5
    line = f"threshold chosen on validation by {RULE}: {threshold:.4g} of dog"
    assert line in said and RunFolder(run).results()["notes"] == [line]
    rows = rows_in(run / "predictions.csv")
    said_dog = np.array([row["prediction"] == "dog" for row in rows])
    dog = np.array([row["target"] == "dog" for row in rows])
    assert (said_dog == (np.array([float(row["p dog"]) for row in rows]) >= threshold)).all()
    metrics = RunFolder(run).results()["metrics"]["test"]
    assert metrics["sensitivity"] == pytest.approx(said_dog[dog].mean())
    assert metrics["specificity"] == pytest.approx((~said_dog[~dog]).mean())
    assert metrics["f1"] == pytest.approx(2 * (said_dog & dog).sum() / (said_dog.sum() + dog.sum()))
    assert any("the dot: the threshold, " + f"{threshold:.4g}" in figure["caption"]
               for figure in json.loads((run / "figures.json").read_text()))  # fmt: skip


def test_predict_eval_and_a_bundle_say_the_same(made, tmp_path, capsys):
    run, task, _ = made
    rows = rows_in(run / "predictions.csv")
    images = task.data.records.images
    paths = [str(images.path(int(row))) for row in task.data.rows["test"]]
    mine = isoform.load(run).predict(paths)
    api.export(DOMAIN, run, "bundle", tmp_path / "run.zip")
    theirs = isoform.load(tmp_path / "run.zip").predict(paths)
    assert [row["prediction"] for row in mine] == [row["prediction"] for row in rows]
    assert [row["prediction"] for row in theirs] == [row["prediction"] for row in rows]
    assert exit_code("vision", "eval", run, "--json") == 0
    out, err = capsys.readouterr()
    result, stored = json.loads(out.splitlines()[-1]), RunFolder(run).results()
    for name, value in stored["metrics"]["test"].items():
        assert result["metrics"][name] == pytest.approx(value)
    assert f"by {RULE}" in err and "95 % interval" in err
    for name, ends in stored["intervals"]["test"].items():
        assert result["intervals"][name] == pytest.approx(ends)


def test_an_unsure_prediction_is_undecided(made, capsys, tmp_path):
    run, task, _ = made
    images = task.data.records.images
    paths = [str(images.path(int(row))) for row in task.data.rows["test"]]
    tops = [max(row["p cat"], row["p dog"]) for row in isoform.load(run).predict(paths)]
    least = float(np.median(tops))
    words = ["vision", "predict", str(run), *paths, "--out", str(tmp_path / "p.csv"), "--json"]
    assert exit_code(*words, "--min-probability", least) == 0
    out, err = capsys.readouterr()
    open_ones = [row["prediction"] == "undecided" for row in rows_in(tmp_path / "p.csv")]
    assert open_ones == [top < least for top in tops] and 0 < sum(open_ones) < len(tops)
    assert f"{sum(open_ones)} of {len(tops)} are undecided" in err
    assert json.loads(out.splitlines()[-1])["undecided"] == sum(open_ones)
    assert exit_code(*words, "--min-probability", "1.5") == 2


def test_intervals_stand_in_results_card_and_page(made):
    run, _, said = made
    results = RunFolder(run).results()
    test, ranges = results["metrics"]["test"], results["intervals"]["test"]
    assert {"top1", "balanced_accuracy", "roc_auc", "loss", "sensitivity", "f1"} <= ranges.keys()
    for name, (low, high) in ranges.items():
        assert low <= test[name] <= high or name == "calibration_error"
    low, high = ranges["loss"]
    assert f"| {low:.4g} to {high:.4g} |" in (run / "card.md").read_text()
    assert "<td>95 % interval</td>" in (run / "report.html").read_text()
    assert f"95 % interval of test loss: {low:.4g} to {high:.4g}" in said


def test_what_has_no_such_metric_or_threshold_is_refused(made, tmp_path):
    _, task, _ = made
    root = task.config.data.root
    with pytest.raises(UserError, match="rmse is no metric of multiclass; there are top1"):
        task_of(app(data={"root": root}, train={"monitor": "rmse"}))
    three = folder_of(tmp_path / "three", ("a", "b", "c"))
    with pytest.raises(UserError, match="this app has 3 classes; leave it out"):
        task_of(app(data={"root": str(three)}, eval={"threshold": 0.3}))


def test_every_label_has_its_threshold_and_numbers_have_none(tmp_path):
    for i in range(60):
        picture(i, level=20 + 3 * i).save(tmp_path / f"{i}.png")
    rows = [[f"{i}.png", "a|b" if i % 3 == 0 else "b" if i % 7 else "", i] for i in range(60)]
    path = table(tmp_path / "t.csv", ["path", "label", "size"], rows)
    data = {"table": str(path), "task": "multilabel"}
    evaluation = {"threshold": "f1", "baselines": [], "min_probability": 0.55}
    task = task_of(app(data=data, eval=evaluation))
    train(task, RunFolder(tmp_path / "run"), progress=False, say=lambda line: None)
    assert len(RunFolder(tmp_path / "run").calibration()["threshold_K"]) == 2
    rows = rows_in(tmp_path / "run" / "predictions.csv")
    assert all("undecided" in row for row in rows)
    results = RunFolder(tmp_path / "run").results()
    test = results["metrics"]["test"]
    shares = {name for name in ("sensitivity", "macro_f1", "exact_match") if 0 < test[name] < 1}
    assert "macro_f1" in shares and shares <= results["intervals"]["test"].keys()
    numbers = {"table": str(path), "task": "regression", "labels": ["size"]}
    with pytest.raises(UserError, match="predicts numbers"):
        task_of(app(data=numbers, eval={"threshold": "youden"}))
    task = task_of(app(data=numbers, eval={"baselines": []}, train={"monitor": "mae"}))
    train(task, RunFolder(tmp_path / "numbers"), progress=False, say=lambda line: None)
    results = RunFolder(tmp_path / "numbers").results()
    assert results["monitor"] == "mae" and results["intervals"]["test"].keys() == {
        "mae",
        "rmse",
        "r2",
        "loss",
    }
    with pytest.raises(UserError, match="predicts numbers, not probabilities"):
        isoform.load(tmp_path / "numbers").demand(0.9)
