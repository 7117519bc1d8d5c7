"""A store on disk: the same arrays, under a name made of all that it depends on, whole or not at all."""

import os
from dataclasses import fields, replace

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data import cache
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import GraphStore
from isoform.molecules.data.records import Molecules, PackedGraphs

from .smiles import MOLECULES

TEXTS = [*MOLECULES, "C(", "CC"]


def molecules(texts=TEXTS, **more):
    names = [f"line {i}" for i, _ in enumerate(texts)]
    targets = np.zeros((len(texts), 1))
    return Molecules(
        smiles=texts, names=names, targets=targets, target_names=["y"], units=[""], **more
    )


def assert_same(a, b):
    for name in (field.name for field in fields(PackedGraphs)):
        assert np.array_equal(getattr(a.store.graphs, name), getattr(b.store.graphs, name)), name
    for name in (field.name for field in fields(GraphStore) if field.name != "graphs"):
        x, y = getattr(a.store, name), getattr(b.store, name)
        assert np.array_equal(x, y) and x.dtype == y.dtype, name
    assert np.array_equal(a.kept, b.kept) and a.skipped == b.skipped


@pytest.fixture
def data(tmp_path):
    return DataConfig(cache=str(tmp_path / "cache"))


def names_in(data):
    return sorted(os.listdir(data.cache))


def test_the_second_time_is_read_from_disk(data, monkeypatch):
    first = cache.graph_store(molecules(), data)
    assert [number for number, _ in first.skipped] == [len(MOLECULES)]
    assert first.kept.tolist() == [i for i in range(len(TEXTS)) if i != len(MOLECULES)]
    monkeypatch.setattr(cache, "build_store", None)  # nothing is worked out again
    second = cache.graph_store(molecules(), data)
    assert_same(first, second)
    assert isinstance(second.store.path_kinds, np.memmap) and len(names_in(data)) == 1


def test_whatever_changes_the_store_changes_its_name(data):
    cache.graph_store(molecules(), data)
    known = 1
    for change in (
        {"chirality": False}, {"canonical": True}, {"hydrogens": True}, {"max_atoms": 11},
    ):  # fmt: skip
        cache.graph_store(molecules(), data.model_copy(update=change))
        known += 1
        assert len(names_in(data)) == known, change
    for arguments in (
        {"hops": 3},
        {"laplacian": 2},
        {"kinds": np.array([[0, 0, 0], *np.ndindex(5, 6, 2)], np.int16)},
    ):
        cache.graph_store(molecules(), data, **arguments)
        known += 1
        assert len(names_in(data)) == known, arguments
    for texts in (TEXTS[1:], ["C", *TEXTS], [*TEXTS[:-2], "C(CC"]):
        cache.graph_store(molecules(texts), data)
        known += 1
        assert len(names_in(data)) == known
    cache.graph_store(molecules(TEXTS), data.model_copy(update={"split_seed": 5, "workers": 1}))
    assert len(names_in(data)) == known


def test_a_damaged_store_is_made_again(data):
    first = cache.graph_store(molecules(), data)
    (name,) = names_in(data)
    folder = os.path.join(data.cache, name)
    for file in os.listdir(folder):
        path = os.path.join(folder, file)
        with open(path, "rb") as whole:
            content = whole.read()
        with open(path, "wb") as part:
            part.write(content[: len(content) // 2])
        assert_same(cache.graph_store(molecules(), data), first)
        assert names_in(data) == [name]
        os.unlink(path)
        assert_same(cache.graph_store(molecules(), data), first)


def test_a_write_that_fails_leaves_nothing(data, monkeypatch):
    saved = []

    def full(file, array):
        saved.append(file)
        if len(saved) == 4:
            raise OSError(28, "No space left on device")
        file.write(array.tobytes())

    monkeypatch.setattr(cache.np, "save", full)
    with pytest.raises(
        UserError, match=r"can't be written .No space left on device.; choose another data.cache"
    ):
        cache.graph_store(molecules(), data)
    assert names_in(data) == []


def test_the_usual_folder_is_used_for_many_and_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = cache.graph_store(molecules(), DataConfig())
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(cache, "FEW", 5)
    cache.graph_store(molecules(), DataConfig())
    assert len(os.listdir(tmp_path / "isoform" / "molecules")) == 1
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert_same(cache.graph_store(molecules(), DataConfig()), few)


def test_mol_blocks_come_before_smiles(data):
    from rdkit import Chem

    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    both = cache.graph_store(molecules(["C", "N"], blocks=[block, ""]), data)
    assert both.store.sizes.tolist() == [3, 1]


def test_graphs_of_a_data_set_of_graphs(data):
    graphs = featurise_many(MOLECULES).graphs
    source = replace(molecules(list(MOLECULES)), graphs=graphs)
    whole = cache.graph_store(source, data)
    assert len(whole.store) == len(graphs) and whole.skipped == []
    limited = cache.graph_store(source, data.model_copy(update={"max_atoms": 11}))
    assert limited.kept.tolist() == np.flatnonzero(graphs.sizes <= 11).tolist()
    assert dict(limited.skipped)[0] == "has 14 atoms, more than 11"
    assert len(limited.store) + len(limited.skipped) == len(graphs)
    assert_same(cache.graph_store(source, data.model_copy(update={"max_atoms": 11})), limited)


def test_workers_change_nothing(data):
    one = cache.graph_store(molecules(), data, workers=0)
    two = cache.graph_store(
        molecules(), data.model_copy(update={"cache": data.cache + "2"}), workers=1
    )
    assert_same(one, two)
