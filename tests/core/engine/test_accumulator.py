"""Predictions that are summed as they come by, and what validation teaches beside its metrics."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
import toy

from isoform.core.domain import CollectAll, MetricAccumulator
from isoform.core.engine.evaluate import evaluate
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, UserError
from isoform.core.inference import export
from isoform.core.inference.run_model import evaluate_run, load_trained
from isoform.core.runs.folder import RunFolder


class Counting(MetricAccumulator):
    """top1 and loss as sums; of the outputs only each sample's guess is kept."""

    def __init__(self, size):
        self.right, self.loss, self.guess = 0, 0.0, np.full(size, -1)
        self.batches = []

    def add(self, indices, outputs):
        logits, target = torch.from_numpy(outputs["logits"]), torch.from_numpy(outputs["target"])
        self.right += int((logits.argmax(1) == target).sum())
        self.loss += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
        self.guess[list(indices)] = logits.argmax(1)
        self.batches.append(len(indices))

    def metrics(self):
        return {"loss": self.loss / len(self.guess), "top1": self.right / len(self.guess)}

    def outputs(self):
        return {"guess": self.guess}


class Streaming(toy.ToyTask):
    """Never holds a whole split's logits; reads backwards, so that order counts. Calibrates by its validation."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.accumulators, self.calibrated = [], []

    def batches(self, split, size, rng):
        if rng is not None:
            return super().batches(split, size, rng)
        order = np.arange(self.sizes()[split])[::-1].tolist()
        return [order[i : i + size] for i in range(0, len(order), size)]

    def accumulator(self, split):
        self.accumulators.append((split, Counting(self.sizes()[split])))
        return self.accumulators[-1][1]

    def metrics(self, split, outputs):
        raise AssertionError("the accumulator judges")

    def calibrate(self, outputs):
        self.calibrated.append([split for split, _ in self.accumulators])
        return {"guess": outputs["guess"], "levels": np.array([0.1, 0.9]), "windows": np.array(11)}

    def write_predictions(self, folder, split, outputs, stem="predictions"):
        return []

    def figures(self, model, outputs):
        return []


class StreamingDomain(toy.Toy):
    def task(self, prepared):
        return Streaming(prepared.config)


def state_of(run):
    return run.state(toy.ToyState)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, task = (
        RunFolder(tmp_path_factory.mktemp("tally") / "run"),
        Streaming(toy.app(checkpoint_every=1)),
    )
    train(task, run, progress=False)
    return run, task


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_equals_all_at_once(workers):
    model, task = toy.ToyModel(), Streaming(toy.app())
    metrics, outputs = evaluate(task, model, "test", workers=workers)
    expected, whole = evaluate(toy.task(), model, "test", workers=0)
    assert metrics == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(outputs["guess"], whole["logits"].argmax(1))
    assert task.accumulators[-1][1].batches == [4, 4, 4, 1]


def test_what_is_collected_can_grow():
    """Outputs in between neither lose nor double a sample."""
    collected, task = CollectAll(toy.task(), "val"), toy.task()
    x, target = task.data["val"]
    logits = x[:, : toy.CLASSES]

    def add(order):
        collected.add(order, {"logits": logits[order], "target": target[order]})

    add([7, 2, 9])
    assert np.array_equal(collected.outputs()["target"], target[[2, 7, 9]])
    add([8, 0, 10, 1])
    add([6, 5, 4, 3])
    for _ in range(2):
        assert np.array_equal(collected.outputs()["logits"], logits) and np.array_equal(
            collected.outputs()["target"], target
        )
    assert collected.metrics() == task.metrics("val", {"logits": logits, "target": target})


def test_the_best_checkpoint_calibrates_before_the_test(trained):
    run, task = trained
    assert task.calibrated == [["val"] * 5]  # four epochs and once more; no test among them
    assert [split for split, _ in task.accumulators[5:]] == ["test"]
    state = state_of(run)
    assert state.classes == ("class 0", "class 1", "class 2")
    arrays = state.calibration
    assert arrays["levels"].dtype == np.float64 and arrays["levels"].tolist() == [0.1, 0.9]
    assert arrays["windows"].shape == () and arrays["windows"] == 11
    model = toy.ToyModel()
    model.load_state_dict(run.load_weights("best"))
    with torch.no_grad():
        guess = model.eval()(torch.from_numpy(task.data["val"][0])).argmax(1)
    assert arrays["guess"].tolist() == guess.tolist()
    assert "calibration" not in json.loads((run.path / "task.json").read_text())


def test_a_run_evaluates_with_its_accumulator(trained):
    run, _ = trained
    assert evaluate_run(StreamingDomain(), run.path)["metrics"] == pytest.approx(
        run.results()["metrics"]["test"]
    )


def test_a_bundle_takes_the_calibration_along(trained, tmp_path):
    run, _ = trained
    export.write_bundle(load_trained(StreamingDomain(), run.path), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    ours, theirs = (
        state_of(run).calibration,
        state_of(RunFolder(tmp_path / "elsewhere")).calibration,
    )
    assert ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name]) for name in ours
    )


def test_without_a_calibration_there_is_none(tmp_path):
    seen = []

    class Counted(toy.ToyTask):
        def accumulator(self, split):
            seen.append(split)
            return super().accumulator(split)

    run = RunFolder(tmp_path / "run")
    train(Counted(toy.app(epochs=2)), run, progress=False)
    assert seen == ["val", "val", "test"] and state_of(run).calibration is None
    assert not (run.path / "calibration.npz").exists()


def test_an_empty_calibration_leaves_no_file(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json("task.json", {})
    run.write_arrays("calibration.npz", {"a": np.arange(3.0)})
    assert state_of(run).calibration["a"].tolist() == [0, 1, 2]
    run.write_arrays("calibration.npz", {})
    assert state_of(run) == toy.ToyState()


def test_the_same_arrays_are_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        RunFolder(tmp_path).write_arrays(
            name, {"x": np.arange(5), "y": np.ones((2, 3), np.float32)}
        )
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match="pickle"):
        RunFolder(tmp_path).write_arrays("c.npz", {"x": np.array([{}], object)})
    assert not (tmp_path / "c.npz").exists()


def test_a_damaged_calibration_is_one_sentence(trained, tmp_path):
    moved = RunFolder(shutil.copytree(trained[0].path, tmp_path / "run"))
    file = moved.path / "calibration.npz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(
        UserError, match=r"calibration\.npz: not a checkpoint that can be read, or damaged"
    ):
        state_of(moved)


def test_a_run_stopped_while_calibrating_goes_on(tmp_path):
    """The signal comes as the last validation begins; what follows is as if it had never come."""

    class Stopped(Streaming):
        armed = True

        def calibrate(self, outputs):
            if self.armed:
                raise Preempted("stopped")
            return super().calibrate(outputs)

    run, task = RunFolder(tmp_path / "run"), Stopped(toy.app(epochs=2))
    with pytest.raises(Preempted):
        train(task, run, progress=False)
    assert run.results()["status"] == "preempted" and not (run.path / "calibration.npz").exists()
    task.armed = False
    train(task, run, resume=True, progress=False)
    assert run.results()["status"] == "finished" and state_of(run).calibration["windows"] == 11
