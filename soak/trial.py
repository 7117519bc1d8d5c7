"""A run under trial: an app that trains into a folder in a process of its own, and what its files and words tell."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

# What a child does: an app with its settings into a folder; a full disk is a limit on the size of its files.
TRAIN = """
import json, os, resource, signal, sys, threading, time
app, settings, folder, resume, full = json.loads(sys.argv[1])
import isoform
from isoform.core.runs.folder import RunFolder
if full:
    append = RunFolder.append_metrics
    def filling(self, line):
        append(self, line)
        if line["step"] >= full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            most = max(line_size(self.log), 3000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    line_size = lambda log: log.stat().st_size + 400
    RunFolder.append_metrics = filling
from isoform.core.errors import Preempted, RunError, UserError
try:
    isoform.train(app, settings, run_dir=folder, resume=resume)
except Preempted:
    sys.exit(75)
except RunError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""
TAKEN_UP = re.compile(r"resuming \S+ from step (\d+)|starting at step (0)")


@dataclass(frozen=True)
class App:
    """An app with the settings that make it short, in so many processes; `steps` of the undisturbed run."""

    name: str
    settings: dict[str, object]
    ranks: int = 1
    steps: int = 0

    def __str__(self) -> str:
        return self.name if self.ranks == 1 else f"{self.name} --launch {self.ranks}"

    @property
    def every(self) -> int:
        """Steps between two checkpoints."""
        return int(str(self.settings["train.checkpoint_every"]))


@dataclass(frozen=True)
class Trial:
    """An app in a folder; what its processes say is appended to a file beside it."""

    app: App
    folder: Path

    @property
    def log(self) -> Path:
        """The file of all that was said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def said(self, since: int = 0) -> str:
        """What was said behind the first `since` bytes."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[since:].decode(errors="replace")

    def start(self, *, full: int = 0) -> Child:
        """Trains or goes on; `full`: the step behind which the disk takes no more."""
        resume = RunFolder(self.folder).exists()
        if self.app.ranks == 1:
            told = json.dumps([self.app.name, self.app.settings, str(self.folder), resume, full])
            words = ["-c", TRAIN, told]
        else:
            domain, _, name = self.app.name.partition("/")
            words = ["-m", "isoform", domain, "train", name, "--run-dir", str(self.folder)]
            for key, value in self.app.settings.items():
                words += ["--set", f"{key}={json.dumps(value)}"]
            words += ["--launch", str(self.app.ranks), *(["--resume"] if resume else [])]
        since = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words], stdout=log, stderr=log, start_new_session=True
            )
        return Child(self, process, resume, since)

    @property
    def step(self) -> int:
        """The last step in metrics.jsonl."""
        lines = RunFolder(self.folder).metrics()
        return int(lines[-1]["step"]) if lines else 0

    @property
    def status(self) -> object:
        """As results.json tells it."""
        return RunFolder(self.folder).results().get("status")

    def whole(self) -> dict[int, int]:
        """The steps of whole checkpoints, in order, with their bytes."""
        found = {}
        for step in checkpoint.steps(self.folder / "checkpoints"):
            place = checkpoint.place(self.folder / "checkpoints", step)
            with suppress(checkpoint.Damaged, OSError):
                checkpoint.verify(place)
                found[step] = sum(file.stat().st_size for file in place.iterdir())
        return found

    def taken_up(self, since: int) -> int | None:
        """The step from which the run first went on behind the first `since` bytes of what it said."""
        found = TAKEN_UP.search(self.said(since))
        return None if found is None else int(found[1] or found[2])


@dataclass(frozen=True)
class Child:
    """A process that trains; `since`: the bytes that were said before it."""

    trial: Trial
    process: subprocess.Popen[bytes]
    resumes: bool
    since: int

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def reaches(self, step: int) -> bool:
        """Waits until the run is taken up and its log shows `step`; False where it ended before."""
        while self.lives:
            begun = not self.resumes or self.trial.taken_up(self.since) is not None
            if begun and self.trial.step >= step:
                return True
            time.sleep(0.02)
        return False

    def end(self) -> int:
        """Waits; its exit code."""
        return self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal to it alone."""
        self.process.send_signal(number)

    def children(self) -> Iterator[int]:
        """Its own children."""
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                parent = (place / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if int(parent) == self.process.pid:
                    yield int(place.name)
