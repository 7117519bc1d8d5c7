"""What a run goes on without, where it is told to: samples that can't be read, steps whose loss or gradient is NaN.

    data.bad_samples = "skip"    a training sample that can't be read is left out of its batch
    train.nonfinite = "skip"     a step that would spoil the weights isn't made

Each is named once, counted, kept in the checkpoint, and stands in results.json. Nothing of it is ever silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isoform.core.domain import Task
from isoform.core.engine.distributed import Process
from isoform.core.errors import RunError, count, join_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from isoform.core.engine.loader import BatchKey

MOST_SHARE = (
    0.5  # of the training samples; of more it is the data that are broken, not a few samples
)
MOST_IN_A_ROW = 10  # steps; of more it is the training that is broken, not a few batches
_NAMED = 64  # samples of a step


def names_of(task: Task, indices: Sequence[int]) -> str:
    """Training samples by name, the first 64 of them."""
    shown = ", ".join(task.sample_name("train", index) for index in indices[:_NAMED])
    return shown + ", ..." * (len(indices) > _NAMED)


class LeftOut:
    """The samples and steps of one run that were left out, and why."""

    def __init__(self, task: Task, say: Callable[[str], None]) -> None:
        self.task, self.say = task, say
        self.samples: dict[str, str] = {}  # number in the split -> why
        self.steps: dict[str, str] = {}  # number -> why, and whose batch it was
        self._row = 0  # steps left out without one made between them
        self._unread: dict[tuple[int, int], Mapping[int, str]] = {}  # of this process, this step

    def unread(self, key: BatchKey, why: Mapping[int, str]) -> None:
        """Samples of the batch that comes next in this process that can't be read."""
        self._unread[key.epoch, key.number] = why

    def agree(self, group: Sequence[BatchKey], process: Process) -> list[BatchKey]:
        """The batches of a step without the samples that the process which read them couldn't; some may be empty.

        The same in all processes. Raises RunError where half of the training split is left out by now.
        """
        unread: dict[tuple[int, int], Mapping[int, str]] = {}
        for found in process.exchange(self._unread):
            unread |= found
        self._unread = {}
        return [self._without(key, unread.get((key.epoch, key.number), {})) for key in group]

    def _without(self, key: BatchKey, why: Mapping[int, str]) -> BatchKey:
        if not why:
            return key
        for index, reason in why.items():
            if str(index) not in self.samples:
                name = self.task.sample_name("train", index)
                self.samples[str(index)] = reason
                self.say(f"training sample {name} is left out: {reason}")
        total = self.task.sizes()["train"]
        if len(self.samples) > MOST_SHARE * total:
            raise RunError(
                f"{len(self.samples)} of {total} training samples can't be read; the last: "
                f"{next(reversed(self.samples.values()))}: look whether the data are all there"
            )
        return replace(key, indices=[index for index in key.indices if index not in why])

    def skipped(self, step: int, what: str, indices: Sequence[int]) -> None:
        """A step that wasn't made. Raises RunError after ten in a row."""
        self._row += 1
        self.steps[str(step)] = f"{what}, training samples {names_of(self.task, indices)}"
        self.say(f"step {step} is left out: {self.steps[str(step)]}")
        if self._row >= MOST_IN_A_ROW:
            raise RunError(
                f"the last {self._row} steps, up to {step}, had no finite loss and gradient; earlier checkpoints are "
                "intact: lower train.lr, or set train.clip"
            )

    def made(self) -> None:
        """A step that was made."""
        self._row = 0

    def state(self) -> dict[str, Any]:
        """JSON that `load` takes back; empty where nothing was left out."""
        found = {"samples": self.samples, "steps": self.steps, "row": self._row}
        return {name: value for name, value in found.items() if value}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.samples, self.steps = dict(state.get("samples", {})), dict(state.get("steps", {}))
        self._row = int(state.get("row", 0))

    def to_json(self) -> dict[str, Any]:
        """For results.json: how many, by name and why; empty where nothing was left out."""
        name = self.task.sample_name
        named = {name("train", int(index)): why for index, why in self.samples.items()}
        found = {"samples": named, "steps": self.steps}
        return {k: {"count": len(getattr(self, k)), "why": v} for k, v in found.items() if v}

    def describe(self) -> list[str]:
        """Lines for a person at the end of a run."""
        lines = []
        if self.samples:
            names = [self.task.sample_name("train", int(index)) for index in self.samples]
            many = count(len(names), "training sample")
            lines.append(f"warning: trained without {many} that can't be read: {join_names(names)}")
        if self.steps:
            many = count(len(self.steps), "step")
            lines.append(
                f"warning: {many} without a finite loss and gradient left out: {join_names(self.steps)}"
            )
        return lines
