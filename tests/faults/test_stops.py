"""Faults 2 and 3: killed or told to stop anywhere, a run goes on to the same end, bit for bit.

That the command then ends with 75 is tests/core/cli/test_arguments.py's.
"""

import os
import signal
import time

import apps
import pytest

import killed
from isoform.core.errors import Preempted, UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from ranks import end_of, fork_ranks


class Deadly(RunFolder):
    """Dies behind the first line of a step."""

    step = 0

    def append_metrics(self, line):
        super().append_metrics(line)
        if line["step"] == self.step:
            killed.die()


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (2, 0), (4, 2), (5, 0), (6, 0), (8, 2)])
def test_killed_at_a_step(whole, tmp_path, step, workers):
    """With dropout, three micro-batches a step, a partial last batch; workers are changed by the way."""
    folder = tmp_path / "run"
    deadly = type("Deadly", (Deadly,), {"step": step})(folder)
    doomed = whole.task(workers=workers)

    def work():
        from isoform.core.engine.train import train

        train(doomed, deadly, progress=False, say=lambda _: None)

    assert killed.in_child(work) == signal.SIGKILL
    apps.run(whole.task(workers=workers), folder, resume=True)
    apps.assert_same_end(folder, whole.run)
    steps = [line["step"] for line in apps.ends(folder)[0] if line["split"] == "train"]
    assert steps == sorted(set(steps)), "a step was logged twice"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("call", [2, 14, 20])
def test_told_to_stop(whole, tmp_path, call, number):
    """The step is finished, a checkpoint written, the run is `preempted`; going on ends as if nothing had been."""
    task, calls = whole.task(), iter(range(1, 10_000))
    original = task.loss

    def loss(model, batch):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return original(model, batch)

    task.loss = loss
    with pytest.raises(Preempted, match="--resume"):
        apps.run(task, tmp_path / "run")
    stopped = RunFolder(tmp_path / "run")
    assert stopped.results()["status"] == "preempted"
    epoch, batch = divmod(call - 1, len(task.batches("train", 4, None)))
    assert checkpoint.steps(stopped.checkpoints)[-1] == 3 * epoch + batch // 3 + 1
    apps.run(whole.task(), stopped.path, resume=True)
    apps.assert_same_end(stopped.path, whole.run)


@pytest.mark.parametrize(
    ("number", "workers", "ranks"),
    [
        (signal.SIGTERM, 0, 1),
        (signal.SIGTERM, 2, 1),
        (signal.SIGINT, 2, 1),
        (signal.SIGTERM, 0, 2),
    ],
)
def test_a_checkpoint_within_ten_seconds_in_a_long_epoch(whole, tmp_path, number, workers, ranks):
    """A sample takes a second and an epoch at least 13; the signal goes to loader processes and all ranks as well."""
    task = whole.task(workers=workers, batch=1, accumulate=ranks)
    read = task.sample

    def slowly(split, index, rng):
        time.sleep(1.0)
        return read(split, index, rng)

    task.sample = slowly

    def work():
        os.setsid()
        with pytest.raises(Preempted):
            apps.run(task, tmp_path / "run")

    stopped = RunFolder(tmp_path / "run")
    children = fork_ranks(ranks, work)
    end = time.monotonic() + 60
    while not stopped.metrics() and time.monotonic() < end:
        time.sleep(0.05)
    began = time.monotonic()
    for child in children:
        os.killpg(child, number)
    assert end_of(children, 60.0) == [0] * ranks
    assert time.monotonic() - began < 10
    assert stopped.results()["status"] == "preempted"
    last = stopped.metrics()[-1]["step"]
    assert checkpoint.steps(stopped.checkpoints)[-1] == last, "of the step that was at work"
    checkpoint.verify(checkpoint.place(stopped.checkpoints, last))


def test_a_clock_that_jumps_changes_nothing(whole, tmp_path, monkeypatch):
    """Back by a year at every look: what is measured comes from a clock that can't be set."""
    jumps = iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: 1.8e9 - 3e7 * next(jumps))
    results = apps.run(whole.task(), tmp_path / "run")
    apps.assert_same_end(tmp_path / "run", whole.run)
    assert 0 < results["seconds"] < 1e4


def test_nothing_starts_again_in_silence(whole, tmp_path):
    """A run that was killed is refused without --resume, and one without checkpoints says that it starts at 0."""
    folder = tmp_path / "run"
    deadly = type("Deadly", (Deadly,), {"step": 1})(folder)

    def work():
        from isoform.core.engine.train import train

        train(whole.task(), deadly, progress=False, say=lambda _: None)

    assert killed.in_child(work) == signal.SIGKILL
    with pytest.raises(UserError, match="--resume"):
        apps.run(whole.task(), folder)
    said = []
    apps.run(whole.task(), folder, resume=True, say=said.append)
    assert any("starting at step 0" in line for line in said)
    apps.assert_same_end(folder, whole.run)
