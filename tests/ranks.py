"""Several processes of one run, as a launcher starts them: forks of the test's own, which need no import again."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable

LOCAL = "127.0.0.1"


def fork_ranks(count: int, work: Callable[[], None], **environment: str) -> list[int]:
    """Forks `count` ranks that each do `work`; returns their process ids."""
    with socket.socket() as found:  # a port that is free now; rank 0 opens it again
        found.bind((LOCAL, 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": LOCAL,
            "MASTER_PORT": str(port),
            "ISOFORM_TIMEOUT": "60",
            **environment,
        }
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001  whatever it is, pytest must not go on in the child
            os.write(2, traceback.format_exc().encode())  # pytest holds sys.stderr
        finally:
            os._exit(code)
    return children


def end_of(children: list[int], seconds: float = 600.0) -> list[int]:
    """The exit codes, minus the signal where one ended a child; what still runs after so long is killed."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(children):
        for child in children:
            if child in codes:
                continue
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[child] for child in children]


def in_ranks(count: int, work: Callable[[], None], **environment: str) -> list[int]:
    """Does `work` in so many ranks and returns their exit codes."""
    return end_of(fork_ranks(count, work, **environment))
