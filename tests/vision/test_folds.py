"""`train --folds` on images: a cross-validation by patient, and its models as one."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import isoform
from answers import rows_in
from isoform.core.config import changes, load_run_config
from isoform.core.engine import trackers
from isoform.core.inference.run_model import load_trained
from isoform.vision import DOMAIN
from isoform.vision.task import VisionTask

from .pictures import picture, table

APPS = """
[vision.tiny]
data.table = "t.csv"
data.group = "patient"
data.val_fraction = 0.2
tokeniser = {image = 8, patch = 4, channels = 3}
backbone = {dim = 12, depth = 1, heads = 3}
train = {epochs = 1, batch = 5, lr = 3e-3}
eval.baselines = ["majority"]

[vision.numbers]
extends = "tiny"
data.labels = ["size"]
data.task = "regression"
eval.baselines = []
"""


@pytest.fixture
def cli(cli, tmp_path, monkeypatch):
    """34 images of 12 patients, two sites; words behind `isoform vision` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VisionTask, "figures", lambda self, model, outputs: [])
    rows = []
    for i in range(34):
        picture(i, level=20 + 110 * (i % 2)).save(f"{i:02d}.png")
        site = "north" if i < 3 else "train"
        rows.append([f"{i:02d}.png", "ab"[i % 2], f"p{i // 3}" if i < 33 else "", 50 + 7 * i, site])
    table(Path("t.csv"), ["path", "label", "patient", "size", "site"], rows)
    Path("apps.toml").write_text(APPS)
    return partial(cli, "vision")


def results(path: str | Path) -> dict:
    return json.loads((Path(path) / "results.json").read_text())


def test_folds_by_patient_are_runs_whose_tests_are_all_images(cli):
    train = ["train", "tiny", "--apps", "apps.toml", "--folds", 3, "--run-dir", "g"]
    code, out, _ = cli(*train)
    assert code == 0 and "fold 3 of 3" in out and "values" in out
    found = results("g")
    folds = [results(f"g/fold-{k}") for k in (1, 2, 3)]
    top1 = found["metrics"]["test"]["loss"]
    assert top1["values"] == [one["metrics"]["test"]["loss"] for one in folds]
    assert top1["mean"] == pytest.approx(np.mean(top1["values"]))
    assert top1["std"] == pytest.approx(np.std(top1["values"], ddof=1))
    assert found["baselines"]["majority"]["test"]["top1"]["values"] == [
        one["baselines"]["majority"]["test"]["top1"] for one in folds
    ]
    rows = rows_in("g/predictions.csv")
    assert sorted(row["input"] for row in rows) == [f"{i:02d}.png" for i in range(34)]
    patient = {row["path"]: row["patient"] for row in rows_in("t.csv")}
    fold_of: dict[str, set[str]] = {}
    for row in rows:
        fold_of.setdefault(patient[row["input"]], set()).add(row["fold"])
    assert all(len(folds) == 1 for name, folds in fold_of.items() if name)
    for k, sizes in enumerate(found["sizes"], 1):
        assert sizes["test"] == sum(row["fold"] == str(k) for row in rows)
        assert sum(sizes.values()) == 34 and sizes["val"] and sizes["train"]
    assert Path("g/report.html").exists()
    # Each group is tested by one fold; the empty cell is no group.
    groups = found["groups"]["test"]
    assert groups["count"] == 11 and groups["without"] == 1
    assert sum(one["samples"] for one in groups["metrics"].values()) == 33
    # A fold by itself draws the same split again, and goes on where it was left.
    code, out, _ = cli("eval", "g/fold-2", "--json")
    again = json.loads(out.splitlines()[-1])
    assert again["metrics"]["loss"] == pytest.approx(folds[1]["metrics"]["test"]["loss"], rel=1e-6)
    code, out, _ = cli("eval", "g", "--json")
    assert json.loads(out.splitlines()[-1])["metrics"]["loss"]["values"] == pytest.approx(
        top1["values"]
    )
    code, out, _ = cli(*train, "--resume")
    assert code == 0 and out.count("this run is finished") == 3 and results("g") == found
    # A fold that is gone is trained again, and nothing else; folds differ in what they were drawn for alone.
    shutil.rmtree("g/fold-2")
    code, out, _ = cli(*train, "--resume")
    assert code == 0 and out.count("this run is finished") == 2
    assert results("g")["metrics"] == found["metrics"]
    first, second = (load_run_config(f"g/fold-{k}", DOMAIN) for k in (1, 2))
    different = {key for key, _, _ in changes(first, second)}
    own = {"data.mean", "data.std", "data.lowest", "data.highest"}
    assert {"data.fold"} < different <= {"data.fold", *own}
    code, _, err = cli(*train[:-3], 4, *train[-2:], "--resume")
    assert code == 2 and "data.folds: 3 -> 4" in err
    code, _, err = cli(*train)
    assert code == 2 and "holds a run already" in err
    code, _, err = cli("export", "g", "--format", "bundle", "--out", "x.zip")
    assert code == 2 and "holds several folds" in err and "g/fold-1" in err


@pytest.mark.parametrize("app", ["tiny", "numbers"])
def test_folds_together_answer_with_the_mean_of_each_by_itself(cli, app):
    code, _, err = cli("train", app, "--apps", "apps.toml", "--folds", 2, "--run-dir", "g")
    assert code == 0, err
    states = [json.loads(Path(f"g/fold-{k}/task.json").read_text()) for k in (1, 2)]
    assert states[0]["preprocessing"]["mean"] != states[1]["preprocessing"]["mean"]
    images = ["00.png", "05.png", "19.png"]
    each = [isoform.load(f"g/fold-{k}").predict(images) for k in (1, 2)]
    both = isoform.load("g")
    column = "probability" if app == "tiny" else "prediction"
    if app == "tiny":
        mine = [[row["p a"] for row in rows] for rows in each]
        got = [row["p a"] for row in both.predict(images)]
    else:
        mine = [[row[column] for row in rows] for rows in each]
        got = [row[column] for row in both.predict(images)]
    np.testing.assert_allclose(got, np.mean(mine, 0), rtol=2e-5)
    assert not np.allclose(mine[0], mine[1], rtol=1e-4)
    features = [isoform.load(f"g/fold-{k}").embed(images) for k in (1, 2)]
    np.testing.assert_allclose(both.embed(images), np.hstack(features), atol=1e-4)
    # Every image trained one of the models.
    code, _, err = cli("predict", "g", *images, "--out", "rows.csv")
    assert code == 0 and "3 of 3 images are among those that the run was trained on" in err


def test_the_range_of_values_is_each_folds_own_and_together_that_of_all(cli):
    rng = np.random.default_rng(5)
    for row in rows_in("t.csv"):
        own = rng.uniform(100, 200, 2)  # in a unit of their own
        values = rng.uniform(-own[0], own[1], (11, 13, 3))
        np.save(row["path"].replace(".png", ".npy"), values.astype(np.float32))
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace(".png", ".npy"))
    code, _, err = cli("train", "numbers", "--apps", "apps.toml", "--folds", 2, "--run-dir", "g")
    assert code == 0, err
    joined = load_trained(DOMAIN, "g").state.preprocessing
    for key, furthest in (("lowest", np.min), ("highest", np.max)):
        ends = [getattr(load_run_config(f"g/fold-{k}", DOMAIN).data, key) for k in (1, 2)]
        assert ends[0] != ends[1]
        assert list(getattr(joined, key)) == furthest(ends, 0).tolist()


def test_each_fold_is_a_run_of_its_own_to_a_tracker(cli, monkeypatch):
    told = []

    class Counted(trackers.TensorBoard):
        library = "json"

        def start(self, config):
            told.append((config["data.fold"], self.folder))

        def log(self, step, numbers):
            pass

        def finish(self, results):
            told.append(results["status"])

    monkeypatch.setattr(trackers, "kinds", lambda: {"tensorboard": Counted})
    train = ["train", "numbers", "--apps", "apps.toml", "--folds", 2, "--run-dir", "g"]
    code, _, err = cli(*train, "--log", "tensorboard")
    assert code == 0, err
    folders = [Path(f"g/fold-{k}/trackers/tensorboard") for k in (1, 2)]
    assert told == [(1, folders[0]), "finished", (2, folders[1]), "finished"]


def test_folds_are_refused_in_a_sentence(cli):
    train = ["train", "tiny", "--apps", "apps.toml", "--run-dir", "g"]
    for words, said in (
        (["--folds", 3, "--seeds", 2], "--folds with --seeds"),
        (["--folds", 1], "should be at least 2"),
        (["--folds", 13], "has 12 groups and data.folds = 13"),
        (["--set", "data.folds=3"], "folds and fold go together"),
        (["--set", "data.folds=3", "--set", "data.fold=4"], "fold = 4 is not among 3 folds"),
    ):
        code, _, err = cli(*train, *words)
        assert code == 2 and said in err, err
        assert not Path("g").exists()


def test_one_fold_by_itself_and_a_split_that_is_set_aside(cli):
    given = ["--set", "data.split_column=site", "--set", "data.group=patient"]
    rows = rows_in("t.csv")
    for row in rows:
        row["site"] = {"north": "test"}.get(row["site"], row["site"])
    table(Path("t.csv"), list(rows[0]), [list(row.values()) for row in rows])
    fold = ["--set", "data.folds=4", "--set", "data.fold=2"]
    code, out, _ = cli("train", "tiny", "--apps", "apps.toml", *fold, *given, "--run-dir", "one")
    assert code == 0 and "is set aside" in out
    assert len(rows_in("one/predictions.csv")) > 3
