"""ZINC's pickles and torch-geometric's processed files, both without running anything that they name."""

import io
import pickle
import struct
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.molecules.data.read import read_molecules
from isoform.molecules.data.zinc import MOLECULES, read_pickle

from .miniatures import PARTS, SMILES, data, load_molecules, refusal, zinc


def read(root, name="zinc12k", **settings):
    return read_molecules(data(source=name, root=root, **settings))


def graphs_of(found):
    return [tuple(part.tolist() for part in found.graphs.graph(k)) for k in range(len(found))]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_published_pickles(tmp_path, protocol):
    found = read(zinc(tmp_path, protocol), "zinc-full")
    assert (
        len(found) == 20 and found.target_names == ["penalised logP"] and found.task == "regression"
    )
    assert [int((found.split == part).sum()) for part in ("train", "val", "test")] == [13, 3, 4]
    assert found.targets[:, 0].tolist() == [k - 0.25 for rows in PARTS.values() for k in rows]
    assert graphs_of(found)[0] == (
        [[6], [6], [8]],
        [[2], [2], [2], [2]],
        [[0, 1], [1, 0], [1, 2], [2, 1]],
    )
    assert graphs_of(found)[4] == ([[6]], [], [])  # methane: one atom
    assert graphs_of(found)[5] == ([[6], [7]], [[6], [6]], [[0, 1], [1, 0]])
    assert found.graphs.sizes.tolist()[2] == 6 and found.names[13] == "val 0"
    assert (
        "train, val and test are 13, 3, 4 where zinc-full has 220011, 24445, 5000" in found.findings
    )


def test_the_12_thousand_and_all_are_told_apart(tmp_path):
    found = read(zinc(tmp_path))
    assert [int((found.split == part).sum()) for part in ("train", "val", "test")] == [11, 2, 3]
    rows = [*range(2, 13), 14, 15, 17, 18, 19]
    assert found.targets[:, 0].tolist() == [k - 0.25 for k in rows]
    everything = read(tmp_path, "zinc-full")
    assert graphs_of(found) == [graphs_of(everything)[k] for k in rows]
    assert found.sha256 != everything.sha256 and found.origin == "ZINC-12k"
    prepared = load_molecules(data(source="zinc12k", root=tmp_path, split="given"))
    assert (
        len(prepared) == 16
        and "graphs without SMILES aren't compared for duplicates" in prepared.findings
    )


def processed(root, subset):
    """What torch-geometric makes of the pickles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.datasets import ZINC

        return [ZINC(str(root), subset=subset, split=part) for part in ("train", "val", "test")]


@pytest.mark.parametrize(("name", "subset"), [("zinc12k", True), ("zinc-full", False)])
def test_processed_files_give_the_same_as_the_pickles(tmp_path, name, subset):
    pytest.importorskip("torch_geometric")
    from_pickles = read(zinc(tmp_path), name)
    theirs = [graph for part in processed(tmp_path, subset) for graph in part]
    for file in (tmp_path / "raw").glob("*.pickle"):
        file.unlink()  # so that the processed ones must be read
    found = read(tmp_path, name)
    assert graphs_of(found) == graphs_of(from_pickles)
    np.testing.assert_array_equal(found.targets, from_pickles.targets)
    for k, graph in enumerate(theirs):
        atoms, bonds, ends = found.graphs.graph(k)
        assert atoms.tolist() == graph.x.tolist()
        ours = sorted(zip(map(tuple, ends.tolist()), bonds[:, 0].tolist(), strict=True))
        assert ours == sorted(
            zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_attr.tolist(), strict=True)
        )


def test_a_missing_file_is_named_with_its_source(tmp_path):
    root = zinc(tmp_path)
    (root / "raw" / "val.index").unlink()
    said = refusal(read, root)
    assert f"{root / 'raw' / 'val.index'}: no such file" in said and "benchmarking-gnns" in said
    (root / "raw" / "val.pickle").unlink()
    assert "val.pickle: no such file" in refusal(lambda: read(root, "zinc-full"))
    assert "data.root is not set" in refusal(read_molecules, data(source="zinc12k"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"targets": ("logP",)}, 'ZINC has one target, "penalised logP"'),
        ({"task": "binary"}, "is a number; use regression"),
        ({"smiles": "s"}, "data.smiles is set"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, words):
    assert words in refusal(lambda: read(zinc(tmp_path), **settings))


class Danger:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (__import__("os").system, (f"touch {self.mark}",))


def test_a_pickle_that_runs_something_is_refused_by_name(tmp_path):
    path = tmp_path / "x.pickle"
    for content in ([Danger(tmp_path / "ran")], [{"atom_type": Danger(tmp_path / "ran")}]):
        path.write_bytes(pickle.dumps(content))
        assert "it names posix.system" in refusal(read_pickle, path)
    assert not (tmp_path / "ran").exists()
    # torch.storage's own function unpickles freely what it is given; ours takes it for bytes.
    inner = pickle.dumps(Danger(tmp_path / "ran"))
    head = b"\x80\x03]ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nC"
    call = head + bytes([len(inner)]) + inner + b"\x85RK\x00)))tRa."
    path.write_bytes(call)
    assert "a tensor of an unknown kind" in refusal(read_pickle, path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_cannot_change_our_functions_or_ask_for_all_memory(tmp_path):
    path = tmp_path / "x.pickle"
    path.write_bytes(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(X\x05\x00\x00\x00_callK\x01ub.")
    refusal(read_pickle, path)
    assert read_pickle_works(tmp_path)
    path.write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**31) + b".")
    assert "asks for more memory" in refusal(read_pickle, path)
    for content in (b"", b"\x80\x02}.", b"\x80\x02]", b"garbage", b"\x80\x02(K\x01Qa."):
        path.write_bytes(content)
        refusal(read_pickle, path)


@pytest.mark.parametrize(
    "name", ["%s.__globals__", "%s.content", "%s.__class__", "__init__", "%s "]
)
def test_an_allowed_name_leads_to_nothing_else(tmp_path, name):
    path = tmp_path / "x.pickle"
    assert MOLECULES.strict and len(MOLECULES.functions) == 4 and not MOLECULES.values
    for module, known in MOLECULES.functions:
        text = (name % known if "%" in name else name).encode()
        names = (
            b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(text)]) + text
        )
        path.write_bytes(b"\x80\x04]" + names + b"\x93)Ra.")
        assert f"it names {module}.{text.decode().strip()}" in refusal(read_pickle, path)


def test_a_tensor_takes_no_state_and_an_array_is_not_on_the_list(tmp_path):
    path = tmp_path / "x.pickle"
    call, args = torch.arange(6).__reduce_ex__(2)
    for state in ((1, (1 << 20,), np.dtype("i8"), False, b""), {"x": 1}):

        class Stated:
            def __reduce__(self, state=state):
                return call, args, state

        path.write_bytes(pickle.dumps([Stated()], 3))
        assert "holds more than molecules" in refusal(read_pickle, path)
    path.write_bytes(pickle.dumps([np.arange(3)], 3))
    assert "it names numpy" in refusal(read_pickle, path)


def read_pickle_works(folder):
    path = folder / "good.pickle"
    path.write_bytes(pickle.dumps([{"t": torch.arange(6).reshape(2, 3)}], 3))
    return read_pickle(path)[0]["t"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(-7, 5), torch.tensor([300, -2]), torch.tensor(5), torch.zeros(0, dtype=torch.long),
        torch.rand(3, dtype=torch.float64), torch.rand(2, 3), torch.arange(6, dtype=torch.int32).reshape(1, 2, 3),
        torch.tensor([1, 2], dtype=torch.uint8),
    ],
)  # fmt: skip
def test_tensors_come_back_exactly(tmp_path, tensor):
    (tmp_path / "x.pickle").write_bytes(pickle.dumps([tensor], 3))
    (found,) = read_pickle(tmp_path / "x.pickle")
    assert found.shape == tuple(tensor.shape)
    np.testing.assert_array_equal(found, tensor.numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(2, 3).T,
        torch.arange(9)[2:],
        torch.arange(9)[:3],
        torch.tensor([1 + 2j]),
    ],
)
def test_views_and_odd_types_are_refused(tmp_path, tensor):
    (tmp_path / "x.pickle").write_bytes(pickle.dumps([tensor], 3))
    assert "it holds a tensor" in refusal(read_pickle, tmp_path / "x.pickle")


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    root = zinc(tmp_path)
    (root / "raw" / "test.index").write_text("0,4\n")
    assert "names row 4 and there are 4" in refusal(read, root)
    (root / "raw" / "test.index").write_text("0,x\n")
    assert "should hold row numbers with commas" in refusal(read, root)
    for change in (
        {"bond_type": torch.zeros(2, 2)},
        {"atom_type": None},
        {"logP_SA_cycle_normalized": torch.zeros(2)},
    ):
        molecule = {
            "num_atom": 3, "atom_type": torch.tensor([6, 6, 8]), "bond_type": torch.zeros(3, 3, dtype=torch.long),
            "logP_SA_cycle_normalized": torch.tensor([1.0]),
        }  # fmt: skip
        (root / "raw" / "train.pickle").write_bytes(pickle.dumps([molecule | change], 3))
        assert "isn't the list of molecules that ZINC is" in refusal(
            lambda: read(root, "zinc-full")
        )
    one_way = torch.zeros(3, 3, dtype=torch.long)
    one_way[0, 1] = 1
    (root / "raw" / "train.pickle").write_bytes(pickle.dumps([molecule | {
        "bond_type": one_way, "logP_SA_cycle_normalized": torch.tensor([1.0])}], 3))  # fmt: skip
    assert "both directions" in refusal(lambda: read(root, "zinc-full"))


def test_processed_files_that_run_something_are_inert(tmp_path):
    folder = tmp_path / "subset" / "processed"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    torch.save(({"x": Danger(tmp_path / "ran")}, {}, Danger), buffer)
    for part in ("train", "val", "test"):
        (folder / f"{part}.pt").write_bytes(buffer.getvalue())
    assert "is no processed file of ZINC that can be read" in refusal(read, tmp_path)
    assert not (tmp_path / "ran").exists()
    (folder / "train.pt").write_bytes(b"PK\x03\x04 rubbish")
    assert "is no processed file of ZINC that can be read" in refusal(read, tmp_path)


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=200)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, raw, place, value):
    path = tmp_path_factory.getbasetemp() / "any.pickle"
    whole = bytearray(pickle.dumps([{"atom_type": torch.arange(3), "n": len(SMILES)}], 3))
    whole[place % len(whole)] = value
    for content in (raw, bytes(whole)):
        path.write_bytes(content)
        try:
            assert isinstance(read_pickle(path), list)
        except UserError as error:
            assert "\n" not in str(error)
