"""ZINC with penalised logP, the 12,000 molecules of Dwivedi et al. 2020 (arXiv:2003.00982) or all 249,456, as graphs.

Its files are pickles, and a pickle can name any function to call. Two ways of reading them are safe, and these are the
only ones taken here, both by core's reader, which runs nothing: torch-geometric's processed tensors, and the published
pickles, of which it is told to know lists, dictionaries, numbers and the bytes of tensors, and to refuse other names.
torch-geometric's own reader (data.source = "pyg:ZINC") unpickles freely.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_tree
from isoform.core.pretrained.unpickler import ERRORS, AllowList, Refused, encode_latin1, unpickle
from isoform.molecules.config import DataConfig
from isoform.molecules.data.graphs import concatenate, offsets_of
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
    b"Long": "<i8",
    b"Int": "<i4",
    b"Short": "<i2",
    b"Char": "i1",
    b"Byte": "u1",
    b"Float": "<f4",
    b"Double": "<f8",
}


def read_zinc(data: DataConfig) -> Labelled:
    """ZINC-12k (data.source = "zinc12k") or all of it ("zinc-full"), with its own split (data.split = given).

    An atom has one feature (its type, of 28), and a bond one (its type), as in torch-geometric.
    The processed files are read where they are there, which takes seconds; the pickles of all molecules take about a
    minute, also for 12,000 of them, and 2 GB. Raises UserError naming a missing file and where it comes from.
    """
    for key in ("smiles", "label", "classes"):
        if getattr(data, key) is not None:
            raise UserError(
                f'data.{key} is set, but data.source = "{data.source}" knows its columns; unset it'
            )
    if data.task not in ("auto", "regression"):
        raise UserError(f"data.task = {data.task}: the target of ZINC is a number; use regression")
    if any(name != TARGET for name in data.targets or ()):
        raise UserError(f'data.targets: ZINC has one target, "{TARGET}"')
    where = data.root or data.path
    if where is None:
        raise UserError(
            f"data.root is not set: give the folder of {_ABOUT}, --set data.root=FOLDER"
        )
    root = Path(where).expanduser()
    subset = data.source == "zinc12k"
    processed = root / ("subset" if subset else "full") / "processed"
    files = [processed / f"{part}.pt" for part in _PARTS]
    if all(file.is_file() for file in files):
        parts = [_processed(file) for file in files]
    else:
        files, parts = _published(root, subset)
    graphs = concatenate([graphs for graphs, _ in parts])
    counts = tuple(len(values) for _, values in parts)
    findings = []
    if counts != COUNTS[data.source]:
        known = ", ".join(map(str, COUNTS[data.source]))
        findings.append(
            f"train, val and test are {', '.join(map(str, counts))} where {data.source} has {known}"
        )
    return Labelled(
        smiles=[""] * len(graphs),
        names=[
            f"{part} {row}"
            for part, count in zip(_PARTS, counts, strict=True)
            for row in range(count)
        ],
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


# --- torch-geometric's processed files -------------------------------------------------------------------------------


def _processed(path: Path) -> tuple[PackedGraphs, np.ndarray]:
    """(graphs, labels) of (tensors by name, slices by name, a class that is not looked up)."""
    try:
        content = read_tree(path)
        tensors, slices = content[0], content[1]
        array = {name: np.asarray(tensors[name]) for name in ("x", "edge_index", "edge_attr", "y")}
        offsets = {name: np.asarray(slices[name]).astype(np.int64) for name in ("x", "edge_index")}
    except (*ERRORS, UserError) as error:
        raise UserError(
            f"{path}: is no processed file of ZINC that can be read ({_said(error, path)})"
        ) from None
    labels = array["y"].astype(np.float64).reshape(-1)
    if len(labels) != len(offsets["x"]) - 1:
        raise UserError(f"{path}: has {len(labels)} labels for {len(offsets['x']) - 1} graphs")
    graphs = pack(
        array["x"],
        array["edge_index"],
        array["edge_attr"],
        offsets["x"],
        offsets["edge_index"],
        str(path),
    )
    return graphs, labels


# --- the published pickles -------------------------------------------------------------------------------------------


def _published(
    root: Path, subset: bool
) -> tuple[list[Path], list[tuple[PackedGraphs, np.ndarray]]]:
    folder = next(
        (f for f in (root / "raw", root / "molecules", root) if (f / "train.pickle").is_file()),
        root / "raw",
    )
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
        raise UserError(
            f"{path}: names row {max(rows, default=-1)} and there are {n}; the files don't belong together"
        )
    return rows


def _packed(molecules: list[Any], path: Path) -> tuple[PackedGraphs, np.ndarray]:
    atoms, begin, end, kinds, labels, sizes, bonds = [], [], [], [], [], [], []
    try:
        for molecule in molecules:
            kind, adjacency = molecule["atom_type"], molecule["bond_type"]
            if adjacency.shape != (len(kind), len(kind)):
                raise Refused(
                    f"a molecule of {len(kind)} atoms has bonds of shape {adjacency.shape}"
                )
            i, j = adjacency.nonzero()
            atoms.append(kind.reshape(-1))
            begin.append(i)
            end.append(j)
            kinds.append(adjacency[i, j])
            sizes.append(len(kind))
            bonds.append(len(i))
            labels.append(float(np.asarray(molecule["logP_SA_cycle_normalized"]).reshape(())))
    except ERRORS as error:
        raise UserError(
            f"{path}: isn't the list of molecules that ZINC is ({_said(error, path)})"
        ) from None
    none = [np.zeros(0, np.int64)]
    ends = np.stack([np.concatenate(begin or none), np.concatenate(end or none)])
    x, attributes = np.concatenate(atoms or none), np.concatenate(kinds or none)
    return pack(x, ends, attributes, offsets_of(sizes), offsets_of(bonds), str(path)), np.array(
        labels
    )


def _said(error: BaseException, path: Path) -> str:
    return " ".join(str(error).removeprefix(f"{path}: ").split())[:120] or type(error).__name__


def read_pickle(path: Path) -> list[Any]:
    """The list in a pickle of lists, dictionaries, numbers, texts and tensors; tensors come as small numpy arrays.

    Raises UserError for a pickle that names anything else, before it is called.
    """
    try:
        with open(path, "rb") as file:
            found = unpickle(file, allow=MOLECULES, encoding="latin1")
    except (*ERRORS, OSError) as error:
        raise UserError(
            f"{path}: holds more than molecules, and is not read, or is damaged ({_said(error, path)})"
        ) from None
    if not isinstance(found, list):
        raise UserError(
            f"{path}: holds a {type(found).__name__} where the list of ZINC's molecules is expected"
        )
    return found


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise Refused("it holds a tensor that isn't bytes")
    return data


def _tensor(data: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A whole storage as an array of the smallest type that holds its values.

    The bytes are a file of torch.save from before 1.6. It ends in the count of numbers and the numbers themselves,
    which is all that is needed but the type, so the pickles in front of them aren't read at all.
    """
    if not (
        isinstance(data, bytes)
        and data.startswith(_LEGACY)
        and isinstance(size, tuple)
        and offset == 0
    ):
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


MOLECULES = AllowList(
    {
        ("torch.storage", "_load_from_bytes"): _bytes,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("collections", "OrderedDict"): lambda *_: {},
        ("_codecs", "encode"): encode_latin1,
    },
    strict=True,
)
"""The four names in the pickles of ZINC; ours only put bytes together."""
