"""What a person sees of a run: a progress bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from isoform.core.report.formatting import clock

_REDRAWS, _LINES = 0.2, 10.0  # seconds between drawings of the bar, and between lines in a pipe


def short(metrics: Mapping[str, float], most: int = 4) -> str:
    """The first few metrics on one line."""
    return "  ".join(
        f"{name} {value:.4g}" for name, value in list(metrics.items())[:most] if value is not None
    )


class Display:
    """Shows one run; use as a context manager. `enabled` off leaves only what `say` prints."""

    def __init__(self, enabled: bool = True, say: Callable[[str], None] | None = None) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.enabled, self._say = enabled, say
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if enabled and self.console.is_terminal:
            # No refresh thread: loader workers are forked from this process, and a fork may catch a thread's locks.
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed}/{task.total}  {task.fields[note]}"),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
        self.validation = ""
        self._total = self._since = 0
        self._start = self._drawn = time.monotonic()

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        """One line that is shown in every case."""
        if self._say is not None and self.bar is None:
            return self._say(text)
        (self.bar.console if self.bar is not None else self.console).print(text, markup=False)

    def progress(self, text: str) -> None:
        """One line on how far the run is, unless progress is switched off."""
        if self.enabled:
            self.say(text)

    def now(self, text: str) -> None:
        """What is being done: beside the bar at most five times a second, in a pipe every ten seconds."""
        moment = time.monotonic()
        if moment - self._drawn < (_LINES if self.bar is None else _REDRAWS):
            return
        self._drawn = moment
        if self.bar is None or self.task is None:
            self.progress(text)
        else:
            self.bar.update(self.task, description=text, note="")
            self.bar.refresh()

    def begin(self, total: int, done: int) -> None:
        """The training loop starts at step `done` of about `total`."""
        self._total, self._since, self._start = total, done, time.monotonic()
        if self.bar is not None:
            self.task = self.bar.add_task("training", total=total, completed=done, note="")

    def step(self, step: int, epoch: int, epochs: int) -> None:
        """One optimiser step was made; redraws the bar at most five times a second."""
        if self.bar is None or self.task is None:
            return
        now = time.monotonic()
        if now - self._drawn > _REDRAWS:
            self._drawn = now
            self.bar.update(self.task, completed=step, description=f"epoch {epoch}/{epochs}")
            self.bar.refresh()

    def trained(
        self, step: int, epoch: int, epochs: int, means: Mapping[str, float], rate: float
    ) -> None:
        """A line of training metrics was logged; `rate` in samples a second."""
        if not self.enabled:
            return
        made = step - self._since
        left = (time.monotonic() - self._start) / made * (self._total - step) if made else 0.0
        loss = f"loss {means['loss']:.4g}  " if "loss" in means else ""  # no step was made
        note = f"{loss}{rate:.0f} samples/s  {self.validation}ETA {clock(left)}"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, note=note)
        else:
            self.say(f"epoch {epoch}/{epochs}  step {step}/{self._total}  {note}")

    def evaluated(
        self, epoch: int, epochs: int, metrics: Mapping[str, float], monitor: str, best: bool
    ) -> None:
        """A validation was made."""
        self.validation = f"val {monitor} {metrics[monitor]:.4g}  "
        if self.enabled:
            shown = {monitor: metrics[monitor], **metrics}
            self.say(
                f"epoch {epoch}/{epochs}  val  {short(shown)}{'  (best so far)' if best else ''}"
            )
