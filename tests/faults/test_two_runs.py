"""Faults 11 and 12, and a folder that can't be written: what is refused before anything is lost."""

import os
import signal
import time

import apps
import pytest

from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder


def test_two_runs_on_one_folder(whole, halfway):
    """The second is refused while the first lives, whether it would start or resume; a dead one is no obstacle."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with RunFolder(halfway).lock():
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            time.sleep(60)
        os._exit(3)
    os.read(ready[0], 1)
    try:
        with pytest.raises(UserError, match="another process is training here"):
            apps.run(whole.task(), halfway, resume=True)
        assert RunFolder(halfway).is_training()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    apps.run(whole.task(), halfway, resume=True)
    apps.assert_same_end(halfway, whole.run)


def test_changed_settings_are_refused_with_what_changed(whole, halfway):
    before = {p: p.read_bytes() for p in halfway.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError, match=r"train\.lr: 0\.003 -> 0\.004") as caught:
        apps.run(whole.task(lr=4e-3, ema=0.8), halfway, resume=True)
    assert "train.ema: 0.9 -> 0.8" in str(caught.value)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_that_cannot_be_written(whole, tmp_path, monkeypatch):
    """A read-only file system, at the first thing that is made there."""
    opening = os.open

    def refused(path, *arguments, **settings):
        if str(path).startswith(str(tmp_path)):
            raise OSError(30, "Read-only file system", str(path))
        return opening(path, *arguments, **settings)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(UserError, match=r"Read-only file system.*--run-dir"):
        apps.run(whole.task(), tmp_path / "a" / "run")
    monkeypatch.undo()
    assert not (tmp_path / "a" / "run" / "config.toml").exists()
