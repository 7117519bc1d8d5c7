"""Any data set of torch-geometric by name: data.source = "pyg:ZINC", "pyg:MoleculeNet/ESOL", "pyg:TUDataset/MUTAG".

torch-geometric reads, and where it must makes, its own processed files below data.root. It unpickles them: a file there
can run code, so take such folders from where you would take code. The safe readers are data.source = zinc12k,
zinc-full, pcqm4mv2 and the csv's of MoleculeNet.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.columns import pick
from isoform.molecules.data.graphs import offsets_of
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.pack import pack

_PARTS = ("train", "val", "test")


def read_pyg(data: DataConfig) -> Labelled:
    """The data set behind data.source = "pyg:NAME" or "pyg:NAME/PART" (PART as its argument `name`, or subset).

    Labels are its `y`, called y, or y0, y1, ...; QM9's have their names and units. Data sets that carry SMILES are read
    as SMILES and featurised here; others as graphs, whose features must be categories. `split` is that of data sets
    which have one. Nothing is downloaded unless data.download.
    Raises UserError for an unknown name, files that are missing, and graphs that no molecule has.
    """
    for key in ("path", "smiles", "label"):
        if getattr(data, key) is not None:
            raise UserError(
                f"data.{key} is set, but data.source = {data.source} is read by torch-geometric; unset it"
            )
    name, _, part = data.source.removeprefix("pyg:").partition("/")
    graphs: list[Any] = []
    splits: list[str] = []
    for split, dataset in _datasets(name, part, data):
        with _explained(data.source):
            graphs += list(dataset)
        splits += [split] * (len(graphs) - len(splits))
    if len(graphs) < 2:
        raise UserError(f"{data.source}: holds {len(graphs)} graph, and so no set of molecules")
    where = data.source
    labels, whole = _labels(graphs, where)
    names, units = _target_names(name, labels.shape[1])
    chosen = (
        names
        if data.targets is None
        else [pick(one, names, where, "data.targets") for one in data.targets]
    )
    labels = labels[:, [names.index(one) for one in chosen]]
    task, classes, findings = _task(labels, whole, data)
    smiles = [getattr(graph, "smiles", None) for graph in graphs]
    written = all(isinstance(text, str) for text in smiles)
    return Labelled(
        smiles=[str(text).strip() for text in smiles] if written else [""] * len(graphs),
        names=[f"graph {row}" for row in range(len(graphs))],
        targets=labels,
        target_names=chosen,
        units=[units[names.index(one)] for one in chosen],
        split=np.array(splits, dtype=object) if any(splits) else None,
        graphs=None if written else pack_all(graphs, where),
        origin=f"{data.source} (torch-geometric)",
        licence="unstated",
        findings=findings,
        task=task,
        classes=classes,
    )


def _datasets(name: str, part: str, data: DataConfig) -> Iterator[tuple[str, Any]]:
    """(split, data set) for each of its splits, or ("", data set)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what torch-geometric still uses
            import torch_geometric.datasets as known
            from torch_geometric.data import Dataset
    except ImportError:
        raise UserError(
            f"{data.source}: needs torch-geometric; pip install torch-geometric"
        ) from None
    kinds = {
        key: value
        for key, value in vars(known).items()
        if inspect.isclass(value) and issubclass(value, Dataset)
    }
    if name not in kinds:
        raise UserError(
            f"{data.source}: torch-geometric has no data set {name}{suggest(name, kinds)}"
        )
    kind = kinds[name]
    takes = inspect.signature(kind.__init__).parameters
    settings: dict[str, Any] = {}
    if "root" in takes:
        if data.root is None:
            raise UserError(
                f"data.root is not set: give the folder of {data.source}'s files, --set data.root=FOLDER"
            )
        settings["root"] = str(Path(data.root).expanduser())
    if part and part == "subset" and "subset" in takes:
        settings["subset"] = True
    elif part and "name" in takes:
        settings["name"] = part
    elif part:
        raise UserError(f"{data.source}: {name} has no parts; use pyg:{name}")
    elif "name" in takes and takes["name"].default is inspect.Parameter.empty:
        raise UserError(
            f"{data.source}: {name} has several parts; name one, such as pyg:{name}/PART"
        )
    if not data.download:
        kind = _offline(kind, data.source)
    for split in _PARTS if "split" in takes else ("",):
        with _explained(data.source):
            yield split, kind(**settings, **({"split": split} if split else {}))


def _offline(kind: Any, name: str) -> Any:
    """The same data set, which says what is missing instead of downloading it."""

    def refuse(self: Any) -> None:
        missing = next((path for path in self.raw_paths if not Path(path).exists()), None)
        if missing is not None:
            raise UserError(
                f"{missing}: no such file; torch-geometric downloads it for {name} with data.download = true"
            )

    return type(kind.__name__, (kind,), {"_download": refuse, "__module__": kind.__module__})


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever goes wrong inside torch-geometric as one sentence, and what it prints and warns about not at all."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # a hundred data sets of others, each with failures of its own
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{name}: torch-geometric can't read it ({said})") from error


def _labels(graphs: Sequence[Any], where: str) -> tuple[np.ndarray, bool]:
    """(float64 [n, K], whether they are of a type of whole numbers)."""
    rows = []
    for number, graph in enumerate(graphs):
        label = getattr(graph, "y", None)
        if label is None:
            raise UserError(f"{where}: graph {number} has no label y")
        rows.append(np.asarray(label).reshape(-1))
    sizes = {len(row) for row in rows}
    if len(sizes) != 1 or sizes == {0}:
        raise UserError(
            f"{where}: its labels y are not of the whole graph ({min(sizes)} to {max(sizes)} values each)"
        )
    return np.stack([row.astype(np.float64) for row in rows]), all(
        row.dtype.kind in "iub" for row in rows
    )


def _target_names(name: str, count: int) -> tuple[list[str], list[str]]:
    from isoform.molecules.data.qm9 import UNITS

    if name == "QM9" and count == len(UNITS):
        return list(UNITS), list(UNITS.values())
    return (["y"] if count == 1 else [f"y{number}" for number in range(count)]), [""] * count


def _task(
    labels: np.ndarray, whole: bool, data: DataConfig
) -> tuple[str, tuple[str, ...], list[str]]:
    """(task, classes, findings); auto: binary for 0 and 1, classes for whole numbers of one target, else regression."""
    known = labels[np.isfinite(labels)]
    task, findings = data.task, []
    if task == "auto":
        if np.isin(known, (0, 1)).all():
            task = "binary"
        else:
            task = "multiclass" if whole and labels.shape[1] == 1 else "regression"
        findings.append(f"data.task = auto: {task}")
    if task == "binary" and not np.isin(known, (0, 1)).all():
        raise UserError(f"{data.source}: data.task = binary, but its labels are not 0 and 1 alone")
    if task != "multiclass":
        return task, (), findings
    if (
        labels.shape[1] != 1
        or len(known) != len(labels)
        or (known != np.round(known)).any()
        or known.min() < 0
    ):
        raise UserError(
            f"{data.source}: data.task = multiclass, but its labels are not one class number each"
        )
    count = int(known.max()) + 1
    classes = (
        data.classes if data.classes is not None else tuple(str(number) for number in range(count))
    )
    if len(classes) < count:
        raise UserError(f"data.classes names {len(classes)} classes and {data.source} has {count}")
    return task, tuple(classes), findings


def pack_all(graphs: Sequence[Any], where: str) -> Any:
    """PackedGraphs of Data objects; see pack.pack. Raises UserError."""
    for number, graph in enumerate(graphs):
        if getattr(graph, "x", None) is None or getattr(graph, "edge_index", None) is None:
            raise UserError(f"{where}: graph {number} has no atoms x or no bonds edge_index")
    first = graphs[0]
    has_attributes = getattr(first, "edge_attr", None) is not None
    x = np.concatenate([_plane(graph.x) for graph in graphs])
    ends = np.concatenate([np.asarray(graph.edge_index).reshape(2, -1) for graph in graphs], 1)
    attributes = None
    if has_attributes:
        attributes = np.concatenate([_plane(graph.edge_attr) for graph in graphs])
    sizes = [len(graph.x) for graph in graphs]
    bonds = [np.asarray(graph.edge_index).size // 2 for graph in graphs]
    return pack(x, ends, attributes, offsets_of(sizes), offsets_of(bonds), where)


def _plane(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array[:, None] if array.ndim == 1 else array.reshape(len(array), -1)
