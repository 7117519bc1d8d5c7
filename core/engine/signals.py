"""The signals that stop a run: the first is noted and obeyed at the next step, the second acts at once.

But not in one of several processes: a group's signal comes to each of them and again from their launcher, which ends
by itself what doesn't stop in time.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C into `requested`; the second does what it always does."""

    def __init__(self, among_several: bool = False) -> None:
        self.requested = False
        self.among_several = among_several
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if (
            threading.current_thread() is threading.main_thread()
        ):  # Python allows handlers there only
            self._before = {
                number: signal.signal(number, self._note)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self.among_several:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
