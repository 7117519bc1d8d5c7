"""train.probe: a trunk's features computed once, the last layer fitted to them, a run like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import isoform
from isoform.core.engine import probe
from isoform.core.engine.evaluate import evaluate
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run, load_trained
from isoform.core.runs.folder import RunFolder
from isoform.vision import DOMAIN
from isoform.vision.linear_models import fit_classes, fit_standardisation

from .pictures import app, class_folders, picture, table
from .pictures import task as task_of

QUIET = {"progress": False, "say": lambda line: None}
EVAL = {"baselines": [], "batch": 7}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run to start from on 23 + 29 images of two classes, and their folder."""
    root = tmp_path_factory.mktemp("probe")
    data = class_folders(root / "own", {"cat": 23, "dog": 29})
    train(task_of(app(data={"root": str(data)}, eval=EVAL)), RunFolder(root / "first"), **QUIET)
    return root / "first", data


def probing(started, **tables):
    first, data = started
    asked = {"init": str(first), "probe": True, **tables.pop("train", {})}
    given = {"root": str(data), "val_fraction": 0.3, **tables.pop("data", {})}
    return task_of(app(data=given, train=asked, eval=EVAL, **tables))


@pytest.fixture(scope="module")
def probed(started):
    """A probe of that run, its task, and what was said."""
    task = probing(started, augment={"crop": "resized", "mixup": 0.8})
    said: list[str] = []
    run = RunFolder(started[0].parent / "probe")
    train(task, run, progress=False, say=said.append)
    return run, task, said


def test_only_the_last_layer_is_another(started, probed):
    run, _, said = probed
    before, after = RunFolder(started[0]).load_weights(), run.load_weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    assert any("fitted to the trunk's features with strength" in line for line in said)


def test_it_is_scikit_learns_logistic_regression_at_the_strength_validation_chose(probed):
    run, task, _ = probed
    model = load_trained(DOMAIN, run.path).model
    batches = {
        s: task.collate([task.sample(s, i, None) for i in range(n)])
        for s, n in task.sizes().items()
    }
    with torch.no_grad():
        x = {split: model.features(batch["image"]).numpy() for split, batch in batches.items()}
        found = torch.softmax(model(batches["test"]["image"]), 1).numpy()
    lines = [line for line in run.metrics() if line["split"] == "val"]
    assert [line["strength"] for line in lines] == list(probe.STRENGTHS)
    best = max(lines, key=lambda line: (line["top1"], -line["loss"]))
    # Of two classes scikit-learn has one vector w, and this layer w/2 and -w/2: half the squares.
    scale = fit_standardisation(x["train"], probe.LEAST_DEVIATION)
    peer = fit_classes(scale(x["train"]), batches["train"]["target"].numpy(), 2,
                       strength=2 * best["strength"], iterations=1000)  # fmt: skip
    np.testing.assert_allclose(found, peer(scale(x["test"])), atol=2e-3)
    results = run.results()
    assert results["status"] == "finished" and results["metrics"]["val"]["top1"] == best["top1"]
    judged, _ = evaluate(task, model, "val")
    assert judged["loss"] == pytest.approx(best["loss"], rel=1e-4)


def test_it_is_a_run_like_any_other(probed):
    run, task, _ = probed
    again = evaluate_run(DOMAIN, run.path)
    assert again["metrics"]["top1"] == run.results()["metrics"]["test"]["top1"]
    rows = isoform.load(run.path).predict([picture(3), picture(5)])
    assert {row["prediction"] for row in rows} <= {"cat", "dog"}
    before = (run.path / "results.json").read_bytes()
    train(task, run, resume=True, **QUIET)
    assert (run.path / "results.json").read_bytes() == before


def test_the_same_again_and_from_a_checkpoint_without_its_end(started, probed, tmp_path):
    """As if it had been killed after its checkpoint: resuming only judges."""
    run, task, _ = probed
    other = RunFolder(tmp_path / "again")
    train(task, other, **QUIET)
    for name, value in other.load_weights().items():
        assert torch.equal(value, run.load_weights()[name])
    results = other.results()
    other.write_json("results.json", {**results, "status": "preempted", "metrics": {}})
    train(task, other, resume=True, **QUIET)
    assert other.results()["metrics"] == results["metrics"]


def test_features_are_computed_once(started, monkeypatch, tmp_path):
    task = probing(started)
    seen, build = [], task.build

    def counted():
        model = build()
        features = model.features
        model.features = lambda images: seen.append(len(images)) or features(images)
        return model

    monkeypatch.setattr(task, "build", counted)
    train(task, RunFolder(tmp_path / "run"), **QUIET)
    sizes = task.sizes()
    assert sum(seen) == sizes["train"] + sizes["val"]


def test_fine_tuning_from_a_probe_fills_trunk_and_head(started, probed, tmp_path):
    run, _, _ = probed
    said: list[str] = []
    task = task_of(app(data={"root": str(started[1])}, train={"init": str(run.path)}, eval=EVAL))
    model = task.build()
    count = len(model.state_dict())
    train(task, RunFolder(tmp_path / "tuned"), progress=False, say=said.append)
    assert f"initial weights: {count} of {count} tensors from vision/test" in said
    assert not any("fresh" in line for line in said)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_and_numbers(kind, tmp_path):
    """A random trunk of images whose level tells the answer."""
    for i in range(61):
        picture(i, level=20 + 3 * i).save(tmp_path / f"{i}.png")
    rows = [[f"{i}.png", "a|b" if i > 40 else "b" if i > 20 else "", 1000.0 + i] for i in range(61)]
    path = table(tmp_path / "t.csv", ["path", "label", "size"], rows)
    labels = ["size"] if kind == "regression" else ["label"]
    data = {"table": str(path), "task": kind, "labels": labels, "val_fraction": 0.3}
    task = task_of(app(data=data, train={"probe": True}, head={"pool": "mean"}, eval=EVAL))
    train(task, RunFolder(tmp_path / "run"), **QUIET)
    test = RunFolder(tmp_path / "run").results()["metrics"]["test"]
    assert test["r2"] > 0.9 if kind == "regression" else test["roc_auc"] > 0.9


def test_a_head_of_two_layers_and_models_without_one_are_refused(started, tmp_path):
    two = {"tokeniser": {"distill_token": True, "class_token": True}, "head": {"pool": "class"}}
    with pytest.raises(UserError, match="this head has one for each of two tokens"):
        train(probing(started, **two), RunFolder(tmp_path / "run"), **QUIET)
    assert not (tmp_path / "run").exists()
