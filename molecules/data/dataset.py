"""The molecules of an app as graphs, with labels and splits: what the task, the baselines and the pictures look at.

`read_data` says the steps from file to batch in order:

    read     read.py         a source (a file, QM9, a benchmark) -> SMILES or graphs, names, labels
    clean    clean.py        rows without a label go; standardised, one row a molecule
    split    clean.py        train, val, test: at random, by framework, by cluster, or as given (splits.py)
    graphs   cache.py        OGB's integer features (featurise.py), distances and paths (graphs.py); kept on disk
    scale    here            mean and deviation of the training targets
    batch    collate.py      rows of the store -> padded ids, when training asks

n molecules, K targets, C classes, F descriptors.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from isoform.core.data.findings import fold
from isoform.core.data.splits import SPLITS
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, count, join_names
from isoform.core.supervised.metrics import describe_gaps
from isoform.core.supervised.scaling import TargetScaling
from isoform.molecules.config import DataConfig, Kind, MoleculesApp
from isoform.molecules.data.cache import graph_store
from isoform.molecules.data.clean import clean, clean_and_split, leave_out_unlearnt
from isoform.molecules.data.descriptors import descriptors
from isoform.molecules.data.graphs import GraphStore
from isoform.molecules.data.kept import assign_kept, sample_names
from isoform.molecules.data.labelled import Labelled, keep_targets, take
from isoform.molecules.data.qualifiers import in_units
from isoform.molecules.data.read import read_molecules

NAMED = 5  # molecules that are left out, in a line for a person


@dataclass(frozen=True, eq=False)
class MoleculeData:
    """Row i of `molecules` is graph i of `store`; what became no graph is in `skipped` as (name, why)."""

    config: MoleculesApp
    molecules: Labelled
    store: GraphStore
    rows: dict[str, np.ndarray]  # split -> its rows, ascending; a split without molecules is absent
    skipped: list[tuple[str, str]]
    scaling: TargetScaling
    rest: Sequence[str] = ()  # names of what is in no split, see kept.sample_names

    @property
    def kind(self) -> Kind:
        """What the labels are."""
        return cast(Kind, self.molecules.task)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets' names; of a multi-class target its classes."""
        return tuple(
            self.molecules.classes if self.kind == "multiclass" else self.molecules.target_names
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Of the targets; "" where unknown."""
        return tuple(self.molecules.units)

    @property
    def digest(self) -> str:
        """SHA-256 of the data."""
        return self.molecules.sha256

    def sizes(self) -> dict[str, int]:
        """Molecules of each split."""
        return {split: len(rows) for split, rows in self.rows.items()}

    def targets(self, split: str) -> np.ndarray:
        """float64 [N, K] in the data's units, NaN = missing; of classes [N] int64 numbers, -1 = missing."""
        return self.labels[self.rows[split]]

    @functools.cached_property
    def judged(self) -> np.ndarray:
        """`labels` that predictions are compared with: bounds (data.censored = loss) are missing."""
        bounds = self.molecules.bounds
        return self.labels if bounds is None else np.where(bounds == 0, self.labels, np.nan)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`targets` of all molecules."""
        if self.kind != "multiclass":
            return self.molecules.targets
        return np.nan_to_num(self.molecules.targets[:, 0], nan=-1).astype(np.int64)

    def smiles(self, split: str) -> list[str]:
        """The molecules of a split as they are featurised."""
        return [self.molecules.smiles[row] for row in self.rows[split].tolist()]

    @functools.cached_property
    def descriptors(self) -> np.ndarray:
        """float32 [n, F] RDKit's descriptors of all molecules, NaN where there is none; kept on disk."""
        return descriptors(self.molecules.smiles, self.config.data.cache)

    @property
    def has_smiles(self) -> bool:
        """Whether the molecules are more than graphs."""
        return self.molecules.graphs is None


def read_data(config: MoleculesApp) -> MoleculeData:
    """The data of an app. Raises UserError for data that are missing or hold nothing to learn."""
    return build_data(config, clean_and_split(read_molecules(config.data), config.data))


def other_data(
    config: MoleculesApp,
    path: str | Path | None,
    kind: str,
    names: Sequence[str],
    kinds: np.ndarray,
    scaling: TargetScaling,
    kept: KeptSplit | None = None,
    units: Sequence[str] = (),
) -> MoleculeData:
    """The data of a finished run, its own (None) or those of a file or folder, whose molecules are all "test" then.

    Its own are in the split that it keeps; one that keeps none splits them anew.

    kind, names, scaling   of the run's targets; a file must have them as columns
    kinds                  int16 [kinds + 1, Fb] of bonds, as the run was trained with
    units                  of the targets, "" where unknown; see qualifiers.in_units
    """
    wanted = dict(zip(names, units, strict=False)) if kind == "regression" else {}
    if path is None:
        if kept is None:
            own = clean_and_split(read_molecules(config.data), config.data)
            return build_data(config, _learned(own, names), kinds, scaling)
        data = config.data.model_copy(update=_labels_of(config.data, kind, names))
        whole = in_units(clean(read_molecules(data), data), wanted)
        split = assign_kept(_learned(whole, names), kept, data).split
        return build_data(config, _learned(replace(whole, split=split), names), kinds, scaling)
    data = _elsewhere(config.data, Path(path), kind, names)
    molecules = in_units(clean(read_molecules(data), data), wanted)
    whole = replace(molecules, split=np.full(len(molecules), "test", dtype=object))
    changed = config.model_copy(update={"data": data})
    return build_data(changed, _learned(whole, names), kinds, scaling)


def _learned(molecules: Labelled, names: Sequence[str]) -> Labelled:
    """With those targets alone that a run has, where its data hold more: it left out what had no training label."""
    columns = [k for k, name in enumerate(molecules.target_names) if name in names]
    if molecules.task == "multiclass" or not 0 < len(columns) < len(molecules.target_names):
        return molecules
    return keep_targets(molecules, np.array(columns))


def _elsewhere(data: DataConfig, path: Path, kind: str, names: Sequence[str]) -> DataConfig:
    """The settings that read other data as a run's: a file by the targets' names, a folder as the same benchmark."""
    if path.is_dir():
        return data.model_copy(update={"root": str(path), "path": None})
    changes: dict[str, Any] = {
        "source": "file",
        "path": str(path),
        "root": None,
        "task": kind,
        "counts": None,
        "duplicates": "keep",
    }
    if kind == "multiclass":
        changes |= {"classes": tuple(names)}
    elif data.source != "file" or data.targets is None:
        changes |= {"targets": tuple(names)}
    return data.model_copy(update=changes)


def _labels_of(data: DataConfig, kind: str, names: Sequence[str]) -> dict[str, Any]:
    """Settings by which a run's own file is read as the run did, whatever columns and classes came to it."""
    if data.source != "file":
        return {}
    if kind == "multiclass":
        return {"task": kind, "classes": tuple(names)}
    return {"task": kind, "targets": tuple(names)}


def build_data(
    config: MoleculesApp,
    molecules: Labelled,
    kinds: np.ndarray | None = None,
    scaling: TargetScaling | None = None,
) -> MoleculeData:
    """Graphs of the molecules that are in a split. Raises UserError where none is left to train on."""
    drawn = np.flatnonzero(np.asarray(molecules.split) != "")
    names = sample_names(molecules, config.data)
    rest = [names[row] for row in np.flatnonzero(np.asarray(molecules.split) == "").tolist()]
    molecules = molecules if len(drawn) == len(molecules) else take(molecules, drawn)
    hops = config.score.hops if config.model.family == "graphormer" else 1
    found = graph_store(
        molecules, config.data, hops=hops, laplacian=config.tokeniser.laplacian, kinds=kinds
    )
    left_out = [(molecules.names[row], why) for row, why in found.skipped]
    names = sample_names(molecules, config.data)
    rest += [names[row] for row, _ in found.skipped]
    if len(found.kept) < len(molecules):
        molecules = take(molecules, found.kept)
    split = np.asarray(molecules.split)
    if scaling is None:
        train = np.flatnonzero(split == "train")
        if not len(train):
            raise UserError(
                f"{molecules.origin}: none of its molecules is left to train on; see isoform molecules check"
            )
        log = dict(
            zip(molecules.target_names, learned_as_log(molecules, config.data), strict=False)
        )
        molecules = leave_out_unlearnt(molecules, train)
        split = np.asarray(molecules.split)
        kept = tuple(log[name] for name in molecules.target_names) if log else ()
        scaling = _scaling(config.data, molecules, train, kept)
    refuse_without_logarithm(molecules, scaling.log)
    rows = {name: at for name in SPLITS if len(at := np.flatnonzero(split == name))}
    return MoleculeData(
        config, molecules, found.store, rows, [*molecules.skipped, *left_out], scaling, rest
    )


def _scaling(
    data: DataConfig, molecules: Labelled, train: np.ndarray, log: tuple[bool, ...]
) -> TargetScaling:
    targets = molecules.targets.shape[1]
    if molecules.task != "regression" or data.scale == "none":
        return replace(TargetScaling.identity(targets), log=log)
    fitted = TargetScaling.fit(molecules.targets[train], log)
    mean, std = data.target_mean or fitted.mean, data.target_std or fitted.std
    for key, values in (("target_mean", mean), ("target_std", std)):
        if len(values) != targets:
            raise UserError(
                f"data.{key} holds {count(len(values), 'number')} for {count(targets, 'target')}"
            )
    return TargetScaling(tuple(mean), tuple(std), log)


def learned_as_log(molecules: Labelled, data: DataConfig) -> tuple[bool, ...]:
    """Whether each target is learned as its logarithm, by data.transform; () where none is. Raises UserError."""
    wanted = data.transform
    if "log10" not in wanted:
        return ()
    if molecules.task != "regression":
        raise UserError(
            f"data.transform = log10 is one of numbers, and data.task is {molecules.task}; unset it"
        )
    names = molecules.target_names
    log = tuple(one == "log10" for one in (wanted * len(names) if len(wanted) == 1 else wanted))
    if len(log) != len(names):
        raise UserError(
            f"data.transform names {len(log)} for {count(len(names), 'target')} ({join_names(names)}); "
            "name one for all, or one each"
        )
    return log


def refuse_without_logarithm(molecules: Labelled, log: Sequence[bool]) -> None:
    """Raises UserError for a label of 0 or less of a target that is learned as its logarithm; `log` as above."""
    if not any(log):
        return
    names = molecules.target_names
    wrong = np.argwhere((molecules.targets <= 0) & np.array(log))
    if len(wrong):
        row, k = wrong[0].tolist()
        raise UserError(
            f'{molecules.origin}: "{names[k]}" is {molecules.targets[row, k]:g} ({molecules.names[row]}), and so are '
            f"{len(wrong) - 1:,} others 0 or less, where data.transform = log10 takes numbers above 0; name a word for "
            "no value in data.missing, or leave such rows out"
        )


def describe_unscored(data: MoleculeData) -> list[str]:
    """Of which targets or classes validation and test can't give every metric, in sentences."""
    lines = []
    for split in data.rows:
        if split != "train":
            lines += describe_gaps(
                data.targets(split), data.names, split, yes_no=data.kind == "binary"
            )
    return lines


def describe_data(data: MoleculeData) -> list[str]:
    """What was read, in sentences: splits, targets, findings, and what was left out by reason."""
    molecules = data.molecules
    sizes = ", ".join(f"{count:,} {split}" for split, count in data.sizes().items())
    what = count(
        len(data.names), *(("class", "classes") if data.kind == "multiclass" else ("target",))
    )
    return [
        f"{molecules.origin}: {sizes}; {what} ({data.kind})",
        *fold(molecules.findings),
        *describe_unscored(data),
        *describe_losses(data),
    ]


def describe_other(data: MoleculeData) -> list[str]:
    """What was read of a file that a finished run is judged on, in sentences."""
    labels = f"labels are in the column {join_names(data.molecules.target_names, 12)}"
    return [*fold(data.molecules.findings), *describe_losses(data), labels]


def describe_losses(data: MoleculeData) -> list[str]:
    """What was left out, by reason."""
    lines = []
    reasons = Counter(why for _, why in data.skipped)
    for why, number in reasons.most_common(NAMED):
        some = [name for name, reason in data.skipped if reason == why][:NAMED]
        lines.append(
            f"{number:,} left out, {', '.join(some)}{', ...' if number > len(some) else ''}: {why}"
        )
    if len(reasons) > NAMED:
        more = sum(reasons.values()) - sum(number for _, number in reasons.most_common(NAMED))
        lines.append(f"{more:,} more left out for other reasons; see isoform molecules check")
    return lines
