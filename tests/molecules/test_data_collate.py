"""Batches against the official collator's, and the independence of a molecule from its company."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from isoform.molecules.data.collate import collate, flip_signs
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import build_store

from .smiles import MOLECULES


@pytest.fixture(scope="module")
def store():
    return build_store(featurise_many(MOLECULES).graphs, laplacian=3)


@pytest.mark.parametrize(
    "case", ["graphormer_preln", "graphormer_postln", "graphormer_attn_bias_twice"]
)
def test_golden_inputs(golden_dir, case):
    path = golden_dir / "graphormer" / f"{case}.json"
    if not path.exists():
        pytest.skip(f"no stored case {path}")
    smiles, want = (
        json.loads(path.read_text())["smiles"],
        load_file(path.with_suffix(".safetensors")),
    )
    store = build_store(featurise_many(smiles).graphs)
    batch = collate(store, range(len(smiles)))
    for own, official in (
        ("atoms", "input_nodes"),
        ("path_bond_ids", "input_edges"),
        ("distance_ids", "spatial_pos"),
        ("degree", "in_degree"),
        ("degree", "out_degree"),
    ):
        assert torch.equal(batch[own].int(), want[f"input/{official}"].int()), own
    assert torch.equal(batch["valid"], want["input/input_nodes"][..., 0] != 0)


def test_shapes_and_types(store):
    rows = [3, 0, 11, 21]
    n = int(store.sizes[rows].max())
    batch = collate(store, rows)
    got = {name: (tuple(value.shape), value.dtype) for name, value in batch.items()}
    assert got == {
        "atoms": ((4, n, 9), torch.int16),
        "degree": ((4, n), torch.int16),
        "distance_ids": ((4, n, n), torch.int16),
        "path_bond_ids": ((4, n, n, 5, 3), torch.int16),
        "valid": ((4, n), torch.bool),
        "laplacian": ((4, n, 3), torch.float32),
    }
    assert all(value.is_contiguous() for value in batch.values())


def test_a_molecule_does_not_depend_on_its_company(store):
    rows = np.random.default_rng(2).permutation(len(store))
    batch = collate(store, rows)
    for place, row in enumerate(rows):
        alone, n = collate(store, [row]), int(store.sizes[row])
        for name, value in batch.items():
            cut = (
                value[place, :n, :n]
                if name in ("distance_ids", "path_bond_ids")
                else value[place, :n]
            )
            assert torch.equal(cut, alone[name][0]), name
            assert not value[place, n:].any()
            if name in ("distance_ids", "path_bond_ids"):
                assert not value[place, :, n:].any()


def test_ids_of_the_collator_of_transformers_are_one_higher(store):
    usual, compatible = collate(store, [5, 0]), collate(store, [5, 0], hf_compat=True)
    real = usual["valid"]
    assert torch.equal(compatible["atoms"][real], usual["atoms"][real] + 1)
    assert not compatible["atoms"][~real].any() and not real.all()
    assert all(torch.equal(compatible[name], usual[name]) for name in usual if name != "atoms")


def test_compact_paths_are_the_same_ids(store):
    usual, compact = collate(store, [7, 1, 0]), collate(store, [7, 1, 0], compact=True)
    assert "path_bond_ids" not in compact and compact["path_kinds"].dtype == torch.uint8
    assert torch.equal(
        compact["kind_bond_ids"][compact["path_kinds"].long()], usual["path_bond_ids"]
    )


def test_bonds_of_the_batch(store):
    rows = [2, 14, 6, 30]
    batch = collate(store, rows, bonds=True)
    n, index, ids = batch["valid"].shape[1], batch["bond_index"], batch["bond_ids"]
    assert index.shape == (sum(len(store.graphs.graph(row)[2]) for row in rows), 2) and len(
        ids
    ) == len(index)
    # A bond's own ids are those of the way from one of its atoms to the other.
    sample = index[:, 0] // n
    assert torch.equal(sample, index[:, 1] // n)
    assert torch.equal(batch["path_bond_ids"][sample, index[:, 0] % n, index[:, 1] % n, 0], ids)
    assert int((batch["distance_ids"] == 2).sum()) == len(index)


def test_signs_of_eigenvectors_are_flipped_at_random_and_as_one(store):
    batch = collate(store, [0, 3, 17])
    flipped = flip_signs(batch, np.random.default_rng(1))
    again = flip_signs(batch, np.random.default_rng(1))
    assert torch.equal(flipped["laplacian"], again["laplacian"])
    ratio = (flipped["laplacian"] / batch["laplacian"]).nan_to_num(0)
    per_vector = ratio.amax(1) + ratio.amin(1)  # both signs within one vector would cancel
    assert (
        set(per_vector.unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
        and (ratio < 0).any()
        and (ratio > 0).any()
    )
    assert torch.equal(flipped["laplacian"].abs(), batch["laplacian"].abs())
    assert all(flipped[name] is batch[name] for name in batch if name != "laplacian")
