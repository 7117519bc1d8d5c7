"""What chooses a run's checkpoint and its answers: train.monitor, eval.threshold, --min-probability; and intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.decision import choose
from isoform.molecules import DOMAIN

from .batches import MIXED
from .runs import app, group, table, task_of, trained

NOISY = [int((k * 7919) % 67 < 30) for k in range(67)]  # what no molecule tells


def split_by_hand(folder: Path, **columns: list[Any]) -> Path:
    parts = ["train", "val", "test"]
    return table(folder / "m.csv", "binary", split=[parts[k % 3] for k in range(67)], **columns)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_threshold_is_validations_and_every_answer_goes_by_it(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = split_by_hand(tmp_path, noise=NOISY, word=["yes" if k else "no" for k in NOISY])
    data = {
        "path": str(path),
        "split": "given",
        "split_column": "split",
        "targets": ["label", "noise"] if kind == "binary" else ["word"],
        "task": kind,
    }
    run, said = RunFolder(tmp_path / "run"), list[str]()
    evaluation = {"threshold": "youden", "baselines": []}
    config = app(path, data=data, eval=evaluation, train={"monitor": "loss"})
    train(task_of(config), run, progress=False, say=said.append)
    results = run.results()
    assert results["monitor"] == "loss" and "by youden: " in results["notes"][-1]
    assert results["notes"][-1] in said
    evaluate_run(DOMAIN, run.path, split="val")
    names = ["label", "noise"] if kind == "binary" else [""]
    thresholds = run.calibration()["threshold_K"]
    for name, threshold in zip(names, thresholds, strict=True):
        of = {part: rows_in(run.path / f"predictions{part}.csv") for part in ("", ".val")}
        column = f"probability {name}" if kind == "binary" else "p yes"
        score = {part: np.array([float(row[column]) for row in rows]) for part, rows in of.items()}
        key, yes = (f"target {name}", ("1", "1.0")) if kind == "binary" else ("target", ("yes",))
        truth = np.array([row[key] in yes for row in of[".val"]])
        assert threshold == pytest.approx(choose("youden", score[".val"], truth), abs=1e-6)
        answer = f"prediction {name}" if kind == "binary" else "prediction"
        assert [row[answer] in yes for row in of[""]] == (score[""] >= threshold).tolist()
        texts = [row["smiles"] for row in of[""]]
        again = isoform.load(run.path).predict(texts)
        assert [str(row[answer]) for row in again] == [row[answer] for row in of[""]]
    ranges = results["intervals"]["test"]
    test, names = (
        results["metrics"]["test"],
        ("loss", "roc_auc", "sensitivity", "specificity", "f1"),
    )
    assert "loss" in ranges and ranges.keys() >= {
        name for name in names if test[name] not in (0, 1)
    }
    assert exit_code("molecules", "eval", run.path, "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert "by youden" in err and found["metrics"]["f1"] == pytest.approx(
        results["metrics"]["test"]["f1"]
    )
    words = ["molecules", "predict", str(run.path), *MIXED, "--json", "--min-probability", "1"]
    assert exit_code(*words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["undecided"] > 0 and "are undecided" in err


def test_the_average_of_seeds_has_its_own_threshold(tmp_path: Path) -> None:
    folder = group(tmp_path, "binary", eval={"threshold": "f1", "baselines": []})
    each = [RunFolder(folder / f"seed-{seed}").calibration()["threshold_K"] for seed in (1, 2)]
    together = RunFolder(folder).calibration()["threshold_K"]
    assert len(each) == 2 and len(together) == 1
    for row in isoform.load(folder).predict(list(MIXED)):
        assert row["prediction"] == int(row["probability"] >= together[0])


def test_what_has_no_such_metric_or_threshold_is_refused(tmp_path: Path) -> None:
    path = split_by_hand(tmp_path, noise=[0] * 67)
    with pytest.raises(
        UserError, match="top1 is no metric of regression; there are rmse, mae, loss"
    ):
        task_of(app(table(tmp_path / "n.csv"), train={"monitor": "top1"}))
    with pytest.raises(UserError, match="predicts numbers"):
        task_of(app(table(tmp_path / "n.csv"), eval={"threshold": "f1"}))
    data = {"targets": ["noise"], "task": "binary", "split": "given", "split_column": "split"}
    for asked in ({"train": {"monitor": "roc_auc"}}, {"eval": {"threshold": "f1"}}):
        with pytest.raises(UserError, match="one kind alone"):
            task_of(app(path, data={**data, "path": str(path)}, **asked))


def test_numbers_have_intervals_of_logarithms_too(tmp_path: Path) -> None:
    run = trained(tmp_path, "decades", data={"transform": ["log10"]}, eval={"baselines": []})
    results = RunFolder(run).results()
    test, ranges = results["metrics"]["test"], results["intervals"]["test"]
    assert {"mae", "rmse", "r2", "spearman", "mae_learned", "rmse_learned", "loss"} <= ranges.keys()
    for name, (low, high) in ranges.items():
        assert low <= test[name] <= high
    with pytest.raises(UserError, match="predicts numbers, not probabilities"):
        isoform.load(run).demand(0.9)
