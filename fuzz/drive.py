"""Runs a target's mutations in child processes that may crash, hang or want all memory, and says what was found.

The child limits itself, so that nothing has to be watched: a timer of the processor ends it inside any library after
5 seconds on one file, RLIMIT_AS stops what asks for gigabytes. It tells what it is about to read through a shared
page; what is there when it dies is the finding, and a new child goes on behind it.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.mutate import Change, mutate
from fuzz.targets import TARGETS, Target

HANG = 5.0  # seconds of the processor on one file
WAIT = 60.0  # seconds on the wall, for what waits instead of working
RISE = 500 << 20  # bytes of memory on one file
ADDRESSES = 3 << 30  # bytes of address space beyond what the child has when it starts
CORPUS = Path(__file__).parent / "corpus"


@dataclass
class Outcome:
    """What became of a target's mutations; a finding is known by what happened and where."""

    target: str
    done: int = 0
    read: int = 0  # of them, files that the reader took
    changes: int = 0
    past_changes: int = 0  # of them past the header
    touched: int = 0  # bytes
    past: int = 0  # of them past the header
    findings: dict[str, list[int]] = field(default_factory=dict)  # what happened -> its mutations
    seconds: float = 0.0
    rise: int = 0  # bytes, the most of one file

    def found(self, number: int, what: str) -> None:
        """One finding."""
        self.findings.setdefault(what, []).append(number)

    def line(self) -> str:
        """For a table."""
        taken, changes, size = (
            self.read / max(1, self.done),
            max(1, self.changes),
            max(1, self.touched),
        )
        return (
            f"{self.target:20} {self.done:8,} mutations {taken:5.0%} read   past the header "
            f"{self.past_changes / changes:4.0%} of changes {self.past / size:4.0%} of bytes   {self.rise >> 20:4} MB "
            f"{self.seconds:6.0f} s   {len(self.findings)} findings"
        )


def seed_files(target: Target) -> list[bytes]:
    """Its valid files."""
    with tempfile.TemporaryDirectory() as made:
        return list(target.seeds(Path(made)))


def mutation(
    target: Target, files: Sequence[bytes], seed: int, number: int
) -> tuple[bytes, Change]:
    """The `number`-th changed file of a seed."""
    rng = random.Random(f"{target.name} {seed} {number}")
    return mutate(rng, rng.choice(files), target.form, target.header, files)


def fuzz(
    name: str, mutations: int, *, seed: int = 0, minutes: float = 20.0, most_deaths: int = 20
) -> Outcome:
    """Reads `mutations` changed files, or as many as fit into `minutes`."""
    target, outcome = TARGETS[name], Outcome(name)
    files = _in_child(lambda: seed_files(target))
    with (
        tempfile.TemporaryDirectory() as made
    ):  # the reader's libraries are loaded once, in front of every fork
        path = Path(made) / "in" / f"one{target.suffix}"
        path.parent.mkdir()
        path.write_bytes(files[0])
        target.read(path)
    start = time.monotonic()
    number = deaths = 0
    while number < mutations and deaths < most_deaths:
        left = minutes * 60 - (time.monotonic() - start)
        if left <= 0:
            break
        number = _stretch(target, files, seed, number, mutations, left, outcome)
        deaths += 1
    outcome.seconds = time.monotonic() - start
    return outcome


def read_one(target: Target, content: bytes) -> str | None:
    """What is wrong with how the target reads these bytes, in a child of its own; None where nothing is."""
    outcome = Outcome(target.name)
    _stretch(target, [content], 0, 0, 1, 600.0, outcome, changed=False)
    return next(iter(outcome.findings), None)


def _in_child(make: Any) -> list[bytes]:
    """Files that a library of threads wrote in a process of its own, so that this one can fork."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, "wb") as out:
                out.write(json.dumps([one.hex() for one in make()]).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  a forked child never returns
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return [bytes.fromhex(one) for one in json.loads(told)]


def _stretch(
    target: Target, files: Sequence[bytes], seed: int, first: int, last: int, seconds: float, outcome: Outcome,
    *, changed: bool = True,
) -> int:  # fmt: skip
    """Mutations from `first` in one child, until it dies or is done; the number to go on with."""
    page = mmap.mmap(-1, 4096)
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as made:
        inner = Path(made) / "in"
        inner.mkdir()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                _work(
                    target, files, seed, range(first, last), seconds, page, writing, inner, changed
                )
                code = 0
            except BaseException:  # noqa: BLE001  a forked child never returns
                _tell(writing, {"failed": traceback.format_exc()})
            os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as stream:
            for line in stream:
                told = json.loads(line)
                if "failed" in told:
                    raise RuntimeError(f"{target.name}: {told['failed']}")
                _add(outcome, told)
        status = os.waitpid(child, 0)[1]
    at = int.from_bytes(page[:8], "little")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        named = {
            signal.SIGPROF: f"hangs: {HANG:g} s of the processor",
            signal.SIGALRM: f"hangs: {WAIT:g} s of waiting",
        }.get(number, f"crashes: {signal.Signals(number).name}")
        outcome.found(at, named)
        outcome.done += 1
        return at + 1
    if os.WEXITSTATUS(status):
        raise RuntimeError(f"{target.name}: the child failed before mutation {at}")
    return last


def _add(outcome: Outcome, told: dict[str, Any]) -> None:
    if "finding" in told:
        outcome.found(told["number"], told["finding"])
        return
    for name in ("done", "read", "changes", "past_changes", "touched", "past"):
        setattr(outcome, name, getattr(outcome, name) + told[name])
    outcome.rise = max(outcome.rise, told["rise"])


def _work(
    target: Target, files: Sequence[bytes], seed: int, numbers: range, seconds: float, page: mmap.mmap, pipe: int,
    folder: Path, changed: bool,
) -> None:  # fmt: skip
    """The child: reads the valid files once, limits itself, then reads one changed file after the other."""
    from isoform.core.errors import UserError

    faulthandler.disable()  # a crash is told by the parent, and at once
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.setrecursionlimit(1000)  # as it is outside of pytest
    path = folder / f"one{target.suffix}"
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    for content in files if changed else ():
        path.write_bytes(content)
        target.read(path)
    own = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (own + ADDRESSES, own + ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told = _nothing()
    end = time.monotonic() + seconds
    for number in numbers:
        page[:8] = number.to_bytes(8, "little")
        content, change = mutation(target, files, seed, number) if changed else (files[0], Change())
        for left in folder.iterdir():
            left.unlink() if left.is_file() else shutil.rmtree(left)
        path.write_bytes(content)
        wrong = ""
        before = _reset_peak()
        signal.setitimer(signal.ITIMER_PROF, HANG)
        signal.setitimer(signal.ITIMER_REAL, WAIT)
        try:
            target.read(path)
            told["read"] += 1
        except UserError as error:
            if _out_of_memory(error):
                wrong = "asks for gigabytes: only the limit stopped it"
            elif not 0 < len(str(error)) < 20_000:
                wrong = f"a sentence of {len(str(error))} characters"
        except BaseException as error:  # noqa: BLE001  whatever it is, it is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {str(error)[:150]}"
            wrong = f"{words} ({Path(last.filename).name}:{last.lineno})"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        rise = _memory("VmHWM") - before
        if rise > RISE and not wrong:
            wrong = f"takes {rise >> 20} MB"
        told["done"] += 1
        told["rise"] = max(told["rise"], rise)
        told["touched"] += change.touched
        told["past"] += change.past
        told["changes"] += len(change.kinds)
        told["past_changes"] += change.past_kinds
        if wrong:
            _tell(pipe, {"number": number, "finding": wrong})
        if told["done"] >= 50:
            _tell(pipe, told)
            told = _nothing()
        if time.monotonic() > end:
            break
    _tell(pipe, told)


def _nothing() -> dict[str, Any]:
    names = ("done", "read", "changes", "past_changes", "touched", "past", "rise")
    return dict.fromkeys(names, 0)


def _tell(pipe: int, told: dict[str, Any]) -> None:
    os.write(pipe, (json.dumps(told) + "\n").encode())


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _memory(name: str) -> int:
    """Bytes, from /proc."""
    with open("/proc/self/status") as stream:
        line = next(line for line in stream if line.startswith(name))
    return int(line.split()[1]) << 10


def _reset_peak() -> int:
    """Makes the peak of memory start anew; what is resident now."""
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")
    return _memory("VmRSS")


def keep(target: Target, content: bytes) -> Path:
    """Stores a file that found something, where the tests read it from now on."""
    import hashlib

    place = CORPUS / target.name
    place.mkdir(parents=True, exist_ok=True)
    path = place / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return path
