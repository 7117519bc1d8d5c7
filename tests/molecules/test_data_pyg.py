"""torch-geometric's data sets by name: read as it reads them, nothing downloaded, graphs and SMILES."""

import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("torch_geometric")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_geometric.datasets
    from torch_geometric.data import Data, InMemoryDataset

from isoform.molecules.data.pack import categories, pack
from isoform.molecules.data.read import read_molecules

from .miniatures import SMILES, data, esol, load_molecules, refusal, zinc


def read(name, root=None, **settings):
    return read_molecules(data(source=f"pyg:{name}", root=root, **settings))


def graph(n=3, bonds=((0, 1), (1, 0), (1, 2), (2, 1)), **fields):
    ends = torch.tensor(bonds, dtype=torch.long).reshape(-1, 2).T
    whole = {"x": torch.arange(n)[:, None], "edge_index": ends, "y": torch.tensor([1.5])} | fields
    return Data(**{key: value for key, value in whole.items() if value is not None})


@pytest.fixture
def known(monkeypatch):
    """Gives torch-geometric a data set `Mine` of some graphs."""

    def put(*graphs, split=False):
        class Mine(InMemoryDataset):
            def __init__(self, *names):
                super().__init__(None)
                self._data, self.slices = self.collate(list(graphs))

        class Split(Mine):
            def __init__(self, split="train"):
                super().__init__()
                self._data, self.slices = self.collate(
                    [graphs[("train", "val", "test").index(split)], graphs[0]]
                )

        monkeypatch.setattr(
            torch_geometric.datasets, "Mine", Split if split else Mine, raising=False
        )

    return put


def test_zinc_is_read_as_our_own_reader_reads_it(tmp_path):
    ours = read_molecules(data(source="zinc-full", root=zinc(tmp_path)))
    theirs = read("ZINC", tmp_path)
    assert (
        theirs.split.tolist() == ours.split.tolist()
        and theirs.smiles == [""] * 20
        and theirs.task == "regression"
    )
    np.testing.assert_array_equal(theirs.targets, ours.targets)
    for k in range(20):
        for a, b in zip(theirs.graphs.graph(k), ours.graphs.graph(k), strict=True):
            np.testing.assert_array_equal(a, b)
    few = read("ZINC/subset", tmp_path)
    assert [int((few.split == part).sum()) for part in ("train", "val", "test")] == [11, 2, 3]


def test_a_set_with_smiles_is_featurised_here(tmp_path):
    raw = tmp_path / "esol" / "raw"
    raw.mkdir(parents=True)
    esol(raw)
    text = (raw / "delaney-processed.csv").read_text().replace('"name, ', '"name ')
    (raw / "delaney-processed.csv").write_text(text)
    found = read("MoleculeNet/ESOL", tmp_path)
    assert found.smiles == list(SMILES) and found.graphs is None and found.split is None
    assert found.target_names == ["y"] and found.targets[:, 0].tolist() == [
        -k / 2 for k in range(20)
    ]
    assert len(load_molecules(data(source="pyg:MoleculeNet/ESOL", root=tmp_path))) == 20


def test_nothing_is_downloaded_and_nothing_left_behind(tmp_path):
    said = refusal(lambda: read("ZINC", tmp_path))
    assert f"{tmp_path}/raw/train.pickle: no such file" in said and "data.download = true" in said
    assert "delaney-processed.csv: no such file" in refusal(
        lambda: read("MoleculeNet/ESOL", tmp_path)
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ZINK", "torch-geometric has no data set ZINK"),
        ("MoleculeNett", "did you mean MoleculeNet?"),
        ("MoleculeNet", "has several parts; name one, such as pyg:MoleculeNet/PART"),
        ("QM9/x", "QM9 has no parts; use pyg:QM9"),
        ("homo_datasets", "has no data set"),
        ("KarateClub", "holds 1 graph"),
        ("FakeDataset", "holds 1 graph"),
    ],
)
def test_names_that_do_not_fit(tmp_path, name, words):
    assert words in refusal(lambda: read(name, tmp_path))


def test_settings_that_do_not_fit():
    assert "data.root is not set" in refusal(lambda: read("ZINC"))
    assert "data.smiles is set" in refusal(lambda: read("ZINC", smiles="s"))


def test_labels_and_tasks(known):
    known(
        graph(y=torch.tensor([[1.0, float("nan"), 0.0]])), graph(y=torch.tensor([[0.0, 1.0, 1.0]]))
    )
    found = read("Mine")
    assert (
        found.task == "binary"
        and found.target_names == ["y0", "y1", "y2"]
        and np.isnan(found.targets[0, 1])
    )
    assert read("Mine", targets=("y2", "y0")).targets.tolist() == [[0, 1], [1, 0]]
    known(graph(y=torch.tensor(2)), graph(y=torch.tensor(0)))
    found = read("Mine")
    assert (
        found.task == "multiclass"
        and found.classes == ("0", "1", "2")
        and found.targets[:, 0].tolist() == [2, 0]
    )
    assert read("Mine", classes=("a", "b", "c")).classes == ("a", "b", "c")
    assert read("Mine", task="regression").task == "regression"
    assert "has 3" in refusal(lambda: read("Mine", classes=("a", "b")))
    assert "not 0 and 1 alone" in refusal(lambda: read("Mine", task="binary"))
    known(graph(y=torch.tensor([1.5])), graph(y=torch.tensor([0.5])))
    assert read("Mine").task == "regression" and read("Mine").target_names == ["y"]
    assert "not one class number each" in refusal(lambda: read("Mine", task="multiclass"))
    known(graph(y=None), graph(y=None))
    assert "graph 0 has no label y" in refusal(lambda: read("Mine"))
    known(graph(y=torch.arange(3)), graph(2, ((0, 1), (1, 0)), y=torch.arange(2)))
    assert "not of the whole graph" in refusal(lambda: read("Mine"))


def test_a_set_with_splits_gives_them(known):
    known(
        graph(y=torch.tensor([1.5])),
        graph(y=torch.tensor([2.5])),
        graph(y=torch.tensor([3.5])),
        split=True,
    )
    found = read("Mine")
    assert found.split.tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert found.targets[:, 0].tolist() == [1.5, 1.5, 2.5, 1.5, 3.5, 1.5]


def test_features_must_be_categories(known):
    hot = torch.eye(5)[[4, 0, 2]]
    known(
        graph(x=hot, edge_attr=torch.eye(3)[[1, 1, 2, 2]]),
        graph(x=hot, edge_attr=torch.eye(3)[[0, 0, 1, 1]]),
    )
    found = read("Mine")
    assert found.graphs.atoms[:3, 0].tolist() == [4, 0, 2] and found.graphs.bonds[
        :, 0
    ].tolist() == [
        1,
        1,
        2,
        2,
        0,
        0,
        1,
        1,
    ]
    known(graph(edge_attr=torch.rand(4)), graph(edge_attr=torch.rand(4)))
    assert "edge_attr holds measured features" in refusal(lambda: read("Mine"))
    known(graph(x=None, num_nodes=3), graph(x=None, num_nodes=3))
    assert "has no atoms x" in refusal(lambda: read("Mine"))


@pytest.mark.parametrize(
    ("bonds", "attributes", "words"),
    [
        (((0, 1), (1, 0), (1, 2)), None, "a bond goes one way only"),
        (((0, 1), (0, 1)), None, "goes one way only, or twice"),
        (((0, 1), (1, 0), (0, 1), (1, 0)), None, "goes one way only, or twice"),
        (((0, 1), (1, 2)), None, "goes one way only, or twice"),
        (((0, 0), (1, 1)), None, "from an atom to itself"),
        (((0, 1), (1, 0)), (1, 2), "the two directions of a bond have different features"),
        (((0, 3), (3, 0)), None, "ends at an atom that its molecule hasn't got"),
        (((0, -1), (-1, 0)), None, "ends at an atom that its molecule hasn't got"),
    ],
)
def test_graphs_that_no_molecule_has(bonds, attributes, words):
    ends = np.array(bonds).T
    kinds = None if attributes is None else np.array(attributes)
    said = refusal(
        pack, np.arange(3), ends, kinds, np.array([0, 3]), np.array([0, len(bonds)]), "x"
    )
    assert words in said


def test_bonds_stand_in_pairs_whatever_their_order():
    rng = np.random.default_rng(3)
    bonds = [(0, 1), (1, 2), (2, 3), (0, 3), (1, 4)]
    both = [(i, j, k) for k, (i, j) in enumerate(bonds)] + [
        (j, i, k) for k, (i, j) in enumerate(bonds)
    ]
    for _ in range(5):
        rows = np.array([both[k] for k in rng.permutation(10)])
        found = pack(
            np.arange(5), rows[:, :2].T, rows[:, 2], np.array([0, 5]), np.array([0, 10]), "x"
        )
        assert (found.ends[0::2] == found.ends[1::2, ::-1]).all() and (
            found.ends[0::2, 0] < found.ends[0::2, 1]
        ).all()
        assert {
            (*e, k) for e, k in zip(found.ends.tolist(), found.bonds[:, 0].tolist(), strict=True)
        } == set(both)


def test_categories_are_small_whole_numbers():
    assert categories(np.array([1.0, 3.0]), "w", "x").tolist() == [[1], [3]]
    assert categories(np.array([[0, 1.0], [1, 0]]), "w", "x").tolist() == [[1], [0]]
    assert categories(np.zeros((2, 2)), "w", "x").tolist() == [[0, 0], [0, 0]]
    assert "w: x holds -1 to 2" in refusal(categories, np.array([-1, 2]), "w", "x")
    assert "w: x holds 0 to 40000" in refusal(categories, np.array([0, 40000]), "w", "x")
    assert "measured" in refusal(categories, np.array([np.nan]), "w", "x")
