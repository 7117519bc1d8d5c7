"""Batches of like sizes: every molecule once, little padding, another order every epoch."""

import numpy as np
import pytest

from isoform.molecules.data.buckets import batches, padding


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_molecule_once(shuffled):
    rng = np.random.default_rng(11)
    for n in [*range(9), *rng.integers(9, 200, 60).tolist()]:
        sizes, batch = rng.integers(1, 90, n), int(rng.integers(1, 23))
        parts = batches(sizes, batch, rng if shuffled else None)
        assert sorted(index for part in parts for index in part) == list(range(n))
        assert all(type(index) is int for part in parts for index in part)
        assert len(parts) == -(-n // batch) and sorted(map(len, parts))[1:] == [batch] * (
            len(parts) - 1
        )


# About as QM9, ESOL and drug-like molecules are distributed.
SIZES = {
    "qm9": lambda rng, n: np.clip(9 - rng.geometric(0.85, n) + 1, 1, 9),
    "drugs": lambda rng, n: np.clip(rng.normal(23, 5, n).round().astype(int), 4, 60),
}


@pytest.mark.parametrize("name", SIZES)
def test_padding_is_below_15_percent(name):
    rng = np.random.default_rng(4)
    sizes = SIZES[name](rng, 5003)
    random_order = [part.tolist() for part in np.array_split(rng.permutation(len(sizes)), 79)]
    assert padding(sizes, batches(sizes, 64, rng)) <= 0.12
    assert padding(sizes, batches(sizes, 64, None)) <= 0.03
    if name == "drugs":
        assert padding(sizes, random_order) > 0.3


def test_qm9_itself():
    import csv
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution("qm9pack").locate_file("qm9pack/data/qm9_part1.csv")
    except PackageNotFoundError:
        pytest.skip("qm9pack is not installed")
    with open(found, newline="") as file:
        rows = csv.reader(file)
        column = next(rows).index("SMILES")
        texts = [row[column] for row, _ in zip(rows, range(4001), strict=False)]
    sizes = np.array([sum(letter in "CNOFcno" for letter in text) for text in texts])
    assert padding(sizes, batches(sizes, 64, np.random.default_rng(0))) <= 0.15


def test_batches_are_a_function_of_the_generator():
    sizes = np.random.default_rng(0).integers(3, 40, 501)
    first, second, other = (batches(sizes, 32, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first == second and first != other
    together = [{frozenset(part) for part in parts} for parts in (first, other)]
    assert (
        not together[0] & together[1]
    )  # another epoch has other batches, not the same ones in another order
    order = [np.mean(sizes[part]) for part in first]
    assert order != sorted(order) and order != sorted(order, reverse=True)


def test_without_a_generator_the_largest_come_first():
    sizes = np.array([3, 11, 5, 11, 2])
    assert batches(sizes, 2, None) == [[1, 3], [2, 0], [4]]


def test_padding_by_hand():
    assert padding(np.array([2, 4, 4, 6]), [[0, 1], [2, 3]]) == pytest.approx(1 - 16 / 20)
    assert padding(np.zeros(0, int), []) == 0
