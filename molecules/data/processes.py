"""RDKit in processes of its own: it is C++, and a text that crashes it must cost that text alone.

A worker is a module run by `python -m`, not a fork: a process that has started threads (torch's, a
progress bar's) forks into deadlocks, and starting one anew through multiprocessing would run a user's script again.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Generic, NamedTuple, Self, TypeVar

from isoform.core.errors import RunError

SECONDS = 20.0  # for one text; a thousand times what the largest molecules take
SECONDS_EACH = 0.05  # more for every text of a chunk

limited = threading.Event()  # set in a worker, which another process ends in time

Result = TypeVar("Result")


class Failure(NamedTuple):
    """What happened to a worker."""

    why: str


class Processes(Generic[Result]):
    """Worker processes, used with `with`: they end with it. A worker that dies or hangs is replaced by another.

    module    run by `python -m`: it lives as `live` does, and answers lists of texts
    options   pickled plain values, the worker's first message
    failed    what stands for one text that crashes or hangs a worker, by the reason
    join      the results of consecutive single texts as one
    command   what starts a worker instead of `module`
    """

    def __init__(
        self,
        workers: int,
        module: str,
        options: object,
        failed: Callable[[str], Result],
        join: Callable[[Sequence[Result]], Result],
        *,
        seconds: float = SECONDS,
        command: Sequence[str] | None = None,
    ) -> None:
        self.options, self.failed, self.join, self.seconds = options, failed, join, seconds
        self.command = command or (sys.executable, "-m", module)
        self._own = threading.local()  # each thread talks to one worker
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._alive):
            self._end(process)
        self._threads.shutdown()

    def map(self, chunks: Sequence[Sequence[object]]) -> Iterator[Result]:
        """What a worker answers to every chunk, in their order."""
        return self._threads.map(self._chunk, chunks)

    def _chunk(self, texts: Sequence[object]) -> Result:
        found = self._ask(texts)
        if not isinstance(found, Failure):
            return found
        if len(texts) == 1:
            return self.failed(found.why)
        # One of them did it: each by itself. So little else goes wrong that the time this takes does not matter.
        return self.join([self._chunk([text]) for text in texts])

    def _ask(self, texts: Sequence[object]) -> Result | Failure:
        """A worker's answer, or what happened to the worker instead."""
        process = self._worker()
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        seconds = self.seconds + SECONDS_EACH * (len(texts) - 1)
        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            pickle.dump(list(texts), process.stdin)
            process.stdin.flush()
            found: Result = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._end(process)
            return Failure(
                f"takes RDKit more than {seconds:g} s" if late.is_set() else "crashes RDKit"
            )
        finally:
            timer.cancel()
        return found

    def _worker(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            if self._closed:  # the worker was ended on purpose: what its last chunk holds is nobody's concern any more
                raise RuntimeError("the worker processes have been ended")
            paths = os.pathsep.join(
                path for path in sys.path if path
            )  # so that it finds what this process found
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
            )
            self._alive.add(process)
            try:
                assert process.stdin is not None and process.stdout is not None
                pickle.dump(self.options, process.stdin)
                process.stdin.flush()
                pickle.load(process.stdout)  # it is ready: a worker that fails now fails on a text
            except (OSError, EOFError, pickle.UnpicklingError):
                self._end(process)
                raise RunError(
                    f"a process for featurising can't start: {' '.join(self.command[:3])[:200]}"
                ) from None
            self._own.process = process
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        for stream in (process.stdin, process.stdout):
            try:
                assert stream is not None
                stream.close()
            except OSError:
                pass  # what was left to write finds no reader
        process.wait()
        self._alive.discard(process)


def answer(
    requests: BinaryIO, replies: BinaryIO, work: Callable[[list[object], Any], object]
) -> None:
    """Options, answered by True, then lists of texts, each answered by work(texts, options)."""
    options = pickle.load(requests)
    pickle.dump(True, replies)
    replies.flush()
    while True:
        try:
            texts = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(work(texts, options), replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


def live(serve: Callable[[BinaryIO, BinaryIO], None]) -> None:
    """What a worker's module does when it is run."""
    limited.set()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of a terminal; the first one ends us
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C++ code prints must not mix with the answers
    serve(sys.stdin.buffer, answers)
