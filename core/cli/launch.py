"""`isoform DOMAIN train ... --launch N`: N processes on this machine, each the same command under torchrun's agent.

The agent starts all of them again where one died, from the last checkpoint. It would also start a user's mistake again,
so processes that come to an end tell their exit code in a file and leave with 0; only a crash looks like one to it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from isoform.core.cli.context import Context
from isoform.core.errors import UserError

_CODES = "ISOFORM_CODES"  # the folder for exit codes, in the environment of what was launched
_RESTARTS = 3
_GRACE = 60  # seconds from SIGTERM to SIGKILL
_PATIENCE = 10.0  # seconds that a process leaves the main one to say what both have found


def launch(context: Context) -> int:
    """Runs the command in `--launch` processes; the exit code is theirs."""
    count = context.args.launch
    if count < 1:
        raise UserError(f"--launch {count}: should be at least 1")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.ERROR)
    context.console.json = False  # the main process of those that are launched prints it
    threads = max(1, (os.cpu_count() or 1) // count)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"isoform-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=_RESTARTS,
        shutdown_timeout=_GRACE,
    )
    with TemporaryDirectory() as folder:
        os.environ[_CODES] = folder
        words = ["-m", "isoform", *without_launch(context.args.words)]
        failed = False
        try:
            elastic_launch(config, sys.executable)(*words)
        except ChildFailedError:
            failed = True
        except SignalException:
            pass  # they had the signal too, and time to stop
        codes = [int(path.read_text()) for path in Path(folder).iterdir()]
    if failed or not codes:
        return 1
    return max(codes, key=lambda code: (code == 1, code == 2, code))


def without_launch(words: Sequence[str]) -> list[str]:
    """A command line without its `--launch N`."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("--launch"):
            kept.append(word)
        skip = word == "--launch"
    return kept


def told(code: int) -> int:
    """The code to exit with: what was launched tells it where it is asked to, and only a failure is one."""
    folder = os.environ.get(_CODES)
    if folder is None or "RANK" not in os.environ:
        return code
    (Path(folder) / os.environ["RANK"]).write_text(str(code))
    return code if code == 1 else 0


def main_says_it() -> bool:
    """In one that isn't the main one, at a mistake: waits until the main one has said it too; False where it doesn't.

    torchrun ends all as soon as one does, so whoever leaves first would silence the main one; and ends this one here.
    """
    folder = os.environ.get(_CODES)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        main = Path(folder) / "0" if folder else None
        if main is not None and main.exists() and (code := main.read_text()):
            return code == "2"
        time.sleep(0.05)
    return False


def is_launched() -> bool:
    """True in one of several processes of a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_follower() -> bool:
    """True in one that isn't the main one, which speaks for all."""
    return is_launched() and os.environ.get("RANK", "0") != "0"
