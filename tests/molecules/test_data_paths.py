"""Batched shortest paths against loops written out, and against numbers that can be counted by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.molecules.data.paths import UNREACHABLE, shortest_paths


def written_out(codes, hops):
    """Floyd-Warshall over k, i, j; a path is put together from the last atom that improved it."""
    n = len(codes)
    distance = [
        [0 if i == j else 1 if codes[i][j] else UNREACHABLE for j in range(n)] for i in range(n)
    ]
    via = [[-1] * n for _ in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if distance[i][k] + distance[k][j] < distance[i][j]:
                    distance[i][j], via[i][j] = distance[i][k] + distance[k][j], k
    for i in range(n):
        for j in range(n):
            if distance[i][j] >= UNREACHABLE:
                distance[i][j] = via[i][j] = UNREACHABLE

    def atoms(i, j):
        k = via[i][j]
        return [] if k == -1 else [*atoms(i, k), k, *atoms(k, j)]

    along = np.zeros((n, n, hops), codes.dtype)
    for i in range(n):
        for j in range(n):
            if i != j and via[i][j] != UNREACHABLE:
                way = [i, *atoms(i, j), j]
                bonds = [codes[a, b] for a, b in pairwise(way)][:hops]
                along[i, j, : len(bonds)] = bonds
    return np.array(distance), np.array(via), along


def random_codes(rng, n, bonds, directed=False, dtype=np.uint8):
    codes = np.zeros((n, n), dtype)
    for number, (i, j) in enumerate(rng.integers(0, n, (bonds, 2)), start=1):
        codes[i, j] = number
        if not directed:
            codes[j, i] = number
    return codes


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), hops=st.sampled_from([1, 3, 5]), directed=st.booleans())
def test_padded_batches_are_what_each_molecule_is(seed, hops, directed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 14, 5)
    each = [random_codes(rng, n, int(rng.integers(0, 2 * n)), directed) for n in sizes]
    padded = np.zeros((5, 13, 13), np.uint8)
    for row, codes in zip(padded, each, strict=True):
        row[: len(codes), : len(codes)] = codes
    found = shortest_paths(padded, hops)
    for row, codes in enumerate(each):
        n = len(codes)
        distance, via, along = written_out(codes, hops)
        assert np.array_equal(found.distance[row, :n, :n], distance)
        assert np.array_equal(found.via[row, :n, :n], via)
        assert np.array_equal(found.codes[row, :n, :n], along)
        assert (found.distance[row, n:, :n] == UNREACHABLE).all() and not found.codes[row, n:].any()


@pytest.mark.parametrize("n", [127, 128, 131])  # one byte a distance, and two
def test_large_molecules(n):
    rng = np.random.default_rng(n)
    codes = random_codes(rng, n, n + 11, dtype=np.int16)
    distance, via, along = written_out(codes, 5)
    found = shortest_paths(codes[None], 5)
    assert np.array_equal(found.distance[0], distance)
    assert np.array_equal(found.via[0], via)
    assert np.array_equal(found.codes[0], along)
    many = shortest_paths(np.repeat(codes[None], 2, 0), 5)
    assert np.array_equal(many.codes[1], along)


def test_a_chain_longer_than_any_distance():
    n = 521
    codes = np.zeros((1, n, n), np.uint8)
    index = np.arange(n - 1)
    codes[0, index, index + 1] = codes[0, index + 1, index] = 1 + index % 7
    found = shortest_paths(codes, 3)
    hops = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    assert np.array_equal(found.distance[0], np.minimum(hops, UNREACHABLE))
    assert found.codes[0, 3, 509].tolist() == [4, 5, 6]
    assert found.codes[0, 509, 3].tolist() == [1 + 508 % 7, 1 + 507 % 7, 1 + 506 % 7]


def test_the_one_between_equal_paths_depends_on_the_order_of_atoms():
    square = np.zeros((1, 4, 4), np.uint8)
    for code, (i, j) in enumerate(((0, 1), (1, 2), (2, 3), (3, 0)), start=1):
        square[0, i, j] = square[0, j, i] = code
    found = shortest_paths(square, 5)
    assert found.via[0, 0, 2] == 1 and found.codes[0, 0, 2].tolist() == [1, 2, 0, 0, 0]
    assert found.via[0, 1, 3] == 0 and found.codes[0, 1, 3].tolist() == [1, 4, 0, 0, 0]


@pytest.mark.parametrize(
    ("smiles", "wiener"),
    [("CCCC", 10), ("CC(C)C", 9), ("c1ccccc1", 27), ("C12C3C4C1C5C2C3C45", 48)],
)
def test_wiener_index(smiles, wiener):
    from isoform.molecules.data.featurise import featurise

    _, _, ends = featurise(smiles)
    codes = np.zeros((1, ends.max() + 1, ends.max() + 1), np.uint8)
    codes[0, ends[:, 0], ends[:, 1]] = 1
    assert shortest_paths(codes, 1).distance.sum() == 2 * wiener
