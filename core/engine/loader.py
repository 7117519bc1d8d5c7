"""Batches in a fixed order: what is read depends on (seed, epoch, index), never on who reads it or when.

Because nothing random is carried from one batch to the next, 0, 1 and 2 workers give bitwise equal batches, and a run
resumes from the number of the batch alone.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from isoform.core.domain import Batch, Task
from isoform.core.errors import UserError

# The independent random streams of a run, the last number of every seed below.
ORDER, AUGMENT, MIX, FORWARD = range(4)
_PR_SET_PDEATHSIG = 1


def generator(seed: int, epoch: int, index: int, stream: int) -> np.random.Generator:
    """The random numbers of one sample (or batch, or epoch): a pure function of its place in the run."""
    return np.random.default_rng([seed, epoch, index, stream])


def forward_seed(seed: int, step: int, micro: int) -> int:
    """torch's seed in front of one micro-batch (dropout, drop-path), so that no generator state is ever stored."""
    return int(np.random.SeedSequence([seed, step, micro, FORWARD]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class BatchKey:
    """One batch of a run: its epoch, its number within the epoch and its samples."""

    epoch: int
    number: int
    indices: list[int]


@dataclass(frozen=True)
class Partial:
    """A batch without those of its samples that can't be read (index -> why); None where none can."""

    key: BatchKey
    batch: Batch | None
    unread: dict[int, str]


Unread = Callable[[BatchKey, Mapping[int, str]], None]


def epoch_batches(task: Task, seed: int, epoch: int) -> list[BatchKey]:
    """The shuffled batches of one training epoch."""
    batches = task.batches("train", task.config.train.batch, generator(seed, epoch, 0, ORDER))
    return [BatchKey(epoch, number, indices) for number, indices in enumerate(batches)]


def workers_of(task: Task) -> int:
    """`data.workers` of the app; 0 for an app without that key."""
    return int(getattr(getattr(task.config, "data", None), "workers", 0))


def forgives(task: Task) -> bool:
    """Whether `data.bad_samples` of the app says "skip"."""
    data = getattr(task.config, "data", None)
    return bool(getattr(data, "bad_samples", "fail") == "skip")


def read_batches(
    task: Task,
    split: str,
    keys: Iterable[BatchKey],
    *,
    seed: int | None = None,
    workers: int = 0,
    unread: Unread | None = None,
) -> Generator[Batch, None, None]:
    """Reads, augments (where `seed` is given), collates and mixes the batches `keys`, in that order.

    One iterator serves a whole run: workers stay alive and read ahead across epochs. Raises what Task.sample raises, a
    UserError unchanged and anything else with the sample's number; torch's RuntimeError where a worker died. With
    `unread` a sample that can't be read is left out instead, `unread` is told before its batch comes, and an empty
    batch is None.
    """
    source = _Source(task, split, seed, unread is not None)
    if workers == 0:
        for key in keys:
            with _one_thread():
                batch = source[key]
            yield _checked(batch, unread)
        return
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=_InOrder(keys),
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    batches = iter(loader)
    try:
        for batch in batches:
            yield _checked(batch, unread)
    except (ConnectionError, EOFError) as error:
        raise RuntimeError("DataLoader worker ended while it handed over a batch") from error
    finally:  # now: a traceback may keep the iterator, which as garbage in a cycle fails to stop its workers
        batches._shutdown_workers()  # type: ignore[attr-defined]


class _Source(Dataset[Any]):
    def __init__(self, task: Task, split: str, seed: int | None, forgiving: bool) -> None:
        self.task, self.split, self.seed, self.forgiving = task, split, seed, forgiving

    def __getitem__(self, key: BatchKey) -> Batch | Partial | UserError:
        try:
            if self.forgiving:
                return self._readable(key)
            return self._batch(key, [self._sample(key.epoch, index) for index in key.indices])
        except UserError as error:
            return error  # a worker's exception would arrive as a traceback, not as the sentence

    def _batch(self, key: BatchKey, samples: list[Any]) -> Batch:
        batch = self.task.collate(samples)
        if self.seed is None:
            return batch
        return self.task.mix(batch, generator(self.seed, key.epoch, key.number, MIX))

    def _readable(self, key: BatchKey) -> Batch | Partial:
        samples, unread = {}, {}
        for index in key.indices:
            try:
                samples[index] = self._sample(key.epoch, index)
            except Exception as error:  # noqa: BLE001  whatever a reader raises
                unread[index] = _reason(error)
        while samples:
            try:
                batch = self._batch(key, list(samples.values()))
                return Partial(key, batch, unread) if unread else batch
            except Exception:
                # A domain may read with the whole batch, in one go: then each by itself tells which it was.
                alone = {index: self._fails_alone(sample) for index, sample in samples.items()}
                bad = {index: why for index, why in alone.items() if why}
                if not bad:
                    raise
                unread |= bad
                samples = {index: one for index, one in samples.items() if index not in bad}
        return Partial(key, None, unread)

    def _fails_alone(self, sample: Any) -> str:
        try:
            self.task.collate([sample])
        except Exception as error:  # noqa: BLE001  whatever a reader raises
            return _reason(error)
        return ""

    def _sample(self, epoch: int, index: int) -> Any:
        rng = None
        if self.seed is not None and self.task.augments:
            rng = generator(self.seed, epoch, index, AUGMENT)
        try:
            return self.task.sample(self.split, index, rng)
        except UserError:
            raise
        except Exception as error:
            error.add_note(f"while reading sample {index} of {self.split}")
            raise


class _InOrder(Sampler[BatchKey]):
    def __init__(self, keys: Iterable[BatchKey]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[BatchKey]:
        return iter(self.keys)


def _checked(result: Batch | Partial | UserError, unread: Unread | None) -> Batch | None:
    if isinstance(result, UserError):
        raise result
    if isinstance(result, Partial):
        assert unread is not None
        unread(result.key, result.unread)
        return result.batch
    return result


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return (
        lines[0][:200]
        if isinstance(error, UserError)
        else f"{type(error).__name__}: {lines[0]}"[:200]
    )


def _unchanged(batch: Batch) -> Batch:
    return batch


def _start_worker(_: int) -> None:
    # A Ctrl-C or a scheduler's SIGTERM reaches the workers too: the main process answers it, and needs them meanwhile.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if (
        sys.platform == "linux"
    ):  # and a killed main process takes them along, where torch would let them live 5 s more
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Workers compute with one thread; sums over more threads could round otherwise.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
