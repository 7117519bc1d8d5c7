"""A run that is killed, stopped or starved and then resumed ends as the run that was left alone: bit for bit."""

import json
import os
import shutil
import signal

import pytest
import torch
import toy

from isoform.core.engine.train import train
from isoform.core.errors import Preempted
from isoform.core.report import page
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from killed import die, in_child

SETTINGS = {"ema": 0.9, "checkpoint_every": 2, "evaluate_every": 2, "log_every": 1}
LAST = 16


def log_of(folder):
    timing = ("seconds", "samples_per_second")
    return [
        {k: v for k, v in line.items() if k not in timing} for line in RunFolder(folder).metrics()
    ]


def last_of(folder):
    return checkpoint.read(checkpoint.place(folder / "checkpoints", LAST))


def place_of(found):
    return {k: v for k, v in found.state["place"].items() if k not in ("seconds", "log_bytes")}


def assert_same_run(ours, theirs):
    assert log_of(ours) == log_of(theirs)
    a, b = last_of(ours), last_of(theirs)
    for mine, other in ((a.model, b.model), (a.ema or {}, b.ema or {}), (a.optimizer, b.optimizer)):
        assert mine.keys() == other.keys()
        for name in mine:
            assert mine[name].equal(other[name]), name
    assert place_of(a) == place_of(b)
    results = [json.loads((f / "results.json").read_text()) for f in (ours, theirs)]
    assert results[0]["metrics"] == results[1]["metrics"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(toy.task(**SETTINGS), RunFolder(folder), progress=False)
    assert [line["step"] for line in log_of(folder) if line["split"] == "train"] == list(
        range(1, LAST + 1)
    )
    return folder


def kill_at(folder, step, workers=0):
    """Trains until metrics.jsonl first shows `step`, and dies there by SIGKILL."""

    class Deadly(RunFolder):
        def append_metrics(self, line):
            super().append_metrics(line)
            if line["step"] == step:
                die()

    assert (
        in_child(lambda: train(toy.task(workers, **SETTINGS), Deadly(folder), progress=False))
        == signal.SIGKILL
    )


class Interrupted(toy.ToyTask):
    """Sends itself a signal in one of its methods, once."""

    def __init__(self, config, method, call, number):
        super().__init__(config)
        original, calls = getattr(self, method), iter(range(1000))

        def calling(*arguments):
            if next(calls) == call:
                os.kill(os.getpid(), number)
            return original(*arguments)

        setattr(self, method, calling)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 7, 8, 11, 13, 15])
def test_killed_and_resumed(whole, tmp_path, step, capsys):
    run = tmp_path / "run"
    kill_at(run, step)
    assert json.loads((run / "results.json").read_text())["status"] == "running"
    train(toy.task(**SETTINGS), RunFolder(run), resume=True, progress=False)
    said = capsys.readouterr().out
    saved = (step - 1) // 2 * 2
    assert (f"from step {saved}" if saved else "starting at step 0") in said
    assert_same_run(run, whole)


@pytest.mark.parametrize("step", [3, 11])
def test_killed_and_resumed_amid_sharpness_aware_steps(tmp_path, step):
    """The climb, the decay of every weight and the halved rate need nothing that the checkpoint lacks."""
    settings = {**SETTINGS, "sam": 0.05, "optimizer": "adam", "weight_decay": 1e-3, "decay_all": True,
                "schedule": "halving", "warmup": 0.0}  # fmt: skip
    train(toy.task(**settings), RunFolder(tmp_path / "whole"), progress=False)

    class Deadly(RunFolder):
        def append_metrics(self, line):
            super().append_metrics(line)
            if line["step"] == step:
                die()

    run = tmp_path / "run"
    assert (
        in_child(lambda: train(toy.task(**settings), Deadly(run), progress=False)) == signal.SIGKILL
    )
    train(toy.task(**settings), RunFolder(run), resume=True, progress=False)
    assert_same_run(run, tmp_path / "whole")
    assert "sharpness" in log_of(run)[0]


def test_killed_between_two_log_lines(tmp_path):
    """The running means of a line that isn't full are a part of the checkpoint."""
    settings = {**SETTINGS, "log_every": 7}
    train(toy.task(**settings), RunFolder(tmp_path / "whole"), progress=False)
    run = tmp_path / "run"
    doomed = Interrupted(
        toy.app(**settings), "loss", 18, signal.SIGKILL
    )  # in step 7, after the checkpoint of step 6
    assert in_child(lambda: train(doomed, RunFolder(run), progress=False)) == signal.SIGKILL
    assert (
        checkpoint.read(checkpoint.place(run / "checkpoints", 6)).state["place"]["meter"]["loss"][1]
        == 30
    )
    train(toy.task(**settings), RunFolder(run), resume=True, progress=False)
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.parametrize(("first", "second"), [(2, 2), (2, 0), (0, 1)])
def test_loader_workers_never_change_the_run(whole, tmp_path, first, second):
    kill_at(tmp_path / "run", 7, workers=first)
    # The number of workers is a setting that a resumed run may not change; the folder's own is put in its place.
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace(f"workers = {first}", f"workers = {second}"))
    train(toy.task(second, **SETTINGS), RunFolder(tmp_path / "run"), resume=True, progress=False)
    assert_same_run(tmp_path / "run", whole)


def test_when_checkpoints_are_written_changes_nothing(whole, tmp_path):
    for every in (1, 3, 1000, None):
        run = tmp_path / str(every)
        train(toy.task(**{**SETTINGS, "checkpoint_every": every}), RunFolder(run), progress=False)
        assert_same_run(run, whole)


@pytest.mark.parametrize("phase", ["before", "mid-write", "before the rename", "after the rename"])
def test_killed_while_saving(whole, tmp_path, phase, monkeypatch):
    run, at = tmp_path / "run", 6
    write, save, prune = checkpoint.write, checkpoint._save, checkpoint.prune

    def deadly():
        def writing(folder, step, content):
            if step == at:
                if phase == "before":
                    die()
                if phase == "mid-write":
                    monkeypatch.setattr(
                        checkpoint, "_save", lambda tensors, path: (save(tensors, path), die())
                    )
                if phase == "before the rename":
                    monkeypatch.setattr(type(folder), "rename", lambda *_: die())
            write(folder, step, content)

        monkeypatch.setattr(checkpoint, "write", writing)
        if phase == "after the rename":
            monkeypatch.setattr(
                checkpoint,
                "prune",
                lambda f, keep: die() if at in checkpoint.steps(f) else prune(f, keep),
            )
        train(toy.task(**SETTINGS), RunFolder(run), progress=False)

    assert in_child(deadly) == signal.SIGKILL
    assert checkpoint.steps(run / "checkpoints")[-1] == (
        at if phase == "after the rename" else at - 2
    )
    train(toy.task(**SETTINGS), RunFolder(run), resume=True, progress=False)
    assert not list((run / "checkpoints").glob(".*"))
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("method", "call"), [("loss", 13), ("loss", 19), ("predict", 1), ("predict", 7)]
)
def test_stopped_by_a_signal(whole, tmp_path, method, call, number):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Preempted):
        train(Interrupted(toy.app(**SETTINGS), method, call, number), run, progress=False)
    assert run.results()["status"] == "preempted"
    assert checkpoint.steps(run.checkpoints), "a signal leaves a checkpoint"
    train(toy.task(**SETTINGS), run, resume=True, progress=False)
    assert_same_run(run.path, whole)


def test_early_stopping_counts_across_a_resume(tmp_path, capsys):
    settings = {"epochs": 40, "patience": 2, "lr": 1e-5, "warmup": 0.0, "log_every": 1}
    train(toy.task(**settings), RunFolder(tmp_path / "whole"), progress=False)
    logged = log_of(tmp_path / "whole")
    assert "stopped early: no better validation in 2 evaluations" in capsys.readouterr().out
    assert logged[-1]["epoch"] == 3, "two validations without improvement after the first"
    with pytest.raises(Preempted):
        train(
            Interrupted(toy.app(**settings), "loss", 25, signal.SIGTERM),
            RunFolder(tmp_path / "run"),
            progress=False,
        )
    train(toy.task(**settings), RunFolder(tmp_path / "run"), resume=True, progress=False)
    assert log_of(tmp_path / "run") == logged


def test_metrics_that_are_no_numbers_are_json_and_come_back(tmp_path, capsys):
    """Without a test split, so that the last line tells those of validation."""

    class Odd(toy.ToyTask):
        def sizes(self):
            return {split: size for split, size in toy.SIZES.items() if split != "test"}

        def loss(self, model, batch):
            return {**super().loss(model, batch), "odd": torch.tensor(float("nan"))}

        def metrics(self, split, outputs):
            return {**super().metrics(split, outputs), "odd": float("nan"), "far": float("inf")}

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    settings = {**SETTINGS, "log_every": 7}
    train(Odd(toy.app(**settings)), RunFolder(tmp_path / "whole"), progress=False)
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "whole", run)
    checkpoints = run / "checkpoints"
    *_, before, last = checkpoint.steps(checkpoints)
    for step in (before, last):
        for file in checkpoint.place(checkpoints, step).glob("*.json"):
            json.loads(file.read_text(), parse_constant=refuse)
    shutil.rmtree(checkpoint.place(checkpoints, last))
    (run / "results.json").unlink()
    train(Odd(toy.app(**settings)), RunFolder(run), resume=True, progress=False)
    assert f"from step {before}" in (said := capsys.readouterr().out) and "odd nan" in said
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.parametrize("name", ["card.md", "figures.json", "report.html"])
def test_killed_among_the_last_files(whole, tmp_path, name):
    class Deadly(RunFolder):
        def _write(self, file, content):
            if file == name:
                die()
            return super()._write(file, content)

    def deadly():
        page.RunFolder = Deadly
        train(toy.task(**SETTINGS), Deadly(run), progress=False)

    run = tmp_path / "run"
    assert in_child(deadly) == signal.SIGKILL
    assert not (run / name).exists()
    train(toy.task(**SETTINGS), RunFolder(run), resume=True, progress=False)
    assert_same_run(run, whole)
    assert {file.name for file in run.iterdir()} == {file.name for file in whole.iterdir()}
    for same in ("card.md", "figures.json"):
        assert (run / same).read_bytes() == (whole / same).read_bytes()


def test_a_finished_run_says_so(whole, capsys):
    before = (whole / "results.json").read_bytes()
    found = train(toy.task(**SETTINGS), RunFolder(whole), resume=True, progress=False)
    assert found["status"] == "finished" and "is finished" in capsys.readouterr().out
    assert (whole / "results.json").read_bytes() == before
