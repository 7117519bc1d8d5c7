"""The reader of foreign files: what it reads, and what it must never do."""

from __future__ import annotations

import argparse
import functools
import io
import pickle
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_checkpoint, read_plain_pickle
from isoform.core.pretrained.unpickler import CHECKPOINT, AllowList, Placeholder

EXECUTED: list[str] = []


class Evil:
    """Unpickling it in the usual way would append to EXECUTED."""

    def __reduce__(self) -> Any:
        return EXECUTED.append, ("run",)


class EvilCall:
    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('evil').touch()",)


class EvilState:
    def __reduce__(self) -> Any:
        return OrderedDict, (), (None, {"__setitem__": print})


def tree() -> dict[str, Any]:
    base = torch.randn(5, 7)
    return {
        "model": OrderedDict(
            weight=base, transposed=base.t(), row=base[2], scalar=torch.tensor(3), empty=torch.empty(0, 3),
            half=torch.randn(3).half(), brain=torch.randn(3).bfloat16(), flags=torch.tensor([True, False]),
            parameter=torch.nn.Parameter(torch.randn(2, 3)),
        ),
        "epoch": 7, "best": {"acc": 0.5, "names": ["a", "b"], "pair": (1, None), "set": {1, 2}},
        "size": torch.Size([1, 2]), "device": torch.device("cpu"), "dtype": torch.float16,
    }  # fmt: skip


def assert_tree(found: dict[str, Any], made: dict[str, Any]) -> None:
    assert found["model"].keys() == made["model"].keys()
    for name, tensor in made["model"].items():
        assert found["model"][name].dtype == tensor.dtype
        assert torch.equal(found["model"][name], tensor)
    assert found["epoch"] == 7 and found["best"] == made["best"] and found["size"] == (1, 2)
    assert found["device"] == "cpu" and found["dtype"] == torch.float16


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_torch_files(tmp_path: Path, new: bool) -> None:
    made = tree()
    torch.save(made, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    assert_tree(read_checkpoint(tmp_path / "a.pth"), made)


def test_safetensors_and_npz(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 5), "b": torch.arange(7)}
    save_file(tensors, tmp_path / "a.safetensors")
    np.savez(
        tmp_path / "a.npz",
        **{"x/y": np.eye(3, dtype=np.float32), "z": np.asfortranarray(np.arange(6).reshape(2, 3))},
    )
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    arrays = read_checkpoint(tmp_path / "a.npz")
    assert torch.equal(arrays["x/y"], torch.eye(3)) and arrays["z"].tolist() == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_numpy_scalars_arrays_and_namespaces(tmp_path: Path) -> None:
    made = {
        "acc": np.float64(0.25),
        "table": np.arange(6, dtype=">i4").reshape(2, 3),
        "args": argparse.Namespace(lr=0.1),
    }
    for new in (True, False):
        torch.save(made, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        found = read_checkpoint(tmp_path / "a.pth")
        assert found["acc"] == 0.25 and type(found["acc"]) is float
        assert (found["table"] == made["table"]).all() and found["args"] == {"lr": 0.1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles(tmp_path: Path, protocol: int) -> None:
    made = {
        b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
        b"labels": [1, 2, 3],
        b"label": b"x",
        b"n": np.int64(4),
    }
    (tmp_path / "batch").write_bytes(pickle.dumps(made, protocol))
    found = read_plain_pickle(tmp_path / "batch")
    assert (found[b"data"] == made[b"data"]).all() and found[b"labels"] == [1, 2, 3]
    assert found[b"label"] == b"x" and found[b"n"] == 4


def test_a_pickle_of_python_2() -> None:
    # protocol 2 with numpy.core.multiarray._reconstruct and byte strings as text, as CIFAR's batches
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I2\nI2\ntcnumpy\ndtype\n(U\x02u1"
        b"I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\nU\x04\x01\x02\xff\x04tb"
    )
    path = Path("batch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: b"\x80\x02}U\x04data" + array + b"s.")
        patch.setattr(Path, "stat", lambda self: argparse.Namespace(st_size=100))
        assert read_plain_pickle(path)[b"data"].tolist() == [[1, 2], [255, 4]]


@pytest.mark.parametrize("evil", [Evil(), EvilCall(), functools.partial(torch.optim.AdamW, lr=1.0)])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: Any, new: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    EXECUTED.clear()
    torch.save(
        {"hyper_parameters": evil, "state_dict": {"a": torch.ones(2)}},
        "a.ckpt",
        _use_new_zipfile_serialization=new,
    )
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert isinstance(found["hyper_parameters"], Placeholder)
    assert torch.equal(found["state_dict"]["a"], torch.ones(2))
    assert not EXECUTED and not (tmp_path / "evil").exists()


def test_unknown_modules_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(b"\x80\x04\x8c\x0bantigravity\x8c\x01S\x93)R.")
    sys.modules.pop("antigravity", None)
    assert isinstance(read_plain_pickle(tmp_path / "batch"), Placeholder)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x01ak\x86b.",  # BUILD on one of our functions
        b"\x80\x02ccollections\nOrderedDict\nN}U\x07__new__NS\x86b.",
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes without end
        b"\x80\x02" + b"(" * 100 + b".",
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x01O\x85RU\x01x\x86R.",  # an object array
        b"\x80\x02U\x01xQ.",  # a persistent id
        b"",
        b"garbage",
    ],
)
def test_crafted_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "batch").write_bytes(data)
    with pytest.raises(UserError, match="batch: not a checkpoint"):
        read_plain_pickle(tmp_path / "batch")


class Stated:
    """Pickled as a call of `function`, then a change of what it made by `state`."""

    def __init__(self, made: tuple[Any, ...], state: Any) -> None:
        self.made, self.state = made, state

    def __reduce__(self) -> Any:
        return (*self.made, self.state)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "state", [(True, None, {}), (torch.ones(1), 0, (1 << 20,), (1,)), {"data": 1}]
)
def test_a_tensor_can_t_be_changed_by_its_file(tmp_path: Path, state: Any, new: bool) -> None:
    """Tensor.__setstate__ would allocate what the state asks for and hang hooks on it."""
    call, args = torch.arange(6.0).reshape(2, 3).__reduce_ex__(2)
    torch.save(
        {"a": Stated((call, args), state)}, tmp_path / "a.pth", _use_new_zipfile_serialization=new
    )
    with pytest.raises(UserError, match="changes what it may only use"):
        read_checkpoint(tmp_path / "a.pth")


def test_attributes_of_a_state_dict_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(
        pickle.dumps({"x": Stated((OrderedDict, ([("a", 1)],)), {"items": 3})})
    )
    assert list(read_plain_pickle(tmp_path / "batch")["x"].items()) == [("a", 1)]


@pytest.mark.parametrize(
    "name", ["torch._utils\n_rebuild_tensor_v2", "argparse\nNamespace", "torch\nfloat32"]
)
@pytest.mark.parametrize(
    "change", [b"}U\x01ak\x86b.", b"}U\x07contentNsb.", b"N}U\x07contentNs\x86b.", b"U\x01xR."]
)
def test_what_a_name_stands_for_can_t_be_changed(tmp_path: Path, name: str, change: bytes) -> None:
    (tmp_path / "batch").write_bytes(b"\x80\x02c" + name.encode() + b"\n" + change)
    with pytest.raises(UserError, match="batch: not a checkpoint"):
        read_plain_pickle(tmp_path / "batch")


@pytest.mark.parametrize("strict", [False, True])
def test_a_name_on_the_list_builds_nothing_else(tmp_path: Path, strict: bool) -> None:
    """Neither a path through an allowed name's attributes nor its module leads on, at any protocol."""
    allow = AllowList(CHECKPOINT.functions, CHECKPOINT.values, strict)
    for module, name in [*allow.functions, *allow.values]:
        for wrong in (
            f"{name}.__init__",
            f"{name}.__globals__",
            "__init__",
            f"{name}.content",
            f"{name} ",
        ):
            text = wrong.encode()
            body = (
                b"\x80\x04\x8c"
                + bytes([len(module)])
                + module.encode()
                + b"\x8c"
                + bytes([len(text)])
                + text
            )
            (tmp_path / "batch").write_bytes(body + b"\x93)R.")
            if allow.strict:
                with pytest.raises(UserError, match=f"it names {module}"):
                    read_plain_pickle(tmp_path / "batch", allow=allow)
            else:
                assert isinstance(read_plain_pickle(tmp_path / "batch", allow=allow), Placeholder)


def test_a_strict_list_refuses_what_another_list_knows(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps({"x": np.arange(3)}))
    with pytest.raises(UserError, match=r"it names numpy"):
        read_plain_pickle(tmp_path / "batch", allow=AllowList({}, strict=True))
    counted = AllowList({("collections", "Counter"): lambda items=(): sorted(items)}, strict=True)
    (tmp_path / "batch").write_bytes(pickle.dumps(Counter("hello")))
    assert read_plain_pickle(tmp_path / "batch", allow=counted) == ["e", "h", "l", "o"]


def test_shared_tuples_don_t_explode(tmp_path: Path) -> None:
    value: Any = (1,)
    for _ in range(200):
        value = (value, value)
    (tmp_path / "batch").write_bytes(pickle.dumps(value))
    assert len(read_plain_pickle(tmp_path / "batch")) == 2


def test_a_changed_function_stays_ours(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps({"x": EvilState()}))
    read_plain_pickle(tmp_path / "batch")
    assert OrderedDict([(1, 2)])[1] == 2


@settings(max_examples=60)
@given(st.data())
def test_every_flipped_or_missing_part_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """PyTorch itself reads a flipped bit without a word; the zip's checksums tell."""
    folder = tmp_path_factory.mktemp("flip")
    torch.save({"a": torch.arange(1000.0)}, folder / "a.pth")
    content = bytearray((folder / "a.pth").read_bytes())
    with zipfile.ZipFile(folder / "a.pth") as archive:
        member = next(m for m in archive.infolist() if m.filename.endswith("data/0"))
    place = content.find(struct.pack("<f", 999.0)) - data.draw(st.integers(0, 3900))
    assert member.header_offset < place
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "b.pth").write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"b\.pth"):
        read_checkpoint(folder / "b.pth")
    cut = data.draw(st.integers(0, len(content) - 1))
    (folder / "c.pth").write_bytes((folder / "a.pth").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"c\.pth"):
        read_checkpoint(folder / "c.pth")


def test_truncated_legacy_safetensors_and_npz(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(100.0)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    save_file({"a": torch.arange(100.0)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", a=np.arange(100.0))
    for name in ("a.pth", "a.safetensors", "a.npz"):
        content = (tmp_path / name).read_bytes()
        for cut in (0, 1, 7, 9, len(content) // 2, len(content) - 1):
            (tmp_path / f"cut-{name}").write_bytes(content[:cut])
            with pytest.raises(UserError, match=f"cut-{name}"):
                read_checkpoint(tmp_path / f"cut-{name}")


def test_claims_beyond_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2 << 30) + b"{}")
    with pytest.raises(UserError, match=r"header claims 2147483648 bytes in a file of 10"):
        read_checkpoint(tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(1))
        archive.writestr("a.npy", buffer.getvalue() + bytes(80 << 20))
    with pytest.raises(UserError, match=r"bytes claim to hold"):
        read_checkpoint(tmp_path / "bomb.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    )
    with zipfile.ZipFile(tmp_path / "shape.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(UserError, match="claims more numbers"):
        read_checkpoint(tmp_path / "shape.npz")
    np.savez(tmp_path / "object.npz", a=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match="plain numbers"):
        read_checkpoint(tmp_path / "object.npz")
    assert not EXECUTED


def test_a_compressed_torch_file_and_other_archives_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(9)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(UserError, match="compressed"):
        read_checkpoint(tmp_path / "b.pth")
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(UserError, match="neither a PyTorch checkpoint nor"):
        read_checkpoint(tmp_path / "c.pth")


def test_missing_and_other_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UserError, match="can't be read"):
        read_checkpoint(tmp_path)
    (tmp_path / "a.txt").write_text("hello, world")
    with pytest.raises(UserError, match="none of"):
        read_checkpoint(tmp_path / "a.txt")


def test_the_lightning_checkpoint(golden_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    state = read_checkpoint(golden_dir / "adit" / "adit_lightning_layout.ckpt")["state_dict"]
    seen = 0
    for prefix, case in (("autoencoder.", "adit_vae_joint"), ("denoiser.", "adit_dit")):
        stored = load_file(golden_dir / "adit" / f"{case}.safetensors")
        for name in (n for n in state if n.startswith(prefix)):
            assert torch.equal(state[name], stored["weights/" + name.removeprefix(prefix)])
            seen += 1
    assert seen == len(state) == 104
    assert "CANARY" not in capsys.readouterr().out
