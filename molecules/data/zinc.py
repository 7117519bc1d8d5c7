"""ZINC with penalised logP, the 12,000 molecules of Dwivedi et al. 2020 (arXiv:2003.00982) or all 249,456, as graphs.

Its files are pickles, and a pickle can name any function to call. Two ways of reading them are safe, and these are the
only ones taken here: torch-geometric's processed tensors through core's reader, which runs nothing, and the published
pickles through one that knows lists, dictionaries, numbers and the bytes of tensors, and refuses every other name.
torch-geometric's own reader (data.name = "pyg:ZINC") unpickles freely.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isoform.core.errors import UserError
from isoform.core.pretrained.unpickler import ERRORS, Refused, RestrictedUnpickler, Storage, unpickle
from isoform.molecules.config import DataConfig
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.pack import pack
from isoform.molecules.data.records import PackedGraphs

COUNTS = {"zinc12k": (10_000, 1_000, 1_000), "zinc-full": (220_011, 24_445, 5_000)}
TARGET = "penalised logP"
_PARTS = ("train", "val", "test")
_ABOUT = (
    "ZINC as torch-geometric keeps it (folders raw and subset/processed or full/processed), or molecules.zip linked at "
    "https://github.com/graphdeeplearning/benchmarking-gnns with train.index, val.index and test.index of its "
    "data/molecules"
)
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # how torch.save began before 1.6
_KIND = re.compile(rb"ctorch\n(\w+)Storage\n")
_DTYPES = {
    b"Long": "<i8", b"Int": "<i4", b"Short": "<i2", b"Char": "i1", b"Byte": "u1", b"Float": "<f4", b"Double": "<f8",
}  # fmt: skip


def read_zinc(data: DataConfig) -> Labelled:
    """ZINC-12k (data.name = "zinc12k") or all of it ("zinc-full"), with its own split (data.split = given).

    An atom has one feature (its type, of 28), and a bond one (its type), as in torch-geometric.
    The processed files are read where they are there, which takes seconds; the pickles of all molecules take about a
    minute, also for 12,000 of them, and 2 GB. Raises UserError naming a missing file and where it comes from.
    """
    for key in ("smiles", "label", "classes"):
        if getattr(data, key) is not None:
            raise UserError(f'data.{key} is set, but data.name = "{data.name}" knows its columns; unset it')
    if data.task not in ("auto", "regression"):
        raise UserError(f"data.task = {data.task}: the target of ZINC is a number; use regression")
    if any(name != TARGET for name in data.targets or ()):
        raise UserError(f'data.targets: ZINC has one target, "{TARGET}"')
    where = data.root or data.path
    if where is None:
        raise UserError(f"data.root is not set: give the folder of {_ABOUT}, --set data.root=FOLDER")
    root = Path(where).expanduser()
    subset = data.name == "zinc12k"
    processed = root / ("subset" if subset else "full") / "processed"
    files = [processed / f"{part}.pt" for part in _PARTS]
    if all(file.is_file() for file in files):
        parts = [_processed(file) for file in files]
    else:
        files, parts = _published(root, subset)
    graphs = _joined([graphs for graphs, _ in parts])
    counts = tuple(len(values) for _, values in parts)
    findings = []
    if counts != COUNTS[data.name]:
        known = ", ".join(map(str, COUNTS[data.name]))
        findings.append(f"train, val and test are {', '.join(map(str, counts))} where {data.name} has {known}")
    return Labelled(
        smiles=[""] * len(graphs),
        names=[f"{part} {row}" for part, count in zip(_PARTS, counts, strict=True) for row in range(count)],
        targets=np.concatenate([values for _, values in parts])[:, None],
        target_names=[TARGET],
        units=[""],
        split=np.repeat(np.array(_PARTS, dtype=object), counts),
        graphs=graphs,
        origin="ZINC-12k" if subset else "ZINC (full)",
        licence="unstated (ZINC is free to use)",
        sha256=_digest(files),
        findings=findings,
        task="regression",
    )


def _digest(paths: list[Path]) -> str:
    sha = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def _joined(parts: list[PackedGraphs]) -> PackedGraphs:
    def offsets(each: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(one) for one in each]))])

    return PackedGraphs(
        np.concatenate([part.atoms for part in parts]),
        np.concatenate([part.bonds for part in parts]),
        np.concatenate([part.ends for part in parts]),
        offsets([part.atom_offsets for part in parts]),
        offsets([part.bond_offsets for part in parts]),
    )


# --- torch-geometric's processed files -------------------------------------------------------------------------------


def _processed(path: Path) -> tuple[PackedGraphs, np.ndarray]:
    """(graphs, labels) of (tensors by name, slices by name, a class that is not looked up)."""
    try:
        content = _read_tensors(path)
        tensors, slices = content[0], content[1]
        array = {name: np.asarray(tensors[name]) for name in ("x", "edge_index", "edge_attr", "y")}
        offsets = {name: np.asarray(slices[name]).astype(np.int64) for name in ("x", "edge_index")}
    except (*ERRORS, OSError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: is no processed file of ZINC that can be read ({said})") from None
    labels = array["y"].astype(np.float64).reshape(-1)
    if len(labels) != len(offsets["x"]) - 1:
        raise UserError(f"{path}: has {len(labels)} labels for {len(offsets['x']) - 1} graphs")
    graphs = pack(array["x"], array["edge_index"], array["edge_attr"], offsets["x"], offsets["edge_index"], str(path))
    return graphs, labels


def _read_tensors(path: Path) -> Any:
    """The tree in a file of torch.save, by core's unpickler; a class becomes an inert placeholder."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
        if root is None or any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise Refused("it isn't as torch.save writes it")
        if sum(member.file_size for member in members.values()) > path.stat().st_size:
            raise Refused("its members claim more bytes than the file has")

        def storage(dtype: torch.dtype, key: str, numbers: int) -> Storage:
            raw = bytearray(archive.read(f"{root}data/{key}"))
            if len(raw) != numbers * dtype.itemsize:
                raise Refused(f"its storage {key} has {len(raw)} bytes, not {numbers * dtype.itemsize}")
            return Storage(torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype))

        return unpickle(archive.read(f"{root}data.pkl"), storage)


# --- the published pickles -------------------------------------------------------------------------------------------


def _published(root: Path, subset: bool) -> tuple[list[Path], list[tuple[PackedGraphs, np.ndarray]]]:
    folder = next((f for f in (root / "raw", root / "molecules", root) if (f / "train.pickle").is_file()), root / "raw")
    files, parts = [], []
    for part in _PARTS:
        path = folder / f"{part}.pickle"
        files.append(path)
        if subset:
            files.append(folder / f"{part}.index")
        for file in files:
            if not file.is_file():
                raise UserError(f"{file}: no such file; it is part of {_ABOUT}")
        molecules = read_pickle(path)
        rows = _rows(folder / f"{part}.index", len(molecules)) if subset else range(len(molecules))
        parts.append(_packed([molecules[row] for row in rows], path))
        del molecules
    return files, parts


def _rows(path: Path, n: int) -> list[int]:
    """The rows that the 12,000 are, in one line."""
    try:
        numbers = path.read_text(encoding="ascii").replace("\n", ",").split(",")
        rows = [int(number) for number in numbers if number.strip()]
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: should hold row numbers with commas ({error})") from None
    if not rows or min(rows) < 0 or max(rows) >= n:
        raise UserError(f"{path}: names row {max(rows, default=-1)} and there are {n}; the files don't belong together")
    return rows


def _packed(molecules: list[Any], path: Path) -> tuple[PackedGraphs, np.ndarray]:
    atoms, begin, end, kinds, labels, sizes, bonds = [], [], [], [], [], [], []
    try:
        for molecule in molecules:
            kind, adjacency = molecule["atom_type"], molecule["bond_type"]
            if adjacency.shape != (len(kind), len(kind)):
                raise Refused(f"a molecule of {len(kind)} atoms has bonds of shape {adjacency.shape}")
            i, j = adjacency.nonzero()
            atoms.append(kind.reshape(-1))
            begin.append(i)
            end.append(j)
            kinds.append(adjacency[i, j])
            sizes.append(len(kind))
            bonds.append(len(i))
            labels.append(float(np.asarray(molecule["logP_SA_cycle_normalized"]).reshape(())))
    except ERRORS as error:
        raise UserError(f"{path}: isn't the list of molecules that ZINC is ({_said(error)})") from None
    none = [np.zeros(0, np.int64)]
    graphs = pack(
        np.concatenate(atoms or none), np.stack([np.concatenate(begin or none), np.concatenate(end or none)]),
        np.concatenate(kinds or none), _offsets(sizes), _offsets(bonds), str(path),
    )  # fmt: skip
    return graphs, np.array(labels)


def _offsets(sizes: list[int]) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_pickle(path: Path) -> list[Any]:
    """The list in a pickle of lists, dictionaries, numbers, texts and tensors; tensors come as small numpy arrays.

    Raises UserError for a pickle that names anything else, before it is called.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for operation, argument, _ in pickletools.genops(file):
                # Python's reader would allocate a memo of that many entries at once.
                if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > size:  # type: ignore[arg-type]
                    raise Refused("it asks for more memory than it can use")
            file.seek(0)
            found = _Tensors(file, None, "latin1").load()
    except (*ERRORS, OSError) as error:
        raise UserError(f"{path}: holds more than molecules, and is not read, or is damaged ({_said(error)})") from None
    if not isinstance(found, list):
        raise UserError(f"{path}: holds a {type(found).__name__} where the list of ZINC's molecules is expected")
    return found


class _Known:
    """A function of ours under the name that the pickle calls; without attributes that the pickle could change."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("it changes a function")


class _Tensors(RestrictedUnpickler):
    """Knows four names, all of which only put bytes together; every other one is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of ours. Raises Refused."""
        if (module, name) not in _NAMES:
            raise Refused(f"it names {module}.{name}"[:120])
        return _Known(_NAMES[module, name])

    def persistent_load(self, pid: Any) -> Any:
        """Nothing lies outside."""
        raise pickle.UnpicklingError("it refers to something outside itself")


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise Refused("it holds a tensor that isn't bytes")
    return data


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it holds text in an unusual encoding")
    return text.encode("latin1")


def _tensor(data: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A whole storage as an array of the smallest type that holds its values.

    The bytes are a file of torch.save from before 1.6. It ends in the count of numbers and the numbers themselves,
    which is all that is needed but the type, so the pickles in front of them aren't read at all.
    """
    if not (isinstance(data, bytes) and data.startswith(_LEGACY) and isinstance(size, tuple) and offset == 0):
        raise Refused("it holds a tensor of an unknown kind")
    if not all(type(n) is int and n >= 0 for n in size) or len(size) > 3:
        raise Refused("it holds a tensor of impossible shape")
    numbers = math.prod(size)
    steps = tuple(math.prod(size[place + 1 :]) for place in range(len(size)))
    if numbers > 1 and tuple(stride) != steps:
        raise Refused("it holds a tensor that isn't contiguous")
    kinds = _KIND.findall(data, 0, 1024)
    if len(kinds) != 1 or kinds[0] not in _DTYPES:
        raise Refused("it holds a tensor of an unknown type")
    dtype = np.dtype(_DTYPES[kinds[0]])
    head = len(data) - numbers * dtype.itemsize
    if head < 8 or int.from_bytes(data[head - 8 : head], "little") != numbers:
        raise Refused(f"it holds a tensor of shape {list(size)} with another number of values")
    values = np.frombuffer(data, dtype, numbers, head)
    if dtype.kind in "iu" and numbers and values.min() >= -128 and values.max() <= 127:
        values = values.astype(np.int8)
    return values.reshape(size).copy()


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch.storage", "_load_from_bytes"): _bytes,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("collections", "OrderedDict"): lambda *_: {},
    ("_codecs", "encode"): _encoded,
}
