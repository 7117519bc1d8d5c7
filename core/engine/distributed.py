"""Where this process stands among the processes of a run, and what they tell each other.

One process a device, started by torchrun or anything else that sets its environment (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT). What lies in memory goes over gloo, what lies on GPUs over NCCL.

The unit that is shared out is the micro-batch. An optimiser step works on `train.accumulate` of them, each a pure
function of its place in the run (its samples, their augmentation, its dropout), and they are dealt to the processes
like cards. So the numbers of a run don't depend on how many processes there are, but for the rounding of sums; and one
process alone asks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from isoform.core.config.schema import AppConfig
from isoform.core.errors import Preempted, RunError, UserError

T = TypeVar("T")
TIMEOUT = 1800.0  # seconds that a process waits for the others, where ISOFORM_TIMEOUT doesn't say
_BUCKET = 25 * 2**20  # bytes that are summed at a time


@dataclass(frozen=True)
class Process:
    """One of `size` processes; `rank` counts from 0. What several do together, all of them must call."""

    rank: int
    size: int
    device: torch.device
    group: Any = None  # over which they talk; the one that all have joined if None

    @property
    def is_main(self) -> bool:
        """True for the one process that writes the run folder."""
        return self.rank == 0

    def aloud(self, say: T) -> T | Callable[[str], None]:
        """`say` in the main process, which speaks for all; elsewhere nothing is said."""
        return say if self.is_main else _silent

    def apart(self) -> Process:
        """The same, talking to the same where nobody else listens: for another thread."""
        if self.size == 1:
            return self
        return replace(self, group=dist.new_group(backend="gloo", timeout=_patience()))

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those of the items that this process works on."""
        return items[self.rank :: self.size]

    def barrier(self) -> None:
        """Waits until every process is here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        return bool(self.largest(torch.tensor([flag], dtype=torch.uint8))[0])

    def largest(self, values: Tensor) -> Tensor:
        """The elementwise maximum over the processes of a tensor in memory, in place."""
        if self.size > 1:
            with _losing_nobody():
                dist.all_reduce(values, dist.ReduceOp.MAX, self.group)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes of a tensor, in place."""
        return self.sum_each([values])[0]

    def sum_each(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sum over the processes of each tensor, in place; small ones travel together."""
        if self.size == 1:
            return tensors
        travelling = []
        with _losing_nobody(), torch.no_grad():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                travelling.append(
                    (bucket, flat, dist.all_reduce(flat, group=self.group, async_op=True))
                )
            for bucket, flat, arrival in travelling:
                arrival.wait()
                parts = flat.split([tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))
        return tensors

    def collect(self, value: T) -> list[T]:
        """The values of all processes by rank, in the main one; elsewhere nothing."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.is_main else None
        with _losing_nobody():
            dist.gather_object(value, found, group=self.group)
        return found or []

    def exchange(self, value: T) -> list[T]:
        """The values of all processes by rank, in each of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _losing_nobody():
            dist.all_gather_object(found, value, group=self.group)
        return found

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done by the main process alone: the others return and raise the same."""
        if self.size == 1:
            return work()
        told: list[Any] = [None, None]
        caught: Exception | None = None
        if self.is_main:
            try:
                told[0] = work()
            except Exception as error:  # noqa: BLE001 - raised below, when the others know of it
                caught, told[1] = error, _portable(error)
        with _losing_nobody():
            dist.broadcast_object_list(told, group=self.group)
        if caught is not None:
            raise caught
        if told[1] is not None:
            raise told[1]
        return told[0]

    @contextmanager
    def holding(self, lock: AbstractContextManager[None]) -> Iterator[None]:
        """Inside a lock that the main process takes for all."""
        with ExitStack() as stack:
            self.on_main(lambda: stack.enter_context(lock))
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work that may fail in one process: all raise then, the others what the first of those that failed does."""
        if self.size == 1:
            yield
            return
        caught: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, when the others know of it
            caught = error
        failed = self.largest(torch.tensor([self.size - self.rank if caught else 0]))[0]
        if failed:
            told = [_portable(caught) if caught else None]
            with _losing_nobody():
                dist.broadcast_object_list(told, self.size - int(failed), self.group)
            raise caught or told[0] or RuntimeError


def _silent(line: str) -> None:
    pass


ALONE = Process(0, 1, torch.device("cpu"))


def this_process() -> Process:
    """This process, on its GPU where there are any.

    Raises UserError in one of several processes that haven't joined: only training knows what to do with them.
    """
    if dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size(), _device())
    if size := _launched():
        raise UserError(
            f"WORLD_SIZE is {size}, and only `train` works in several processes; start this without a launcher"
        )
    return Process(0, 1, _device())


@contextmanager
def joined() -> Iterator[Process]:
    """This process as one of a run's, connected with the others until the end; where it is already, nothing is done.

    Each waits ISOFORM_TIMEOUT seconds for the others before it gives up, half an hour by default. Raises UserError
    where the launcher's environment is incomplete, RunError where the others don't come.
    """
    if dist.is_initialized() or not _launched():
        yield this_process()
        return
    wait, device = _patience(), _device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        found, rank, size = next(dist.rendezvous("env://", timeout=wait))
        # The agent's store outlives a restart, and with it the addresses of processes that are gone.
        attempt = dist.PrefixStore(f"attempt-{_restarts()}", found)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=attempt,
            rank=rank,
            world_size=size,
            timeout=wait,
        )
    except ValueError as error:
        raise UserError(f"the launcher's environment is incomplete: {error}") from error
    except RuntimeError as error:
        raise RunError(
            f"the run's other processes weren't there within {wait.total_seconds():g} s: {_first(error)}"
        ) from error
    try:
        yield this_process()
    finally:
        dist.destroy_process_group()


def _patience() -> timedelta:
    return timedelta(seconds=float(os.environ.get("ISOFORM_TIMEOUT", TIMEOUT)))


def restarted() -> bool:
    """True where a launcher started these processes again after one of them had died."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def deal_out(config: AppConfig, processes: int) -> tuple[AppConfig, str]:
    """`config` with a micro-batch a step for each process, of the same global batch; and a line on what was changed.

    Unchanged where there are enough of them. Raises UserError where the global batch can't be divided so.
    """
    batch, parts = config.train.batch, config.train.accumulate
    if parts >= processes:
        return config, ""
    whole = batch * parts
    if whole % processes:
        raise UserError(
            f"a step's {whole} samples (train.batch x train.accumulate) can't be divided among {processes} processes; "
            f"take as many as divide it, or set train.batch"
        )
    shared = config.train.model_copy(
        update={"batch": whole // processes, "accumulate": processes},
    )
    note = f"{processes} processes: a step's {whole} samples are {processes} micro-batches of {whole // processes}"
    return config.model_copy(update={"train": shared}), note


def _launched() -> int:
    """The number of processes that a launcher started, 0 where it is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return size if size > 1 else 0


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if _launched() else _GPU


_GPU = torch.device("cuda")


@contextmanager
def _losing_nobody() -> Iterator[None]:
    """Says in a sentence that another process is gone or hangs."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            f"another process of this run ended or gave no answer ({_first(error)}); earlier checkpoints are intact: "
            "go on with --resume"
        ) from error


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _portable(error: Exception) -> Exception:
    """What other processes can be told of an error: a sentence for a person as it is, of anything else its text."""
    if type(error) in (UserError, RunError, Preempted):
        return error
    return RunError(f"another process of this run failed: {type(error).__name__}: {error}")


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
