"""The gradient of one optimiser step: the mean loss over all samples of its micro-batches, whoever worked on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isoform.core.domain import Batch, Task
from isoform.core.engine import loader, precision
from isoform.core.engine.determinism import seed_forward
from isoform.core.engine.distributed import Process
from isoform.core.engine.evaluate import to_device
from isoform.core.engine.left_out import LeftOut
from isoform.core.engine.running_statistics import RunningStatistics
from isoform.core.engine.sam import Sam
from isoform.core.engine.sharded import is_divided, total_norm

Measured = list[tuple[Mapping[str, Tensor], float]]  # scalars, and for how many samples they stand


@dataclass(frozen=True)
class Card:
    """A micro-batch as it is dealt to a process: its number within the step, and its share of the step's samples."""

    micro: int
    key: loader.BatchKey
    share: float


def deal(group: Sequence[loader.BatchKey], process: Process, even: bool) -> list[Card]:
    """The micro-batches of a step that this process works on.

    `even`: as many for each, because the processes work on each layer together; one that would be idle then works on
    the first again, and its share is 0.
    """
    total = max(sum(len(key.indices) for key in group), 1)
    cards = [Card(k, key, len(key.indices) / total) for k, key in enumerate(group)]
    mine = list(process.share(cards))
    if even and len(mine) < -(-len(group) // process.size):
        mine.append(Card(0, group[0], 0.0))
    return mine


def take(
    group: Sequence[loader.BatchKey],
    batches: Iterator[Batch],
    process: Process,
    even: bool,
    left_out: LeftOut | None,
) -> tuple[Sequence[loader.BatchKey], Iterable[tuple[Card, Batch]]]:
    """All micro-batches of a step, and those that this process works on, which are read as they are asked for.

    With `left_out` they are read at once, and what remains is what could be read: of a sample that one process can't
    read all know before they weigh their micro-batches, and an empty one is nobody's work.
    """
    cards = deal(group, process, even)
    if left_out is None:
        return group, ((card, to_device(next(batches), process.device)) for card in cards)
    with process.together():
        read = [next(batches) for _ in cards]
    group = left_out.agree(group, process)
    dealt = zip(deal(group, process, even), read, strict=True)
    there = [(card, to_device(batch, process.device)) for card, batch in dealt if card.key.indices]
    return group, there


class Gradient:
    """Computes the gradients of `parameters`, the same in every process."""

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        parameters: Sequence[Tensor],
        process: Process,
        precision_name: str,
        sam: Sam | None = None,
    ) -> None:
        self.task, self.model, self.process = task, model, process
        self.parameters, self.precision, self.sam = parameters, precision_name, sam
        self.statistics = RunningStatistics(model, process)

    def compute(
        self, micros: int, work: Iterable[tuple[Card, Batch]], step: int
    ) -> tuple[Tensor, Tensor, Measured]:
        """Fills in the gradient of the mean loss over `micros` micro-batches, of which `work` is done here.

        Returns that loss, the gradient's norm and what was measured here; where one process fails all raise. With `sam`
        the gradient is taken where the loss is high nearby, and "sharpness" is how much higher.
        """
        record: Measured = []
        alike: dict[str, Tensor] = {}
        if self.sam is None:
            loss = self._add(micros, work, step, record)
        else:
            with self.process.together():
                work = list(work)
            loss = self._add(micros, work, step, record)
            self.sam.climb()
            # The same samples and dropout, from up there.
            alike["sharpness"] = self._add(micros, work, step, []) - loss
            self.sam.back()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = alike["grad_norm"] = total_norm(gradients, self.process)
        if self.process.is_main:  # what is the same in all counts once
            record.append((alike, 1))
        return loss, norm, record

    def _add(
        self,
        micros: int,
        work: Iterable[tuple[Card, Batch]],
        step: int,
        record: Measured,
    ) -> Tensor:
        with self.process.together():
            summed = self._backward(work, step, record)
        self.statistics.merge(micros)
        return self._sum(summed)

    def _backward(
        self, work: Iterable[tuple[Card, Batch]], step: int, record: Measured
    ) -> Tensor | None:
        summed: Tensor | None = None
        for card, batch in work:
            seed = loader.forward_seed(self.task.config.train.seed, step, card.micro)
            seed_forward(seed, self.process.device)
            measured: dict[str, Tensor] = {}
            with self.statistics.set_apart(card.micro, card.share > 0):
                passes = self.task.passes(self.model, batch)
                while (losses := self._next(passes)) is not None:
                    loss = losses["loss"]
                    part = loss if card.share == 1 else loss * card.share
                    part.backward()
                    summed = part.detach() if summed is None else summed + part.detach()
                    measured = {
                        name: measured.get(name, 0) + value.detach()
                        for name, value in losses.items()
                    }
            if card.share:
                record.append((measured, len(card.key.indices)))
        return summed

    def _next(self, passes: Iterator[Mapping[str, Tensor]]) -> Mapping[str, Tensor] | None:
        with precision.autocast(self.precision, self.process.device):
            return next(passes, None)

    def _sum(self, summed: Tensor | None) -> Tensor:
        """The loss and the gradients of all processes together; a parameter without one in all of them has none."""
        if summed is None:
            summed = torch.zeros((), device=self.process.device)
        if self.process.size == 1:
            return summed
        have = [p.grad is not None for p in self.parameters]
        have = self.process.largest(torch.tensor(have, dtype=torch.uint8)).tolist()
        gradients = []
        for parameter, wanted in zip(self.parameters, have, strict=True):
            if wanted and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None and not is_divided(parameter):
                gradients.append(parameter.grad)
        summed = summed.float()
        self.process.sum_each([*gradients, summed])
        return summed
