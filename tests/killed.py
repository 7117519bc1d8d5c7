"""Processes that die by SIGKILL, and what their run's folder holds in the end: for the tests of every domain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

DIES = """
import json, os, signal, sys
import isoform
from isoform.core.runs.folder import RunFolder
append = RunFolder.append_metrics
def deadly(self, line):
    append(self, line)
    if line["step"] == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.append_metrics = deadly
app, settings, folder, step = sys.argv[1:]
isoform.train(app, json.loads(settings), run_dir=folder, progress=False)
"""


def run_and_die(app: str, settings: Mapping[str, Any], folder: Path, step: int) -> None:
    """Trains an app in a process of its own until it has logged `step`; its run is left as it was then."""
    words = [sys.executable, "-c", DIES, app, json.dumps(dict(settings)), str(folder), str(step)]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL
    assert RunFolder(folder).results()["status"] == "running"


def last(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and optimiser of the last checkpoint."""
    place = folder / "checkpoints"
    found = checkpoint.read(checkpoint.place(place, checkpoint.steps(place)[-1]))
    return found.model, found.optimizer


def in_child(work: Callable[[], Any]) -> int:
    """Runs `work` in a forked child; the signal that ended it, 0 if none."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  whatever it is, pytest must not go on in the child
            os.write(2, traceback.format_exc().encode())  # pytest holds sys.stderr
        finally:
            os._exit(3)
    return os.waitpid(child, 0)[1] & 0x7F


def die() -> None:
    """As the power does."""
    os.kill(os.getpid(), signal.SIGKILL)
