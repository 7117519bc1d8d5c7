"""Which molecules train, validate and test: at random, by framework, by cluster, or as given. n molecules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.core.data.folds import assign_folds, refuse_few
from isoform.core.data.splits import (
    SPLITS,
    Rows,
    draw_units,
    fill_splits,
    join_groups,
    split_by_size,
    units_of,
)
from isoform.core.data.strata import keep_strata
from isoform.core.errors import UserError, count
from isoform.molecules.config import DataConfig
from isoform.molecules.data.duplicates import identities
from isoform.molecules.data.labelled import Labelled

FAR = 0.05  # of all molecules: a split that differs by more from what was asked is spoken of


def split_rows(molecules: Labelled, data: DataConfig) -> Rows:
    """The splits of `draw_splits`."""
    return draw_splits(molecules, data)[0]


def draw_splits(molecules: Labelled, data: DataConfig) -> tuple[Rows, int]:
    """({split: its rows, ascending} of every split that has some, groups that changed places for the sake of a class).

    A pure function of the molecules and `data`.

    random    drawn by data.split_seed: test first, then val; both are fractions of all. Where one target has classes,
              every split has its share of each. Rows of one molecule stay together.
    scaffold  MoleculeNet's (Wu et al. 2018): frameworks by their number of molecules, each to train while that fits,
              else to val, else to test. Deterministic; the rarest frameworks are tested on. Where that leaves a class
              of a target out of a split that it could be in, frameworks change places (core/data/strata.py).
    cluster   Taylor-Butina clusters, whole ones to test and val in the order that data.split_seed draws; one that
              doesn't fit any more goes to train.
    given     the source's; what it leaves open is train, and where it has no val, that is drawn from train.

    With data.group, rows of one group stay together in the first three. Of a cross-validation data.fold is test, drawn
    by molecules, frameworks or clusters, and the rest gives val (a given split is set aside).
    data.counts: that many molecules drawn by data.split_seed, the rest in no split; scaffold, cluster and given split
    what was drawn. Raises UserError where train or val stays empty, or data.counts asks for more than there is.
    """
    rng = np.random.default_rng(data.split_seed)
    moved = 0
    if data.folds is not None:
        found, moved = _fold(molecules, data, rng)
    elif data.split == "given":
        found = _given(molecules, data, rng)
    elif data.split == "random":
        found, moved = _random(molecules, data, rng)
    else:
        found, moved = _by_chemistry(molecules, data, rng)
    found = {split: np.sort(found[split]) for split in SPLITS if len(found[split])}
    for split in ("train", "val"):
        if split not in found:
            raise UserError(
                f"{molecules.origin}: data.split = {data.split} leaves none of "
                f"{count(len(molecules), 'molecule')} for {split}; "
                "use another split, or other fractions"
            )
    return found, moved


def describe_shares(splits: Rows, data: DataConfig, moved: int = 0) -> list[str]:
    """What was asked for and what whole groups allowed, as a sentence, where a split is far from it or empty."""
    if data.folds is not None or data.split == "given" or data.counts is not None:
        return []
    given = {split: len(splits.get(split, ())) for split in SPLITS}
    n = sum(given.values())
    asked = _wanted(n, data)
    asked["train"] = n - sum(asked.values())
    lines = []
    if moved:
        lines.append(
            f"data.split = {data.split}: {count(moved, 'group')} changed places: no class is left out of a split"
        )
    far = any(abs(given[split] - asked[split]) > max(1, FAR * n) for split in SPLITS)
    empty = data.test_fraction > 0 and not given["test"]
    if not far and not empty:
        return lines
    sizes = " / ".join(f"{asked[split]:,.0f}" for split in SPLITS)
    had = " / ".join(f"{given[split]:,}" for split in SPLITS)
    lines.append(f"data.split = {data.split}: asked for {sizes} of train / val / test, given {had}")
    if empty:
        lines.append(
            "no molecule is left for test: nothing says how good the model is on new ones; use another data.split, or "
            "a larger data.test_fraction"
        )
    return lines


def _fold(molecules: Labelled, data: DataConfig, rng: np.random.Generator) -> tuple[Rows, int]:
    """One fold as test; val is drawn from the rest, by whole units again."""
    if data.counts is not None:
        raise UserError("data.counts draws one split and data.folds several: leave one of them out")
    folds = data.folds
    assert folds is not None
    units = _fold_units(molecules, data)
    refuse_few(len(units), folds, molecules.origin, "groups of molecules")
    kinds = _strata(molecules, units)
    unit_of, stratum = np.zeros((2, len(molecules)), np.int64)
    for number, rows in enumerate(units):
        unit_of[rows] = number
    for number, members in enumerate(kinds):
        stratum[np.concatenate([units[i] for i in members])] = number
    fold = assign_folds(stratum, unit_of, folds, np.random.default_rng(data.split_seed))
    rest = [rows for rows in units if fold[rows[0]] != data.fold]
    share = data.val_fraction * folds / (folds - 1)  # of what is left
    found = draw_units(rest, _strata(molecules, rest), {"val": min(share, 0.5)}, rng)
    found["test"] = np.flatnonzero(fold == data.fold)
    return keep_strata(found, unit_of, _classes(molecules, np.arange(len(molecules))), ["test"])


def _fold_units(molecules: Labelled, data: DataConfig) -> list[np.ndarray]:
    """Rows that no fold tears apart: of one molecule or group, and of one framework or cluster where these split."""
    if data.split not in ("scaffold", "cluster"):
        return _units(molecules)
    from isoform.molecules.data.groups import cluster_groups, scaffold_groups

    rows = np.arange(len(molecules))
    find = scaffold_groups if data.split == "scaffold" else cluster_groups
    return units_of(_joined(find(_smiles(molecules, rows, data.split)), molecules, rows))


def _by_chemistry(
    molecules: Labelled, data: DataConfig, rng: np.random.Generator
) -> tuple[Rows, int]:
    """By frameworks or clusters of what data.counts draws."""
    from isoform.molecules.data.groups import cluster_groups, scaffold_groups

    rows, data = _drawn(molecules, data, rng)
    smiles = _smiles(molecules, rows, data.split)
    if data.split == "scaffold":
        groups = _joined(scaffold_groups(smiles), molecules, rows)
        found = split_by_size(groups, data.val_fraction, data.test_fraction)
    else:
        groups = _joined(cluster_groups(smiles), molecules, rows)
        order = rng.permutation(groups.max(initial=-1) + 1)
        units = [np.flatnonzero(groups == group) for group in order]
        found = fill_splits(units, _wanted(len(rows), data))
    found, moved = keep_strata(found, groups, _classes(molecules, rows))
    return {split: rows[part] for split, part in found.items()}, moved


def _classes(molecules: Labelled, rows: np.ndarray) -> list[np.ndarray]:
    """Places among the rows of each class of each target; of numbers, of those with a label where some have none."""
    found = []
    for values in molecules.targets[rows].T:
        known = np.isfinite(values)
        if molecules.task == "regression":
            found += [] if known.all() else [np.flatnonzero(known)]
        else:
            found += [np.flatnonzero(values == value) for value in np.unique(values[known])]
    return [members for members in found if len(members)]


def _joined(groups: np.ndarray, molecules: Labelled, rows: np.ndarray) -> np.ndarray:
    """Groups of the rows, united where they share an InChIKey or a group of data.group."""

    def of_rows(names: Sequence[str]) -> list[str]:
        return [names[row] for row in rows.tolist()]

    if molecules.inchis is not None:
        joined = join_groups(groups, of_rows(molecules.inchis))
        if joined.max(initial=0) < groups.max(
            initial=0
        ):  # else nothing was united, only renumbered
            groups = joined
    return groups if molecules.groups is None else join_groups(groups, of_rows(molecules.groups))


def _wanted(n: int, data: DataConfig) -> dict[str, float]:
    """Rows of val and test; train takes the rest."""
    return {"test": round(n * data.test_fraction), "val": round(n * data.val_fraction)}


def _counts(data: DataConfig, n: int) -> tuple[int, int, int]:
    """data.counts, checked."""
    counts = data.counts
    assert counts is not None
    if len(counts) != 3 or min(counts) < 0:
        raise UserError(
            f"data.counts = {list(counts)}: should be three numbers, of train, val and test"
        )
    if sum(counts) > n:
        raise UserError(
            f"data.counts = {list(counts)}: asks for {count(sum(counts), 'molecule')} and there are {n}"
        )
    return counts[0], counts[1], counts[2]


def _drawn(
    molecules: Labelled, data: DataConfig, rng: np.random.Generator
) -> tuple[np.ndarray, DataConfig]:
    """(all rows, data), or the rows that data.counts draws with fractions in place of the counts."""
    n = len(molecules)
    if data.counts is None:
        return np.arange(n), data
    counts = _counts(data, n)
    total = max(1, sum(counts))
    update = {"counts": None, "val_fraction": counts[1] / total, "test_fraction": counts[2] / total}
    return np.sort(rng.permutation(n)[:total]), data.model_copy(update=update)


def _smiles(molecules: Labelled, rows: np.ndarray, split: str) -> list[str]:
    if molecules.graphs is not None:
        raise UserError(
            f"data.split = {split}: {molecules.origin} comes as graphs without SMILES; use random or given"
        )
    source = molecules.keys if molecules.keys is not None else molecules.smiles
    return [source[row] for row in rows.tolist()]


def _random(molecules: Labelled, data: DataConfig, rng: np.random.Generator) -> tuple[Rows, int]:
    units = _units(molecules)
    if data.counts is not None:
        train, val, test = _counts(data, len(molecules))
        shuffled = [units[i] for i in rng.permutation(len(units))]
        return fill_splits(shuffled, {"test": test, "val": val}, train), 0
    fractions = {"test": data.test_fraction, "val": data.val_fraction}
    drawn = draw_units(units, _strata(molecules, units), fractions, rng)
    unit_of = np.zeros(len(molecules), np.int64)
    for number, unit in enumerate(units):
        unit_of[unit] = number
    return keep_strata(drawn, unit_of, _classes(molecules, np.arange(len(molecules))))


def _units(molecules: Labelled) -> list[np.ndarray]:
    """Rows that must stay together: those of one group, and those of one molecule (see `identities`)."""
    if molecules.graphs is not None:
        return list(np.arange(len(molecules))[:, None])
    return units_of(join_groups(identities(molecules), molecules.groups))


def _strata(molecules: Labelled, units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Units whose shares every split should have: of each class, where one target has classes; else all."""
    if molecules.task == "regression" or molecules.targets.shape[1] != 1:
        return [np.arange(len(units))]
    label = np.nan_to_num(molecules.targets[[unit[0] for unit in units], 0], nan=-1)
    return [np.flatnonzero(label == value) for value in np.unique(label)]


def _given(molecules: Labelled, data: DataConfig, rng: np.random.Generator) -> Rows:
    if molecules.split is None:
        raise UserError(
            f"{molecules.origin}: gives no split; set data.split to random, scaffold or cluster"
        )
    free = np.isin(molecules.split, ("train", ""))
    found = {"train": np.flatnonzero(free)}
    for split in ("val", "test"):
        found[split] = np.flatnonzero(molecules.split == split)
    if not len(found["val"]):
        # Rows of one molecule stay together here too.
        own = [unit[free[unit]] for unit in _units(molecules)]
        units = [rows for rows in own if len(rows)]
        shuffled = [units[i] for i in rng.permutation(len(units))]
        drawn = fill_splits(shuffled, {"val": round(len(found["train"]) * data.val_fraction)})
        found |= {"train": drawn["train"], "val": drawn["val"]}
    if data.counts is not None:
        for split, wanted in zip(SPLITS, _counts(data, len(molecules)), strict=True):
            if wanted > len(found[split]):
                raise UserError(
                    f"data.counts asks for {count(wanted, 'molecule')} of {split} and there are {len(found[split])}"
                )
            found[split] = rng.permutation(found[split])[:wanted]
    return found
