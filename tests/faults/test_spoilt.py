"""Faults 8 and 9: a loss or gradient that is NaN, a sample that can't be read, a loader process that dies."""

import os
import shutil
import signal

import apps
import pytest
import torch

import killed
from isoform.core.engine import loader
from isoform.core.engine.left_out import MOST_IN_A_ROW
from isoform.core.errors import RunError, UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder


class Spoiling(torch.autograd.Function):
    """The number itself, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("nan")


def spoilt(task, kind, calls):
    """The task, whose loss or gradient is NaN in these calls of `loss`, counted from 1."""
    original, number = task.loss, iter(range(1, 10_000))

    def loss(model, batch):
        found = dict(original(model, batch))
        if next(number) in calls:
            found["loss"] = (
                found["loss"] * float("nan") if kind == "loss" else Spoiling.apply(found["loss"])
            )
        return found

    task.loss = loss
    return task


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_stop_names_the_step_and_its_samples(whole, tmp_path, kind):
    task = spoilt(whole.task(), kind, {8})
    names = {task.sample_name("train", i) for i in range(task.sizes()["train"])}
    step = 3 if len(task.batches("train", 4, None)) == 9 else 4
    with pytest.raises(RunError, match=f"{kind}.* nan at step {step}, training samples") as caught:
        apps.run(task, tmp_path / "run")
    told = str(caught.value).split("training samples ")[1].split(";")[0].split(", ")
    assert set(told) <= names and 1 <= len(told) <= 12
    run = RunFolder(tmp_path / "run")
    assert run.results()["status"] == "failed" and checkpoint.steps(run.checkpoints)
    apps.run(whole.task(), run.path, resume=True)
    apps.assert_same_end(run.path, whole.run)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_skip_leaves_the_step_out(whole, tmp_path, kind):
    said = []
    task = spoilt(whole.task(nonfinite="skip"), kind, {8})
    results = apps.run(task, tmp_path / "run", say=said.append)
    (step,) = results["left_out"]["steps"]["why"]
    assert results["left_out"]["steps"]["count"] == 1 and results["status"] == "finished"
    assert any(f"step {step} is left out" in line and "training samples" in line for line in said)
    assert any("1 step without a finite loss" in line for line in said)
    lines, last = apps.ends(tmp_path / "run")
    assert all(
        torch.isfinite(tensor).all() for tensor in last.model.values() if tensor.is_floating_point()
    )
    assert all(value == value and value is not None for line in lines for value in line.values())
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(1, 10))


def test_skip_changes_nothing_where_all_is_finite(whole, tmp_path):
    apps.run(whole.task(nonfinite="skip"), tmp_path / "run")
    apps.assert_same_end(tmp_path / "run", whole.run)


def test_what_was_left_out_survives_a_kill(whole, tmp_path):
    def task():
        return spoilt(whole.task(nonfinite="skip"), "loss", {2})

    apps.run(task(), tmp_path / "whole")
    doomed = task()
    inner, calls = doomed.loss, iter(range(1, 10_000))
    doomed.loss = lambda model, batch: killed.die() if next(calls) == 14 else inner(model, batch)
    assert killed.in_child(lambda: apps.run(doomed, tmp_path / "run")) == signal.SIGKILL
    results = apps.run(whole.task(nonfinite="skip"), tmp_path / "run", resume=True)
    apps.assert_same_end(tmp_path / "run", tmp_path / "whole")
    assert results["left_out"]["steps"]["count"] == 1


def test_a_training_that_only_fails_stops(whole, tmp_path):
    """Leaving out is for a few batches: ten in a row are no accident."""
    task = spoilt(whole.task(nonfinite="skip", epochs=9), "loss", set(range(10, 10_000)))
    with pytest.raises(RunError, match=f"the last {MOST_IN_A_ROW} steps"):
        apps.run(task, tmp_path / "run")


def failing(task, bad, kind):
    """The task, of which samples can't be read: as a domain reads one by one, or with a whole batch."""
    sample, collate = task.sample, task.collate
    marks = {id_of(sample("train", index, None)) for index in bad}

    def reading(split, index, rng):
        if split == "train" and index in bad and kind == "one by one":
            raise UserError(f"{task.sample_name(split, index)}: is not an image")
        return sample(split, index, rng)

    def collating(samples):
        if kind == "batch" and any(id_of(one) in marks for one in samples):
            raise ValueError("no atoms")
        return collate(samples)

    task.sample, task.collate = reading, collating
    return task


def id_of(sample):
    return sample if isinstance(sample, int) else sample.row


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["one by one", "batch"])
def test_bad_samples_are_left_out_by_name(whole, tmp_path, kind, workers):
    said = []
    task = failing(whole.task(workers=workers, bad="skip"), {2, 5}, kind)
    train = whole.task().data.rows["train"]
    assert len(train) > 6
    results = apps.run(task, tmp_path / "run", say=said.append)
    names = [task.sample_name("train", index) for index in (2, 5)]
    assert results["left_out"]["samples"]["count"] == 2
    assert set(results["left_out"]["samples"]["why"]) == set(names)
    for name in names:
        assert sum(f"training sample {name} is left out" in line for line in said) == 1
    assert any("trained without 2 training samples" in line for line in said)


def test_whatever_reads_the_same_samples_are_left_out(whole, tmp_path):
    """0 and 2 workers, and a run that was killed, end alike."""
    for name, workers in (("one", 0), ("two", 2)):
        apps.run(
            failing(whole.task(workers=workers, bad="skip"), {2, 5}, "one by one"), tmp_path / name
        )
    apps.assert_same_end(tmp_path / "two", tmp_path / "one")
    doomed = failing(whole.task(bad="skip"), {2, 5}, "one by one")
    inner, calls = doomed.loss, iter(range(1, 10_000))
    doomed.loss = lambda model, batch: killed.die() if next(calls) == 14 else inner(model, batch)
    assert killed.in_child(lambda: apps.run(doomed, tmp_path / "run")) == signal.SIGKILL
    apps.run(failing(whole.task(bad="skip"), {2, 5}, "one by one"), tmp_path / "run", resume=True)
    apps.assert_same_end(tmp_path / "run", tmp_path / "one")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_stops_the_run_by_default(whole, tmp_path, workers):
    task = failing(whole.task(workers=workers), {2}, "one by one")
    with pytest.raises(UserError, match=rf"{task.sample_name('train', 2)}: is not an image"):
        apps.run(task, tmp_path / "run")


def test_an_image_that_broke_after_the_start(wholes, tmp_path):
    """A real file, truncated between preparing and training: named, left out; with "fail" the run stops."""
    whole = wholes("vision")
    shutil.copytree(whole.data, tmp_path / "data")
    whole_task = apps.task("vision", tmp_path / "data", bad="skip")
    broken = tmp_path / "data" / "train" / "dark" / "03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    results = apps.run(whole_task, tmp_path / "run")
    (name,) = results["left_out"]["samples"]["why"]
    assert name.endswith("dark/03.png")


def test_half_of_the_data_unreadable_is_no_accident(whole, tmp_path):
    bad = set(range(whole.task().sizes()["train"])) - {0, 1, 2}
    with pytest.raises(RunError, match="training samples can't be read"):
        apps.run(failing(whole.task(bad="skip"), bad, "one by one"), tmp_path / "run")


def test_an_evaluation_leaves_nothing_out(whole, tmp_path):
    task = whole.task(bad="skip")
    sample = task.sample

    def reading(split, index, rng):
        if split == "val":
            raise UserError("v.png: is not an image")
        return sample(split, index, rng)

    task.sample = reading
    with pytest.raises(UserError, match=r"v\.png"):
        apps.run(task, tmp_path / "run")


def test_a_dead_loader_process_is_a_sentence(whole, tmp_path):
    """And the run goes on from its last checkpoint, to the same end."""
    task = whole.task(workers=1)
    sample, parent = task.sample, os.getpid()
    seen = iter(range(1, 10_000))

    def reading(split, index, rng):
        if os.getpid() != parent and next(seen) == 50:
            killed.die()
        return sample(split, index, rng)

    task.sample = reading
    with pytest.raises(RunError, match=r"a loader process died .*--resume"):
        apps.run(task, tmp_path / "run")
    assert RunFolder(tmp_path / "run").results()["status"] == "failed"
    apps.run(whole.task(workers=1), tmp_path / "run", resume=True)
    apps.assert_same_end(tmp_path / "run", whole.run)


def test_a_partial_batch_is_what_its_readable_samples_make(whole):
    """The same batch as if the bad ones had never been in its key."""
    task = whole.task(bad="skip")
    key = loader.BatchKey(1, 2, [4, 2, 6, 5])
    told = {}
    (partial,) = loader.read_batches(
        failing(whole.task(bad="skip"), {2, 5}, "one by one"), "train", [key], seed=3,
        unread=lambda key, why: told.update(why),
    )  # fmt: skip
    (alone,) = loader.read_batches(task, "train", [loader.BatchKey(1, 2, [4, 6])], seed=3)
    for one, two in zip(
        torch.utils._pytree.tree_leaves(partial),
        torch.utils._pytree.tree_leaves(alone),
        strict=True,
    ):
        assert one.equal(two) if isinstance(one, torch.Tensor) else one == two
    assert set(told) == {2, 5}
