"""What a run in progress writes of itself and goes on from: weights, averaged weights, optimiser and its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.engine import optim
from isoform.core.engine.distributed import Process
from isoform.core.engine.sharded import Whole, first_row, is_divided, part_of
from isoform.core.engine.train_state import describe_surroundings, surroundings
from isoform.core.errors import RunError, UserError
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.folder import RunFolder


@dataclass
class Saving:
    """The checkpoints of one run: what is in them, and who writes them.

    whole        the plain copy of a model that is divided among the processes: each then writes its part
    background   the state is copied and written in a thread, and a failure raises when `check` or `save` is next called
    """

    run: RunFolder
    process: Process
    model: nn.Module
    ema: optim.Ema | None
    optimizer: torch.optim.Optimizer
    precision: str
    say: Callable[[str], None]
    whole: Whole | None = None
    background: bool = False
    _writing: threading.Thread | None = None
    _failed: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A thread's messages must not mix with those of the loop.
        self._writers = self.process.apart() if self.background else self.process

    def save(self, place: Mapping[str, Any], best_step: int | None) -> None:
        """Writes the checkpoint of place["step"]; all but the newest two and the best are removed.

        Raises RunError where the weights aren't finite or the disk refuses.
        """
        step = place["step"]
        weights = [part_of(tensor) for tensor in self.model.state_dict().values()]
        if self.process.any(not checkpoints.finite(weights)):
            raise RunError(
                f"weights are NaN or infinite after step {step}; earlier checkpoints are intact"
            )
        self.finish()
        state = {"place": place, **surroundings(self.precision)}
        write = (
            self._whole_writer(step, state)
            if self.whole is None
            else self._part_writer(step, state)
        )

        def work() -> None:
            write()
            if self.process.is_main:
                keep = [] if best_step is None else [best_step]
                checkpoints.prune(self.run.checkpoints, keep)

        if not self.background:
            return work()
        self._writing = threading.Thread(target=self._catching, args=(work,), name="checkpoint")
        self._writing.start()

    def _catching(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised by `check` in the thread that trains
            self._failed.append(error)

    def check(self) -> None:
        """Raises what a writing in the background failed with."""
        if self._failed:
            raise self._failed.pop()

    def close(self) -> None:
        """Waits until nothing is being written any more, whatever became of it."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def finish(self) -> None:
        """Waits until everything is written. Raises what that failed with."""
        self.close()
        self.check()

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        found = {
            "model": self.model.state_dict(),
            "ema": {} if self.ema is None else self.ema.model.state_dict(),
            "optimizer": optim.optimizer_tensors(self.optimizer, self.model),
        }
        return {kind: dict(tensors) for kind, tensors in found.items()}

    def _kept(self, tensor: Tensor) -> Tensor:
        """What is written later, when the tensor has moved on."""
        part = part_of(tensor).detach()
        return part.to("cpu", copy=True) if self.background else part

    def _whole_writer(self, step: int, state: dict[str, Any]) -> Callable[[], None]:
        found: dict[str, dict[str, Tensor]] = {}
        if self.process.is_main:
            for kind, tensors in self._tensors().items():
                found[kind] = {name: self._kept(tensor) for name, tensor in tensors.items()}

        def write() -> None:
            ema = found["ema"] if self.ema is not None else None
            content = checkpoints.Checkpoint(found["model"], ema, found["optimizer"], state)
            checkpoints.write(self.run.checkpoints, step, content)

        return lambda: self._writers.on_main(write)

    def _part_writer(self, step: int, state: dict[str, Any]) -> Callable[[], None]:
        folder, process = self.run.checkpoints, self._writers
        mine: dict[str, Tensor] = {}
        rows: dict[str, int] = {}
        for kind, tensors in self._tensors().items():
            for name, tensor in tensors.items():
                if is_divided(tensor) or process.is_main:
                    mine[f"{kind}/{name}"] = self._kept(tensor)
                    rows[f"{kind}/{name}"] = first_row(tensor)

        def write() -> None:
            process.on_main(lambda: checkpoints.begin(folder, step))
            with process.together():
                files = checkpoints.write_part(folder, step, process.rank, process.size, mine)
            told = process.collect((rows, files))
            hashed = {name: entry for _, one in told for name, entry in one.items()}
            process.on_main(
                lambda: checkpoints.seal_parts(folder, step, state, [r for r, _ in told], hashed)
            )

        return write

    def newest(self) -> tuple[int, checkpoints.Checkpoint] | None:
        """The newest whole checkpoint, the same for every process; see checkpoint.newest."""
        folder = self.run.checkpoints
        if self.process.size == 1:
            return checkpoints.newest(folder, self.say)

        def find() -> int | None:
            found = checkpoints.newest(folder, self.say)
            return None if found is None else found[0]

        step = self.process.on_main(find)
        return None if step is None else (step, checkpoints.read(checkpoints.place(folder, step)))

    def load(self, checkpoint: checkpoints.Checkpoint) -> dict[str, Any]:
        """Takes everything back and returns the place. Raises UserError for the checkpoint of another model."""
        try:
            self._load(self.model, checkpoint.model)
            if self.ema is not None:
                self._load(self.ema.model, checkpoint.ema or {})
            optim.load_optimizer_tensors(self.optimizer, self.model, checkpoint.optimizer)
            place: dict[str, Any] = checkpoint.state["place"]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.run.path}: the checkpoint is of another model or version: {str(error).splitlines()[0]}"
            ) from error
        for line in describe_surroundings(checkpoint.state, surroundings(self.precision)):
            self.say(line)
        return place

    def _load(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        if self.whole is None:
            model.load_state_dict(weights)
        else:
            self.whole.model.load_state_dict(weights)
            self.whole.give(model)
