import itertools
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
import toy

from isoform.core.engine import loader
from isoform.core.errors import UserError


def batches(task, keys, **settings):
    return list(loader.read_batches(task, "train", keys, **settings))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_equal_batches(workers):
    task = toy.task()
    keys = [*loader.epoch_batches(task, 3, 0), *loader.epoch_batches(task, 3, 1)[4:]]
    alone = batches(task, keys, seed=3)
    together = batches(task, keys, seed=3, workers=workers)
    assert len(alone) == len(together) == 16
    assert all(a[0].equal(b[0]) and a[1].equal(b[1]) for a, b in zip(alone, together, strict=True))


def test_a_batch_is_a_function_of_its_place():
    task = toy.task()
    keys = loader.epoch_batches(task, 3, 1)
    assert batches(task, keys, seed=3)[7][0].equal(batches(task, keys[7:], seed=3)[0][0])
    assert not batches(task, keys, seed=3)[7][0].equal(batches(task, keys, seed=4)[7][0])


def test_an_epoch_is_a_permutation_of_its_own():
    task = toy.task()
    first, second = (
        [i for key in loader.epoch_batches(task, 0, epoch) for i in key.indices] for epoch in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(47)) and first != second
    assert [len(key.indices) for key in loader.epoch_batches(task, 0, 0)] == [5] * 9 + [2]


def test_the_streams_are_unlike():
    places = itertools.product((0, 1), (0, 1), (0, 1), (loader.ORDER, loader.AUGMENT, loader.MIX))
    assert len({tuple(loader.generator(*place).integers(2**32, size=3)) for place in places}) == 24
    assert len({loader.forward_seed(*place) for place in itertools.product((0, 1), repeat=3)}) == 8


def test_evaluation_is_neither_augmented_nor_mixed():
    task = toy.task()
    found = list(loader.read_batches(task, "val", [loader.BatchKey(0, 0, [2, 0])]))
    assert np.array_equal(found[0][0].numpy(), task.data["val"][0][[2, 0]])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_sample_is_named(workers):
    class Failing(toy.ToyTask):
        def sample(self, split, index, rng):
            raise UserError("a sentence") if split == "val" else ValueError("no good")

    with pytest.raises(ValueError) as caught:
        list(
            loader.read_batches(
                Failing(toy.app()), "train", [loader.BatchKey(0, 0, [13])], seed=0, workers=workers
            )
        )
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "no good" in text and "sample 13 of train" in text
    with pytest.raises(UserError, match=r"^a sentence$"):
        list(
            loader.read_batches(
                Failing(toy.app()), "val", [loader.BatchKey(0, 0, [13])], workers=workers
            )
        )


def test_workers_end_with_the_reading_of_them():
    """At once: nothing waits for torch's timeout of five seconds, and no process is left."""

    class Failing(toy.ToyTask):
        def sample(self, split, index, rng):
            if index == 13:
                raise ValueError("no good")
            return super().sample(split, index, rng)

    keys = [loader.BatchKey(0, number, [number]) for number in range(20)]
    started = time.monotonic()
    with pytest.raises(ValueError):
        list(loader.read_batches(Failing(toy.app()), "train", keys, seed=0, workers=2))
    reading = loader.read_batches(toy.task(), "train", keys, seed=0, workers=2)
    next(reading)
    reading.close()
    assert not multiprocessing.active_children() and time.monotonic() - started < 4.5


def test_a_worker_outlives_the_first_signal_to_the_whole_group():
    keys = [loader.BatchKey(0, number, [number]) for number in range(20)]
    reading = loader.read_batches(toy.task(), "train", keys, seed=0, workers=1)
    next(reading)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(reading)) == 19 and not multiprocessing.active_children()


def test_samples_are_computed_with_one_thread():
    seen = []

    class Counting(toy.ToyTask):
        def sample(self, split, index, rng):
            seen.append(torch.get_num_threads())
            return super().sample(split, index, rng)

    torch.set_num_threads(2)
    list(loader.read_batches(Counting(toy.app()), "train", [loader.BatchKey(0, 0, [1])], seed=0))
    assert seen == [1] and torch.get_num_threads() == 2
