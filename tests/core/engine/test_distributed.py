"""Several processes train what one trains: the numbers of a run don't depend on how many there are."""

import os
import signal

import pytest
import toy

from isoform.core.engine import distributed, loader
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, RunError, UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from ranks import end_of, fork_ranks, in_ranks

# 52 steps of 3 micro-batches each, of which the last of an epoch is a single one of 2 samples.
SETTINGS = {"epochs": 13, "ema": 0.9, "checkpoint_every": 4, "evaluate_every": 2, "log_every": 1}
CLOSE = 1e-5


def run(folder, resume=False, **settings):
    return train(
        toy.SteadyTask(toy.app(**{**SETTINGS, **settings})),
        RunFolder(folder),
        resume=resume,
        progress=False,
        say=lambda line: None,
    )


def last_of(folder):
    return checkpoint.read(
        checkpoint.place(folder / "checkpoints", RunFolder(folder).step_of("last"))
    )


def furthest(ours, theirs):
    """The largest difference between the tensors of two runs' last checkpoints."""
    a, b = last_of(ours), last_of(theirs)
    assert a.state["place"]["step"] == b.state["place"]["step"]
    found = 0.0
    for mine, other in ((a.model, b.model), (a.ema or {}, b.ema or {}), (a.optimizer, b.optimizer)):
        assert mine.keys() == other.keys()
        for name, tensor in mine.items():
            found = max(found, float((tensor.double() - other[name].double()).abs().max()))
    return found


def log_of(folder):
    timing = ("seconds", "samples_per_second")
    return [
        {k: v for k, v in line.items() if k not in timing} for line in RunFolder(folder).metrics()
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder)
    return folder


def test_two_processes_train_what_one_does(tmp_path, alone):
    assert in_ranks(2, lambda: run(tmp_path / "run")) == [0, 0]
    assert furthest(tmp_path / "run", alone) < CLOSE
    ours, theirs = log_of(tmp_path / "run"), log_of(alone)
    assert [line["step"] for line in theirs if line["split"] == "train"] == list(range(1, 53))
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.pop("split") == other.pop("split")
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    results = [RunFolder(folder).results() for folder in (tmp_path / "run", alone)]
    for split in ("val", "test"):
        assert results[0]["metrics"][split] == pytest.approx(results[1]["metrics"][split], rel=1e-4)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {p.name for p in alone.iterdir()}


def test_processes_that_do_not_sum_their_gradients_end_elsewhere(tmp_path, alone, monkeypatch):
    monkeypatch.setattr(distributed.Process, "sum_each", lambda self, tensors: tensors)
    assert in_ranks(2, lambda: run(tmp_path / "run")) == [0, 0]
    assert furthest(tmp_path / "run", alone) > 1000 * CLOSE


def test_three_processes_with_sam(tmp_path):
    run(tmp_path / "alone", sam=0.05, epochs=3, batch=4)
    assert in_ranks(3, lambda: run(tmp_path / "run", sam=0.05, epochs=3, batch=4)) == [0, 0, 0]
    assert furthest(tmp_path / "run", tmp_path / "alone") < CLOSE


def logged(folder):
    """Bytes of the log, which the first process writes: another may look before there is one."""
    log = RunFolder(folder).log
    return log.stat().st_size if log.exists() else 0


def test_a_run_goes_on_in_another_number_of_processes(tmp_path, alone):
    folder = tmp_path / "run"

    class Signalled(toy.SteadyTask):
        def sample(self, split, index, rng):
            if split == "train" and logged(folder) > 3000:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().sample(split, index, rng)

    def stop():
        with pytest.raises(Preempted, match="stopped by a signal"):
            train(
                Signalled(toy.app(**SETTINGS)),
                RunFolder(folder),
                progress=False,
                say=lambda line: None,
            )

    assert in_ranks(2, stop) == [0, 0]
    assert RunFolder(folder).results()["status"] == "preempted"
    assert 0 < RunFolder(folder).step_of("last") < 52
    run(folder, resume=True)
    assert furthest(folder, alone) < CLOSE


def both(folder, make):
    """A run of one process and one of two, as (folder, results): what they end with is the same."""

    def work(name):
        train(make(), RunFolder(folder / name), progress=False, say=lambda line: None)

    work("alone")
    assert in_ranks(2, lambda: work("run")) == [0, 0]
    assert furthest(folder / "run", folder / "alone") < CLOSE
    return [RunFolder(folder / name).results() for name in ("run", "alone")]


def test_a_step_that_is_not_finite_in_one_process_is_left_out_of_all(tmp_path):
    class Nan(toy.SteadyTask):
        def sample(self, split, index, rng):
            x, y = super().sample(split, index, rng)
            return (x * float("nan") if split == "train" and index == 31 else x), y

    ours, theirs = both(
        tmp_path, lambda: Nan(toy.app(**{**SETTINGS, "epochs": 3, "nonfinite": "skip"}))
    )
    assert ours["left_out"] == theirs["left_out"]
    assert ours["left_out"]["steps"]["count"] == 3
    lines = [line for line in log_of(tmp_path / "run") if line["split"] == "train"]
    assert all(value == value for line in lines for value in line.values())


class Forgiving(toy.ToyData):
    bad_samples: str = "skip"


class ForgivingApp(toy.ToyApp):
    data: Forgiving = Forgiving()


def forgiving(**settings):
    told = toy.app(**{**SETTINGS, "epochs": 3, **settings}).model_dump()
    return ForgivingApp.model_validate({**told, "data": {"bad_samples": "skip"}})


def test_samples_that_one_process_cannot_read_are_left_out_by_all(tmp_path):
    """One of them, and the only micro-batch of a step, which nobody then makes."""
    last = loader.epoch_batches(toy.SteadyTask(forgiving()), 0, 0)[-1].indices
    assert len(last) == 2
    bad = {31, 7, *last}

    class Unread(toy.SteadyTask):
        def sample(self, split, index, rng):
            if split == "train" and index in bad:
                raise UserError(f"picture {index} is damaged")
            return super().sample(split, index, rng)

    ours, theirs = both(tmp_path, lambda: Unread(forgiving()))
    assert ours["left_out"] == theirs["left_out"]
    assert ours["left_out"]["samples"]["count"] == len(bad)
    mine, other = (log_of(tmp_path / name) for name in ("run", "alone"))
    assert ["loss" in line for line in mine] == ["loss" in line for line in other]
    assert [line["step"] for line in mine if "loss" not in line] == [4]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (toy.app(shard="full", optimizer="muon"), "needs whole matrices"),
        (forgiving(shard="full"), "may leave one without"),
    ],
)
def test_settings_that_cannot_go_along_with_divided_blocks(tmp_path, config, told):
    with pytest.raises(UserError, match=told):
        train(toy.SteadyTask(config), RunFolder(tmp_path / "run"), progress=False, say=print)
    assert not (tmp_path / "run").exists()


class Broken(toy.SteadyTask):
    """A sample that can't be read."""

    bad = 31

    def sample(self, split, index, rng):
        if split == "train" and index == self.bad:
            raise UserError(f"picture {index} is damaged")
        return super().sample(split, index, rng)


def test_a_sample_that_one_process_cannot_read_stops_all_with_its_sentence(tmp_path):
    def fails():
        with pytest.raises(UserError, match="picture 31 is damaged"):
            train(Broken(toy.app()), RunFolder(tmp_path / "run"), progress=False, say=print)

    assert in_ranks(2, fails) == [0, 0]
    assert not (tmp_path / "run" / "config.toml").exists(), "nothing is left behind"


def test_a_loss_that_is_not_finite_in_one_process_stops_all_at_the_same_step(tmp_path):
    class Nan(toy.SteadyTask):
        def loss(self, model, batch):
            losses = super().loss(model, batch)
            once = os.environ["RANK"] == "1" and (tmp_path / "run").exists()
            return {**losses, "loss": losses["loss"] * (float("nan") if once else 1)}

    def fails():
        with pytest.raises(RunError, match="loss is nan at step 1, training samples"):
            train(Nan(toy.app()), RunFolder(tmp_path / "run"), progress=False, say=print)

    assert in_ranks(2, fails) == [0, 0]
    assert RunFolder(tmp_path / "run").results()["status"] == "failed"


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_a_process_that_is_gone_or_hangs_ends_the_others(tmp_path, how):
    class Lost(toy.SteadyTask):
        def sample(self, split, index, rng):
            if os.environ["RANK"] == "1" and split == "val":
                os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            return super().sample(split, index, rng)

    def fails():
        with pytest.raises(RunError, match="another process of this run ended or gave no answer"):
            train(Lost(toy.app()), RunFolder(tmp_path / "run"), progress=False, say=print)

    children = fork_ranks(2, fails, ISOFORM_TIMEOUT="5")
    first, _ = os.waitpid(children[0], 0)[1], os.kill(children[1], signal.SIGKILL)
    assert first == 0
    assert end_of(children[1:]) == [-signal.SIGKILL]


def test_a_process_that_hangs_while_it_writes_in_the_background_ends_the_others(
    tmp_path, monkeypatch
):
    """What a thread waits for ends as early as what its process waits for: else it would keep that one alive."""
    monkeypatch.setattr(checkpoint, "write", lambda *_: os.kill(os.getpid(), signal.SIGSTOP))

    def fails():
        with pytest.raises(RunError, match="another process of this run ended or gave no answer"):
            run(tmp_path / "run", save_in_background=True)

    first, second = fork_ranks(2, fails, ISOFORM_TIMEOUT="5")
    ended = end_of([second], seconds=60)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert ended == [0]


def test_only_as_many_processes_as_there_are_micro_batches(tmp_path):
    def fails():
        with pytest.raises(
            UserError, match=r"4 processes .* train.accumulate is 3.*start 3 at most"
        ):
            run(tmp_path / "run")

    assert in_ranks(4, fails) == [0, 0, 0, 0]
    assert not (tmp_path / "run").exists()


def test_the_global_batch_is_what_the_config_says():
    config = toy.app(batch=24, accumulate=1)
    shared, line = distributed.deal_out(config, 3)
    assert (shared.train.batch, shared.train.accumulate) == (8, 3)
    assert line == "3 processes: a step's 24 samples are 3 micro-batches of 8"
    assert distributed.deal_out(config, 1) == (config, "")
    assert distributed.deal_out(shared, 2) == (shared, "")
    with pytest.raises(UserError, match=r"24 samples .* can't be divided among 5 processes"):
        distributed.deal_out(config, 5)


def test_divided_blocks_train_what_whole_ones_do_and_are_put_together_again(tmp_path, alone):
    folder = tmp_path / "run"
    settings = {"shard": "full", "save_in_background": True}

    class Signalled(toy.SteadyTask):
        until = 2000

        def sample(self, split, index, rng):
            if split == "train" and logged(folder) > self.until:
                self.until = 10**9
                os.kill(os.getpid(), signal.SIGTERM)
            return super().sample(split, index, rng)

    # 2 -> 1 -> 2 processes, each going on from what the others wrote.
    assert in_ranks(2, lambda: stopped(Signalled, folder, settings)) == [0, 0]
    place = checkpoint.place(folder / "checkpoints", RunFolder(folder).step_of("last"))
    assert {p.name for p in place.iterdir()} == {
        "part-1-of-2.safetensors",
        "part-2-of-2.safetensors",
        "index.json",
        "state.json",
        "manifest.json",
    }
    weights = checkpoint.read_weights(place, ema=False)
    assert weights["backbone.blocks.0.weight"].shape == (toy.HIDDEN, toy.HIDDEN)
    Signalled.until = 4000
    assert in_ranks(1, lambda: stopped(Signalled, folder, settings, resume=True)) == [0]
    assert RunFolder(folder).results()["status"] == "preempted"
    assert in_ranks(2, lambda: run(folder, resume=True, **settings)) == [0, 0]
    assert furthest(folder, alone) < CLOSE
    best = checkpoint.place(folder / "checkpoints", RunFolder(folder).step_of("best"))
    assert (best / "model.safetensors").exists(), "the best is gathered"
    metrics = [RunFolder(one).results()["metrics"] for one in (folder, alone)]
    assert metrics[0]["test"] == pytest.approx(metrics[1]["test"], rel=1e-4)


def stopped(kind, folder, settings, resume=False):
    with pytest.raises(Preempted):
        train(
            kind(toy.app(**{**SETTINGS, **settings})),
            RunFolder(folder),
            resume=resume,
            progress=False,
            say=lambda line: None,
        )


def test_a_failed_writing_in_the_background_stops_the_next_step(tmp_path, monkeypatch):
    def full(*_):
        raise RunError("the checkpoint of step 4 could not be written")

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(RunError, match="checkpoint of step 4 could not be written"):
        run(tmp_path / "run", save_in_background=True)
    assert RunFolder(tmp_path / "run").results()["status"] == "failed"
    assert len([line for line in log_of(tmp_path / "run") if line["split"] == "train"]) < 12


def test_what_is_written_in_the_background_is_what_is_written_at_once(tmp_path, alone):
    run(tmp_path / "run", save_in_background=True)
    assert furthest(tmp_path / "run", alone) == 0
