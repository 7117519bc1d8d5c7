"""Packed graphs joined and cut, and the store that encodings are read from."""

import numpy as np
import pytest
import torch

from isoform.core.errors import UserError
from isoform.molecules.data.featurise import featurise, featurise_many
from isoform.molecules.data.graphs import (
    MOST_VALUE,
    OGB_BONDS,
    bond_ids,
    build_store,
    concatenate,
    kinds_of,
    pack,
    ranges,
    select,
)
from isoform.molecules.data.paths import shortest_paths

from .smiles import MOLECULES


def random_graph(rng, n, bonds, columns=(4, 2), categories=7):
    ends = rng.integers(0, n, (bonds, 2))
    features = rng.integers(0, categories, (bonds, columns[1]))
    both = np.stack([ends, ends[:, ::-1]], 1).reshape(-1, 2)
    return rng.integers(0, categories, (n, columns[0])), features.repeat(2, 0), both


@pytest.fixture(scope="module")
def graphs():
    return featurise_many(MOLECULES).graphs


def test_ranges():
    assert ranges(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist() == [7, 8, 3, 4, 5]
    assert ranges(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


def test_concatenate_undoes_select(graphs):
    order = np.random.default_rng(5).permutation(len(graphs))
    parts = [select(graphs, part) for part in np.array_split(order, 7)]
    back = select(concatenate(parts), np.argsort(order))
    for name in ("atoms", "bonds", "ends", "atom_offsets", "bond_offsets"):
        got, want = getattr(back, name), getattr(graphs, name)
        assert np.array_equal(got, want) and got.dtype == want.dtype
    again = pack([graphs.graph(i) for i in range(len(graphs))])
    assert np.array_equal(again.ends, graphs.ends) and np.array_equal(
        again.bond_offsets, graphs.bond_offsets
    )


def assert_right(store, graphs, hops):
    """Every molecule's piece of the store is what its own graph gives."""
    for m in range(len(graphs)):
        atoms, bonds, ends = graphs.graph(m)
        n = len(atoms)
        dense = np.zeros((1, n, n), np.int16)
        dense[0, ends[:, 0], ends[:, 1]] = np.arange(1, len(ends) + 1)
        want = shortest_paths(dense, hops)
        pairs = slice(store.pair_offsets[m], store.pair_offsets[m + 1])
        assert np.array_equal(
            store.distance_ids(np.arange(len(store.distance_codes))[pairs]).reshape(n, n),
            want.distance[0] + 1,
        )
        features = np.concatenate([np.zeros((1, bonds.shape[1]), np.int16), bonds])[want.codes[0]]
        kinds = store.path_kinds[pairs].reshape(n, n, hops)
        assert np.array_equal(kinds > 0, want.codes[0] > 0)
        assert np.array_equal(store.kinds[kinds], features)
        degree = store.degree[graphs.atom_offsets[m] : graphs.atom_offsets[m + 1]]
        assert np.array_equal(degree, (dense[0] > 0).sum(1))


@pytest.mark.parametrize("hops", [5, 2])
def test_store_of_molecules(graphs, hops):
    store = build_store(graphs, hops=hops)
    assert (
        len(store.kinds) == 61
        and store.path_kinds.dtype == np.uint8
        and store.distance_codes.dtype == np.uint8
    )
    assert (
        store.hops == hops
        and len(store) == len(MOLECULES)
        and store.pair_offsets[-1] == (graphs.sizes**2).sum()
    )
    assert_right(store, graphs, hops)


def test_store_of_other_graphs():
    rng = np.random.default_rng(3)
    # Loops, several bonds between two atoms, hundreds of kinds, and sizes far apart.
    graphs = pack(
        [
            random_graph(rng, n, bonds, categories=31)
            for n, bonds in ((1, 2), (3, 11), (61, 67), (5, 0), (29, 700))
        ]
    )
    store = build_store(graphs, hops=3)
    assert store.path_kinds.dtype == np.int16
    assert_right(store, graphs, 3)


def test_distances_beyond_a_byte():
    chain = np.stack([np.arange(256), np.arange(1, 257)], 1)
    both = np.stack([chain, chain[:, ::-1]], 1).reshape(-1, 2)
    long = (np.zeros((258, 1)), np.zeros((512, 1)), both)  # the last atom has no bond
    short = (np.zeros((2, 1)), np.zeros((0, 1)), np.zeros((0, 2)))
    store = build_store(pack([long, short]), hops=2)
    assert store.distance_codes.dtype == np.int16
    assert_right(store, store.graphs, 2)
    ids = store.distance_ids(np.arange(258 * 258)).reshape(258, 258)
    assert ids[0, 256] == 257 and ids[0, 257] == 511 and ids[257, 257] == 1


def test_kinds_of_bonds():
    ogb = kinds_of(np.array([[4, 5, 1], [0, 0, 0]]))
    assert (
        ogb.shape == (1 + np.prod(OGB_BONDS), 3)
        and len(np.unique(ogb[1:], axis=0)) == 60
        and not ogb[0].any()
    )
    assert kinds_of(np.array([[3], [1], [3]])).tolist() == [[0], [1], [3]]
    ids = bond_ids(ogb)
    assert (
        not ids[0].any()
        and ids[-1].tolist() == [3 + 4, 3 + 512 + 5, 3 + 1024 + 1]
        and ids.dtype == np.int16
    )


def test_stores_share_their_codes():
    rng = np.random.default_rng(0)
    first = pack([random_graph(rng, 13, 40)])
    train = build_store(first)
    some = pack([(first.atoms[:5], first.bonds[:2], np.array([[0, 3], [3, 0]]))])
    other = build_store(some, kinds=train.kinds)
    assert (
        other.kinds is train.kinds and (train.kinds[other.path_kinds[3, 0]] == some.bonds[0]).all()
    )
    unseen = pack([(first.atoms[:5], first.bonds[:2] + 7, np.array([[0, 3], [3, 0]]))])
    with pytest.raises(UserError, match="which the model has never seen"):
        build_store(unseen, kinds=train.kinds)
    with pytest.raises(UserError, match="have 2 features where the model knows 3"):
        build_store(some, kinds=kinds_of(np.zeros((0, 3), np.int16)))


def good():
    return [np.zeros((3, 2)), np.zeros((2, 1)), np.array([[0, 2], [2, 0]])]


@pytest.mark.parametrize(
    ("part", "at", "value", "why"),
    [
        (0, (2, 1), MOST_VALUE + 1, "molecule 1: atom feature 1 is 510"),
        (0, (2, 1), -1, "atom feature 1 is -1"),
        (1, (0, 0), 1000, "molecule 1: bond feature 0 is 1000"),
        (2, (1, 0), 3, r"molecule 1: a bond joins atoms \[3, 0\] where there are 3"),
    ],
)
def test_values_without_a_row_are_refused(part, at, value, why):
    bad = good()
    bad[part][at] = value
    with pytest.raises(UserError, match=why):
        build_store(pack([tuple(good()), tuple(bad)]))


def test_empty_graphs_and_hubs_are_refused():
    with pytest.raises(UserError, match="molecule 1 has no atoms"):
        build_store(pack([tuple(good()), (np.zeros((0, 2)), np.zeros((0, 1)), np.zeros((0, 2)))]))
    hub = np.stack([np.zeros(511), np.arange(1, 512)], 1)
    star = (np.zeros((512, 2)), np.zeros((511, 1)), hub)
    with pytest.raises(UserError, match="molecule 1: an atom has 511 neighbours"):
        build_store(pack([tuple(good()), star]))


def test_a_single_atom_and_no_molecule_at_all():
    store = build_store(pack([featurise("O")]))
    assert (
        store.distance_codes.tolist() == [1]
        and not store.path_kinds.any()
        and store.degree.tolist() == [0]
    )
    assert len(build_store(featurise_many([]).graphs)) == 0


def test_laplacian_eigenvectors(graphs):
    store = build_store(graphs, laplacian=4)
    assert store.laplacian.shape == (len(graphs.atoms), 4) and store.laplacian.dtype == np.float32
    for m in range(len(graphs)):
        atoms, _, ends = graphs.graph(m)
        vectors = store.laplacian[graphs.atom_offsets[m] : graphs.atom_offsets[m + 1]]
        n = len(atoms)
        if not len(ends):
            assert not vectors.any()
            continue
        assert not vectors[:, n - 1 :].any()
        adjacency = np.zeros((n, n))
        adjacency[ends[:, 0], ends[:, 1]] = 1
        degree = adjacency.sum(1)
        scale = np.divide(1, np.sqrt(degree), where=degree > 0, out=np.zeros(n))
        laplacian = np.eye(n) - scale[:, None] * adjacency * scale
        values = np.linalg.eigvalsh(laplacian)[1:5]
        for k, value in enumerate(values[: n - 1]):
            assert np.allclose(laplacian @ vectors[:, k], value * vectors[:, k], atol=1e-5)
            assert vectors[np.abs(vectors[:, k]).argmax(), k] > 0
    assert np.array_equal(build_store(graphs, laplacian=4).laplacian, store.laplacian)


def test_laplacian_eigenvectors_of_large_molecules_come_out_the_same():
    graphs = pack([featurise("C" * 101), featurise("C" * 99)])
    state = torch.get_rng_state()
    first, second = (build_store(graphs, laplacian=2).laplacian for _ in range(2))
    assert np.array_equal(first, second) and torch.equal(torch.get_rng_state(), state)
    # A chain's first vectors are cosines: one and two half waves.
    assert [int((np.diff(np.sign(first[:101, k])) != 0).sum()) for k in range(2)] == [1, 2]
