"""Faults 1 and 5: a kill, or a full disk, at every single thing that a save does to the disk."""

import errno
import shutil
from itertools import count

import apps
import pytest

import killed
from isoform.core.errors import RunError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

MOST = 40  # things that a save does: fewer than these


def saving(task, folder, number, act):
    """Goes on with the run; from its first save to the pruning behind it, `act` comes at the `number`-th event."""
    write, prune = checkpoint.write, checkpoint.prune
    events = apps.at_event(number, act)

    def writing(*arguments):
        if writing.first:
            writing.first = False
            events.__enter__()
        write(*arguments)

    def pruning(*arguments):
        prune(*arguments)
        events.__exit__(None, None, None)

    writing.first = True
    checkpoint.write, checkpoint.prune = writing, pruning
    try:
        return apps.run(task, folder, resume=True)
    finally:
        checkpoint.write, checkpoint.prune = write, prune
        if not writing.first:
            events.__exit__(None, None, None)


def whole_ones(folder):
    """Steps of the checkpoints that are whole."""
    found = []
    for step in checkpoint.steps(folder / "checkpoints"):
        checkpoint.verify(checkpoint.place(folder / "checkpoints", step))
        found.append(step)
    return found


def test_killed_at_every_event_of_a_save(whole, halfway, tmp_path):
    """Never fewer checkpoints than before, each of them whole, and the run ends as the one that was left alone."""
    task = whole.task()
    for number in count(1):
        folder = tmp_path / str(number)
        shutil.copytree(halfway, folder)
        before = whole_ones(folder)
        done = killed.in_child(lambda n=number, f=folder: saving(task, f, n, killed.die))
        if done == 0:
            break
        there = whole_ones(folder)
        assert there[-2:] >= before[-2:], f"event {number}"
        assert checkpoint.newest(folder / "checkpoints", print) is not None
        if number % 4 == 1:  # each takes as long as half a run
            apps.run(whole.task(), folder, resume=True)
            assert not list((folder / "checkpoints").glob(".*"))
            apps.assert_same_end(folder, whole.run)
        shutil.rmtree(folder)
    assert 12 < number < MOST


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_at_every_event_of_a_save(whole, halfway, tmp_path, code):
    """One sentence that names what to do; checkpoints as before; nothing is lost."""

    def refuse():
        raise OSError(code, "refused by the disk")

    task, reached = whole.task(), 0
    for number in range(1, MOST):
        folder = tmp_path / str(number)
        shutil.copytree(halfway, folder)
        before = whole_ones(folder)
        try:
            saving(task, folder, number, refuse)
        except RunError as error:
            assert "refused by the disk" in str(error) and "--resume" in str(error)
            assert RunFolder(folder).results()["status"] == "failed"
            assert whole_ones(folder)[-2:] >= before[-2:], f"event {number}"
            reached = number
            if number % 6 == 1:
                apps.run(whole.task(), folder, resume=True)
                apps.assert_same_end(folder, whole.run)
        shutil.rmtree(folder)
        if number > reached + 2:  # a folder that is swept away may refuse without harm
            break
    assert reached > 9
