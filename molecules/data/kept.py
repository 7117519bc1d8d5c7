"""The split of a run on molecules: kept by their names and contents, and found again in what the file holds now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isoform.core.data.digests import content_digest, set_digest
from isoform.core.data.splits import Rows
from isoform.core.domain.kept_split import KeptSplit, Samples
from isoform.molecules.config import DataConfig
from isoform.molecules.data.labelled import Labelled


def sample_names(molecules: Labelled, data: DataConfig) -> Sequence[str]:
    """[n] names that stay when rows come or go: cells of data.label, else the molecules themselves.

    Graphs without SMILES have their places in the file alone.
    """
    named = data.label is not None or molecules.graphs is not None
    return molecules.names if named else molecules.smiles


def keep_split(molecules: Labelled, rows: Rows, rest: Sequence[str], data: DataConfig) -> KeptSplit:
    """What a run on these rows keeps; `rest`: names of the molecules in no split."""
    names = sample_names(molecules, data)
    used = np.concatenate([*rows.values()]).tolist()
    columns = _labels(molecules)
    contents, labels = {}, {}
    for row in used:
        contents[row], labels[row] = _digests(molecules, columns, row)
    splits = {
        split: Samples(
            [names[row] for row in members.tolist()],
            [contents[row] for row in members.tolist()],
            [labels[row] for row in members.tolist()],
        )
        for split, members in rows.items()
    }
    return KeptSplit(splits, rest, len(rest), _parts(molecules, columns, contents))


def _digests(molecules: Labelled, columns: np.ndarray, row: int) -> tuple[str, str]:
    """Of the molecule, and of its label; `columns` as `_labels` gives."""
    label = content_digest(_label(molecules, columns, row))[:16]
    return content_digest(_content(molecules, row)), label


def _content(molecules: Labelled, row: int) -> bytes:
    if molecules.graphs is not None:
        return b"".join(np.ascontiguousarray(one).tobytes() for one in molecules.graphs.graph(row))
    block = molecules.blocks[row] if molecules.blocks is not None else None
    return f"{molecules.smiles[row]}\n{block or ''}".encode()


def _label(molecules: Labelled, columns: np.ndarray, row: int) -> str:
    """Labels, which of them are bounds, and weight."""
    weight = None if molecules.weight is None else float(molecules.weight[row])
    bounds = None if molecules.bounds is None else molecules.bounds[row].tolist()
    return repr([columns[row].tolist(), bounds, weight])


def _labels(molecules: Labelled) -> np.ndarray:
    """[n, K] numbers, or words of classes, whose numbers change with the file."""
    if molecules.task != "multiclass":
        return molecules.targets
    words = np.array([*molecules.classes, ""], dtype=object)
    return words[np.nan_to_num(molecules.targets, nan=len(words) - 1).astype(np.int64)]


def _parts(molecules: Labelled, labels: np.ndarray, contents: dict[int, str]) -> dict[str, str]:
    """By class the molecules of it, by target what each molecule is labelled with."""
    if molecules.task == "multiclass":
        found: dict[str, list[str]] = {name: [] for name in molecules.classes}
        for row, content in contents.items():
            if labels[row, 0]:
                found[labels[row, 0]].append(content)
    else:
        found = {
            name: [f"{content} {labels[row, k]!r}" for row, content in contents.items()]
            for k, name in enumerate(molecules.target_names)
        }
    return {name: set_digest(members) for name, members in found.items() if members}


def assign_kept(molecules: Labelled, kept: KeptSplit, data: DataConfig) -> Labelled:
    """The molecules, with a run's targets alone, in the split that it keeps; "" for what isn't of it."""
    split = np.full(len(molecules), "", dtype=object)
    columns = _labels(molecules)

    for name, rows in kept.rows_among(
        sample_names(molecules, data), lambda row: _digests(molecules, columns, row)
    ).items():
        split[rows] = name
    return replace(molecules, split=split)
