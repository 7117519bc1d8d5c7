"""The faults: each does its harm to a training that runs as a process of its own, or to the files it left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from isoform.core.runs.folder import RunFolder
from soak.trial import Child, Trial

GRACE = 10.0  # seconds from SIGTERM to the end, with a checkpoint
DAMAGES = ("truncated", "bit flipped")


@dataclass
class Struck:
    """What a fault did to a run, and how the run went on.

    happened   it met the run before its end
    kept       what is promised at once was kept: exit code, sentence, checkpoints left as they were
    begun      there was a run to go on with when it was over
    place      the newest whole checkpoint then, 0 without one
    words      bytes that had been said then: what is said later tells from where the run was taken up
    lost       bytes of checkpoints that were whole, newer than the newest that still is
    most       steps that may have to be trained again at most, where that is promised
    seconds    until the process was gone, where it was told to stop
    again      steps behind that checkpoint, which were trained again
    survived   and the run went on from that checkpoint
    """

    kind: str
    happened: bool = False
    kept: bool = True
    begun: bool = True
    place: int = 0
    words: int = 0
    lost: int = 0
    most: int | None = None
    seconds: float = 0.0
    again: int = 0
    survived: bool = False

    def note(self, trial: Trial, before: dict[int, int]) -> None:
        """How things stand now that it is over; `before`: the whole checkpoints when it began."""
        whole = trial.whole()
        self.begun = RunFolder(trial.folder).exists()
        self.place, logged = max(whole, default=0), trial.step
        self.again = max(0, logged - self.place)
        self.words = trial.log.stat().st_size
        self.lost = sum(size for step, size in before.items() if step > self.place)

    def judge(self, trial: Trial) -> None:
        """Once the run has ended: whether it went on from the newest whole checkpoint, no older than promised."""
        recent = self.most is None or self.again <= self.most
        went_on = not self.begun or trial.taken_up(self.words) == self.place
        named = self.kind not in DAMAGES or " is damaged (" in trial.said(self.words)
        self.survived = self.kept and recent and went_on and named


def _later(trial: Trial, rng: random.Random, before_end: int = 0) -> int:
    """A step between the last one in the log and the end."""
    last = max(1, trial.app.steps - before_end)
    return rng.randint(min(trial.step, last), last)


def kill(trial: Trial, rng: random.Random) -> Struck:
    """SIGKILL at a random moment behind a random step, or while the run is being taken up."""
    struck, before = Struck("kill -9", most=trial.app.every), trial.whole()
    child = trial.start()
    early = rng.random() < 0.1
    if early or child.reaches(_later(trial, rng)):
        time.sleep(rng.random() * (5.0 if early else 0.3))
        struck.happened = _kill(child, rng.random() < 0.5) and trial.status != "finished"
    child.end()
    struck.note(trial, before)
    return struck


def _kill(child: Child, alone: bool) -> bool:
    """Kills it, with its loader processes or alone; whether it still lived."""
    if not child.lives:
        return False
    with suppress(ProcessLookupError):
        (os.kill if alone else os.killpg)(child.process.pid, signal.SIGKILL)
    return child.end() == -signal.SIGKILL


def stop(trial: Trial, rng: random.Random) -> Struck:
    """SIGTERM: a checkpoint of the last step, `preempted` and exit 75 within 10 seconds."""
    struck, before = Struck("SIGTERM", most=0), trial.whole()
    child = trial.start()
    if child.reaches(_later(trial, rng, before_end=2)):
        began = time.monotonic()
        child.send(signal.SIGTERM)
        code = child.end()
        struck.seconds = time.monotonic() - began
        struck.happened = code != 0
        struck.kept = code == 75 and trial.status == "preempted" and struck.seconds < GRACE
    child.end()
    struck.note(trial, before)
    return struck


def fill(trial: Trial, rng: random.Random) -> Struck:
    """A disk that takes no more: one sentence, exit 1, and the checkpoints as they were."""
    struck, before = Struck("disk full", most=trial.app.every), trial.whole()
    child = trial.start(full=max(trial.step + 1, _later(trial, rng)))
    code = child.end()
    said = trial.said(child.since)
    struck.happened = code != 0
    struck.kept = code == 1 and "make room" in said and "Traceback" not in said
    struck.note(trial, before)
    return struck


def damage(flip: bool) -> Callable[[Trial, random.Random], Struck]:
    """A file of the newest checkpoint truncated, or one bit of it flipped: named, and the one before serves."""

    def strike(trial: Trial, rng: random.Random) -> Struck:
        struck = Struck("bit flipped" if flip else "truncated")
        if len(trial.whole()) < 2:
            child = trial.start()
            child.reaches(min(trial.step + 2 * trial.app.every + 1, trial.app.steps - 1))
            _kill(child, alone=False)
            child.end()
        before = trial.whole()
        if len(before) < 2 or trial.status == "finished":
            return struck
        newest = trial.folder / "checkpoints" / f"step-{max(before):07d}"
        file = rng.choice(sorted(newest.iterdir()))
        content = bytearray(file.read_bytes())
        if flip:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            content = content[: rng.randrange(len(content))]
        file.write_bytes(bytes(content))
        struck.note(trial, before)
        # A flipped bit of the manifest may be a blank's, which changes nothing that it says.
        struck.happened = struck.place < max(before)
        return struck

    return strike


def kill_worker(trial: Trial, rng: random.Random) -> Struck:
    """A loader process killed, as for want of memory: one sentence, exit 1."""
    struck, before = Struck("dead loader worker", most=trial.app.every), trial.whole()
    child = trial.start()
    killed = False
    if child.reaches(_later(trial, rng)):
        with suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice(list(child.children())), signal.SIGKILL)
            killed = True
    code = child.end()
    struck.happened = killed and code != 0
    struck.kept = code == 1 and "a loader process died" in trial.said(child.since)
    struck.note(trial, before)
    return struck


def kill_rank(trial: Trial, rng: random.Random) -> Struck:
    """One of several processes killed: the launcher starts all again, and they train to the end."""
    struck, before = Struck("dead rank", most=trial.app.every), trial.whole()
    child = trial.start()
    if child.reaches(_later(trial, rng, before_end=1)):
        first = set(child.children())
        with suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice(sorted(first)), signal.SIGKILL)
        while child.lives and not (set(child.children()) and first.isdisjoint(child.children())):
            time.sleep(0.02)
        struck.happened = child.lives  # else the others had come to the end already
        struck.note(trial, before)
    struck.kept = child.end() == 0
    return struck


FAULTS: dict[str, Callable[[Trial, random.Random], Struck]] = {
    "kill -9": kill,
    "SIGTERM": stop,
    "disk full": fill,
    "truncated": damage(flip=False),
    "bit flipped": damage(flip=True),
    "dead loader worker": kill_worker,
    "dead rank": kill_rank,
}
