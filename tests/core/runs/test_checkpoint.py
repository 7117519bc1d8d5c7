"""Checkpoints detect every kind of damage, name it, and never lose an older one."""

import errno
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
import toy
from safetensors import safe_open

from isoform.core.engine.train import train
from isoform.core.errors import RunError, UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.checkpoint import Checkpoint, Damaged
from isoform.core.runs.folder import RunFolder
from killed import die, in_child

SETTINGS = {"ema": 0.9, "checkpoint_every": 2, "epochs": 2}
FILES = ["model.safetensors", "ema.safetensors", "state.safetensors", "state.json"]


def content(step=0):
    weights = {"w": torch.arange(7.0) + step, "n": torch.tensor(step)}
    return Checkpoint(
        weights, {"w": torch.zeros(7)}, {"exp_avg/w": torch.ones(7)}, {"place": {"step": step}}
    )


@pytest.fixture
def folder(tmp_path):
    for step in (2, 5, 7):
        checkpoint.write(tmp_path, step, content(step))
    return tmp_path


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    **{f"flipped bit in {name}": (lambda p, n=name: flip(p / n), name) for name in FILES},
    **{f"cut {name}": (lambda p, n=name: cut(p / n), name) for name in FILES},
    "file missing": (lambda p: (p / "ema.safetensors").unlink(), "ema.safetensors"),
    "manifest missing": (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest empty": (lambda p: (p / "manifest.json").write_text(""), "manifest.json"),
    "manifest not a table": (lambda p: (p / "manifest.json").write_text("[1]"), "manifest.json"),
    "manifest names nothing": (
        lambda p: (p / "manifest.json").write_text('{"files": {}}'),
        "model.safetensors",
    ),
}


def test_round_trip(folder):
    found = checkpoint.read(checkpoint.place(folder, 7))
    assert found.model["w"].equal(torch.arange(7.0) + 7) and found.model["n"].equal(torch.tensor(7))
    assert found.ema["w"].equal(torch.zeros(7)) and found.optimizer["exp_avg/w"].equal(
        torch.ones(7)
    )
    assert found.state == {"place": {"step": 7}}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(folder, kind):
    do, named = DAMAGE[kind]
    do(checkpoint.place(folder, 7))
    with pytest.raises(Damaged, match=named):
        checkpoint.read(checkpoint.place(folder, 7))
    said = []
    step, found = checkpoint.newest(folder, said.append)
    assert step == 5 and found.model["n"] == 5
    assert len(said) == 1 and "step-0000007" in said[0] and named in said[0]
    assert checkpoint.steps(folder) == [2, 5], (
        "the damaged one can't be taken for newer than what follows"
    )


def test_a_manifest_reaches_no_file_outside(folder):
    path = checkpoint.place(folder, 7)
    secret = folder / "secret"
    secret.write_text("x")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": "0"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match="secret is missing"):
        checkpoint.verify(path)


def test_none_whole_is_refused(folder):
    for step in (2, 5, 7):
        flip(checkpoint.place(folder, step) / "model.safetensors")
    with pytest.raises(UserError, match="none of the 3 checkpoints"):
        checkpoint.newest(folder, lambda _: None)
    assert checkpoint.steps(folder) == [2, 5, 7]


def test_nothing_there_is_a_new_start(tmp_path):
    (tmp_path / ".step-0000004.new").mkdir()
    assert checkpoint.newest(tmp_path, print) is None
    assert checkpoint.newest(tmp_path / "absent", print) is None


def test_keeps_the_newest_two_and_the_best(folder):
    checkpoint.write(folder, 11, content(11))
    checkpoint.prune(folder, [2])
    assert checkpoint.steps(folder) == [2, 7, 11]
    assert sorted(p.name for p in folder.iterdir()) == [
        "step-0000002",
        "step-0000007",
        "step-0000011",
    ]


def test_writing_a_step_again_replaces_it(folder):
    checkpoint.write(folder, 7, content(13))
    assert checkpoint.read(checkpoint.place(folder, 7)).model["n"] == 13
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("again", [False, True])
def test_killed_while_a_step_is_replaced(folder, again):
    """Between the two renames nothing of that name is there; what was comes back, and a removed one doesn't."""

    def deadly():
        rename = Path.rename

        def renaming(self, target):
            rename(self, target)
            if str(target).endswith(".old"):
                die()

        Path.rename = renaming
        checkpoint.write(folder, 5, content(13))

    assert in_child(deadly) == signal.SIGKILL
    assert checkpoint.steps(folder) == [2, 7]
    (folder / ".step-0000003.gone").mkdir()
    if again:
        checkpoint.write(folder, 11, content(11))
    assert checkpoint.newest(folder, print)[0] == (11 if again else 7)
    assert checkpoint.read(checkpoint.place(folder, 5)).model["n"] == 5
    assert checkpoint.steps(folder)[:3] == [2, 5, 7] and not list(folder.glob(".*"))


def test_a_disk_that_cannot_read_is_damage_and_any_other_refusal_is_not(folder, monkeypatch):
    fingerprint, code = checkpoint._fingerprint, errno.EIO

    def refusing(file):
        if file.parent.name == "step-0000007":
            raise OSError(code, os.strerror(code))
        return fingerprint(file)

    monkeypatch.setattr(checkpoint, "_fingerprint", refusing)
    code = errno.EACCES
    with pytest.raises(PermissionError):
        checkpoint.newest(folder, print)
    assert checkpoint.steps(folder) == [2, 5, 7]
    code, said = errno.EIO, []
    assert checkpoint.newest(folder, said.append)[0] == 5
    assert "step-0000007 is damaged" in said[0] and "can't be read: Input/output error" in said[0]


def test_tensor_files_carry_one_metadata_key(folder):
    for file in checkpoint.place(folder, 7).glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}


def test_tied_weights_are_written(tmp_path):
    tied = torch.arange(5.0)
    checkpoint.write(tmp_path, 1, Checkpoint({"a": tied, "b": tied}, None, {}, {}))
    found = checkpoint.read(checkpoint.place(tmp_path, 1))
    assert found.model["a"].equal(tied) and found.model["b"].equal(tied) and found.ema is None


@pytest.fixture
def small_files():
    """The operating system refuses files beyond 3 kB, as it refuses any on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_one_whole(folder, small_files):
    large = Checkpoint({"w": torch.zeros(3000)}, None, {}, {})
    for step in (7, 11):
        with pytest.raises(
            RunError, match=rf"step {step} could not be written.*step-0000007.*--resume"
        ):
            checkpoint.write(folder, step, large)
    assert checkpoint.steps(folder) == [2, 5, 7] and not list(folder.glob(".*"))
    assert checkpoint.read(checkpoint.place(folder, 7)).model["n"] == 7


def test_a_run_on_a_full_disk_stops_and_goes_on(tmp_path):
    class Filling(toy.ToyTask):
        def loss(self, model, batch):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 8:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
            return super().loss(model, batch)

    run = RunFolder(tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunError, match="step 4 could not be written"):
            train(Filling(toy.app(**SETTINGS)), run, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.steps(run.checkpoints) == [2] and run.results()["status"] == "failed"
    assert train(toy.task(**SETTINGS), run, resume=True, progress=False)["status"] == "finished"


def test_a_run_falls_back_and_ends_the_same(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    train(toy.task(**SETTINGS), run, progress=False)
    kept = checkpoint.steps(run.checkpoints)
    weights = run.load_weights("last")
    lines = len(run.metrics())
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    flip(checkpoint.place(moved.checkpoints, kept[-1]) / "state.safetensors")
    (moved.path / "results.json").unlink()
    train(toy.task(**SETTINGS), moved, resume=True, progress=False)
    said = capsys.readouterr().out
    assert (
        f"step-{kept[-1]:07d} is damaged (state.safetensors" in said
        and f"from step {kept[-2]}" in said
    )
    assert len(moved.metrics()) == lines
    assert all(value.equal(weights[name]) for name, value in moved.load_weights("last").items())


def test_a_best_one_that_gave_way_to_a_damaged_one_is_chosen_anew(tmp_path, capsys):
    """The second validation is the better one, on this machine; on the one that goes on it isn't."""

    class Judged(toy.ToyTask):
        second = 0.9

        def metrics(self, split, outputs):
            self.judged_already = getattr(self, "judged_already", 0) + 1
            top1 = (0.5, self.second)[self.judged_already > 1 or self.second < 0.5]
            return {**super().metrics(split, outputs), "top1": top1}

    settings = {"epochs": 2, "checkpoint_every": 3}
    run = RunFolder(tmp_path / "run")
    train(Judged(toy.app(**settings)), run, progress=False)
    assert checkpoint.steps(run.checkpoints) == [6, 8] and run.step_of("best") == 8
    assert checkpoint.read_place(checkpoint.place(run.checkpoints, 6))["best_step"] == 4
    flip(checkpoint.place(run.checkpoints, 8) / "model.safetensors")
    (run.path / "results.json").unlink()
    other = Judged(toy.app(**settings))
    other.second = 0.4
    found = train(other, run, resume=True, progress=False)
    assert "step 4, isn't there any more" in capsys.readouterr().out
    assert run.step_of("best") == 8 and found["metrics"]["val"]["top1"] == 0.4


def test_a_damaged_best_one_is_named_with_what_can_be_done(tmp_path):
    """None after it is as good, and those before it are gone."""
    settings = {"epochs": 6, "checkpoint_every": 2, "lr": 0.3, "warmup": 0.0}
    run = RunFolder(tmp_path / "run")
    before = train(toy.task(**settings), run, progress=False)
    (run.path / "results.json").unlink()
    best, last = run.step_of("best"), run.step_of("last")
    assert best < checkpoint.steps(run.checkpoints)[-2], "the newest two would be read again"
    weights = checkpoint.place(run.checkpoints, best) / "model.safetensors"
    flip(weights)
    with pytest.raises(UserError, match=rf"step-{best:07d} is damaged .*put a copy.*--resume"):
        train(toy.task(**settings), run, resume=True, progress=False)
    assert run.step_of("last") == last and run.load_weights("last")
    flip(weights)
    after = train(toy.task(**settings), run, resume=True, progress=False)
    assert after["metrics"] == before["metrics"]


def in_parts(folder, step):
    """A checkpoint whose matrix [5, 3] two processes hold."""
    whole = torch.arange(15.0).reshape(5, 3)
    checkpoint.begin(folder, step)
    files = {}
    for rank, rows in enumerate((whole[:3], whole[3:])):
        files |= checkpoint.write_part(folder, step, rank, 2, {"model/w": rows})
    checkpoint.seal_parts(folder, step, {"place": {}}, [{"model/w": 0}, {"model/w": 3}], files)
    return whole


def test_parts_are_one_checkpoint(folder):
    whole = in_parts(folder, 11)
    read = checkpoint.read(checkpoint.place(folder, 11))
    assert read.model["w"].equal(whole) and read.ema is None and not read.optimizer
    checkpoint.gather(folder, 11)
    assert checkpoint.read(checkpoint.place(folder, 11)).model["w"].equal(whole)
    assert (checkpoint.place(folder, 11) / "model.safetensors").exists()


@pytest.mark.parametrize(
    "index", ['{"model/w": [["../step-0000007/model.safetensors", 0]]}', "[]", '{"model/w": 3}']
)
def test_an_index_that_names_no_part_beside_it_is_damage(folder, index):
    in_parts(folder, 11)
    path = checkpoint.place(folder, 11)
    (path / "index.json").write_text(index)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["index.json"] = checkpoint._fingerprint(path / "index.json")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match=r"index\.json"):
        checkpoint.read(path)
