import fcntl
import json
import os
import signal

import numpy as np
import pytest
import toy

from isoform.core.data.writers import plain_json
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs import checkpoint, folder
from isoform.core.runs.folder import RunFolder


def test_a_second_run_is_locked_out_and_a_dead_one_is_not(tmp_path):
    run = RunFolder(tmp_path / "run")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with RunFolder(run.path).lock():
            run.write_text("config.toml", "")
            os.write(ready[1], b"x")
            os.read(go[0], 1)
    os.read(ready[0], 1)
    with pytest.raises(UserError, match="another process"), run.lock():
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with run.lock():
        pass


@pytest.mark.parametrize("again", [False, True])
def test_a_lock_whose_file_was_taken_away_is_taken_again(tmp_path, monkeypatch, again):
    """The first run ends, and removes what it made, between the second one's opening of the lock and its taking it."""
    run = RunFolder(tmp_path / "run")
    first, open_it = run.lock(), os.open
    first.__enter__()

    def opening(path, *rest, **options):
        descriptor = open_it(path, *rest, **options)
        if str(path).endswith(".lock"):
            monkeypatch.undo()
            first.__exit__(None, None, None)
            assert not run.path.exists()
            if again:
                run.path.mkdir()
                (run.path / ".lock").touch()
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    with (
        run.lock(),
        pytest.raises(UserError, match="another process"),
        RunFolder(tmp_path / "run").lock(),
    ):
        pass


def test_whoever_only_looks_keeps_nobody_out(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.write_text("config.toml", "")
    with run.lock():
        pass
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(folder.time, "sleep", lambda _: os.close(looking))
    with run.lock():
        assert run.is_training()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't write there"), RunFolder(tmp_path / "file").lock():
        pass


def test_a_child_does_not_keep_its_killed_parents_lock(tmp_path):
    run = RunFolder(tmp_path / "run")
    done, go = os.pipe(), os.pipe()
    parent = os.fork()
    if parent == 0:
        lock = run.lock()
        lock.__enter__()
        run.write_text("config.toml", "")
        if os.fork() == 0:  # as a loader worker: it outlives the parent
            os.write(done[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
        os.read(go[0], 1)
    os.read(done[0], 1)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with run.lock():
            pass
    finally:
        os.write(go[1], b"x")


def test_a_folder_with_a_run_is_refused(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(epochs=1), run, progress=False)
    with pytest.raises(UserError, match=r"holds a run already.*--resume"):
        train(toy.task(epochs=1), run, progress=False)


def test_resuming_nothing_starts_and_says_so(tmp_path, capsys):
    train(toy.task(epochs=1), RunFolder(tmp_path / "run"), resume=True, progress=False)
    assert "no complete checkpoint yet, starting at step 0" in capsys.readouterr().out


def test_none_whole_never_starts_again(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(epochs=1), run, progress=False)
    (run.path / "results.json").unlink()
    for step in checkpoint.steps(run.checkpoints):
        (checkpoint.place(run.checkpoints, step) / "manifest.json").unlink()
    with pytest.raises(UserError, match="none of the"):
        train(toy.task(epochs=1), run, resume=True, progress=False)


def test_changed_settings_are_refused_with_what_changed(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(epochs=1), run, progress=False)
    (run.path / "results.json").unlink()
    with pytest.raises(UserError, match=r"train\.lr: 0\.01 -> 0\.02"):
        train(toy.task(epochs=1, lr=0.02), run, resume=True, progress=False)


def test_the_users_mistake_leaves_nothing_behind(tmp_path):
    class Unreadable(toy.ToyTask):
        def sample(self, split, index, rng):
            if index == 5:
                raise UserError("5.png is not an image; remove it")
            return super().sample(split, index, rng)

    for workers in (0, 1):
        run = RunFolder(tmp_path / "below" / str(workers))
        with pytest.raises(UserError, match=r"^5\.png is not an image; remove it$"):
            train(Unreadable(toy.app(workers)), run, progress=False)
        assert not run.path.parent.exists()
    with pytest.raises(UserError, match="neither a run folder"):
        train(toy.task(init="nowhere.pth"), RunFolder(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


def test_text_is_replaced_whole(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.write_text("card.md", "old")
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError):
        run.write_text("card.md", "new")
    assert (tmp_path / "card.md").read_text() == "old" and os.listdir(tmp_path) == ["card.md"]


def test_log_is_cut_where_the_checkpoint_was(tmp_path):
    run = RunFolder(tmp_path)
    run.append_metrics({"step": 1})
    size = run.log.stat().st_size
    run.append_metrics({"step": 2})
    run.cut_metrics(size)
    assert run.metrics() == [{"step": 1}]
    run.cut_metrics(size + 99)
    assert run.log.stat().st_size == size
    with run.log.open("a") as stream:
        stream.write('{"step": 3')
    assert run.metrics() == [{"step": 1}], "a line that a crash cut short"


def test_json_is_plain():
    value = {"a": np.float32(0.5), "b": [float("nan"), np.arange(3)], 3: (float("inf"), True, None)}
    assert plain_json(value) == {"a": 0.5, "b": [None, [0, 1, 2]], "3": [None, True, None]}
    json.dumps(plain_json(value), allow_nan=False)


def test_checkpoints_by_name(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        run.load_weights()
    train(toy.task(ema=0.5, checkpoint_every=1, epochs=3), run, progress=False)
    present = checkpoint.steps(run.checkpoints)
    assert run.step_of("last") == present[-1] == 12 and run.step_of(str(present[-2])) == present[-2]
    best = max(
        (line for line in run.metrics() if line["split"] == "val"), key=lambda line: line["top1"]
    )
    assert run.step_of("best") == best["step"]
    with pytest.raises(UserError, match="no checkpoint 3; it has best, last, "):
        run.step_of(3)
    averaged, raw = run.load_weights("last"), run.load_weights("last", ema=False)
    assert not averaged["head.weight"].equal(raw["head.weight"])
    (checkpoint.place(run.checkpoints, 12) / "ema.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"damaged: ema\.safetensors has 0 bytes"):
        run.load_weights("last")


def test_which_step_is_best_is_believed_only_by_its_hash(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(checkpoint_every=1, epochs=3), run, progress=False)
    best, other = run.step_of("best"), checkpoint.steps(run.checkpoints)[-2]
    file = checkpoint.place(run.checkpoints, run.step_of("last")) / "state.json"
    told = file.read_text()
    assert best != other and f'"best_step": {best},' in told
    file.write_text(told.replace(f'"best_step": {best},', f'"best_step": {other},'))
    with pytest.raises(UserError, match=r"damaged: state\.json .*; choose a step with"):
        run.load_weights("best")
    assert run.load_weights(other)
    file.unlink()
    with pytest.raises(UserError, match=r"state\.json is missing"):
        run.step_of("best")


def test_task_json_is_a_closed_table(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json("task.json", {"classes": ["a", "b"], "licence": "MIT"})
    assert run.state(toy.ToyState) == toy.ToyState(classes=("a", "b"), licence="MIT")
    run.write_json("task.json", {"clases": ["a", "b"]})
    with pytest.raises(UserError, match=r"task\.json: clases: Extra inputs are not permitted"):
        run.state(toy.ToyState)
    run.write_json("task.json", {"classes": [1]})
    with pytest.raises(UserError, match=r"task\.json: classes\.0: "):
        run.state(toy.ToyState)
