"""Rows of one molecule: merged by rule where they are in one split, reported where they are in two.

n molecules, K targets. Molecules are equal where their canonical SMILES are, stereo chemistry and charges included, or
their InChIKeys: it unites tautomers with mobile hydrogens, and spellings that RDKit's canonical form leaves apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isoform.core.data.splits import join_groups, number_texts
from isoform.core.errors import UserError, count, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.labelled import Labelled, take

SAME = "is the same molecule as"  # how the reason begins for a row that went into another
_NAMED = 5
_RULE = {
    "mean": {"regression": "their mean counts", "": "the majority counts, and a tie is no label"},
    "first": {"": "the first row counts"},
    "drop": {"": "those with different labels are left out, of the others one row stays"},
    "keep": {"": "all rows stay"},
}


@dataclass(frozen=True)
class Repeated:
    """Rows that are one molecule in one split, and the targets in which their labels differ."""

    rows: tuple[int, ...]
    differing: tuple[int, ...]


def identities(molecules: Labelled) -> np.ndarray:
    """int64 [n]: equal numbers where rows are one molecule; where there are no keys, where they are one text."""
    texts = molecules.keys if molecules.keys is not None else molecules.smiles
    return join_groups(number_texts(texts), molecules.inchis)


def repeated(molecules: Labelled) -> list[Repeated]:
    """Every molecule with several rows in one split, in the order of its first row; none where there are no keys."""
    if molecules.keys is None:
        return []
    places: dict[tuple[int, str], list[int]] = {}
    split = molecules.split if molecules.split is not None else [""] * len(molecules)
    for row, (number, part) in enumerate(zip(identities(molecules).tolist(), split, strict=True)):
        places.setdefault((number, part), []).append(row)
    found = []
    for rows in places.values():
        if len(rows) > 1:
            low, high = _range(molecules.targets[rows])
            differing = np.flatnonzero(high - low > 1e-9 * np.maximum(1, np.abs(high)))
            found.append(Repeated(tuple(rows), tuple(differing.tolist())))
    return found


def _range(targets_nK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest label of each target; 0 and 0 where there is none."""
    known = np.isfinite(targets_nK)
    low = np.where(known, targets_nK, np.inf).min(0, initial=np.inf)
    high = np.where(known, targets_nK, -np.inf).max(0, initial=-np.inf)
    return np.where(known.any(0), low, 0.0), np.where(known.any(0), high, 0.0)


def merge(molecules: Labelled, data: DataConfig) -> Labelled:
    """One row a molecule and split, by data.duplicates; every row that goes is in `skipped`, every rule a finding.

    mean   the mean of the labels, of binary and multi-class ones the majority (a tie is no label, and a molecule that
           has no label left goes)
    first  the first row as it is
    drop   molecules whose labels differ go, of the others the first row stays with the labels of all
    keep   nothing goes
    """
    found = repeated(molecules)
    if not found:
        return molecules
    findings = [*molecules.findings, *describe(molecules, found, data.duplicates)]
    if data.duplicates == "keep":
        return replace(molecules, findings=findings)
    targets = molecules.targets.copy()
    bounds = None if molecules.bounds is None else molecules.bounds.copy()
    stays = np.ones(len(molecules), bool)
    skipped = list(molecules.skipped)
    for one in found:
        first, *others = one.rows
        stays[others] = False
        skipped += [(molecules.names[row], f"{SAME} {molecules.names[first]}") for row in others]
        if data.duplicates == "drop" and one.differing:
            stays[first] = False
            skipped.append(
                (molecules.names[first], "its labels differ between rows (data.duplicates = drop)")
            )
        elif data.duplicates != "first":
            labels = molecules.targets[list(one.rows)]
            if molecules.bounds is None or bounds is None:
                targets[first] = _mean(labels, molecules.task)
            else:
                signs = molecules.bounds[list(one.rows)]
                targets[first], bounds[first] = _merge_bounds(labels, signs)
            if np.isfinite(labels).any() and not np.isfinite(targets[first]).any():
                stays[first] = False
                skipped.append((molecules.names[first], "its labels contradict each other"))
    rows = np.flatnonzero(stays)
    if not len(rows):
        raise UserError(
            f"{molecules.origin}: no molecule is left; set data.duplicates to mean, first or keep"
        )
    labels_of = {"targets": targets[rows], "bounds": None if bounds is None else bounds[rows]}
    return replace(take(molecules, rows, **labels_of), skipped=skipped, findings=findings)


def _merge_bounds(labels_nK: np.ndarray, signs_nK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([K] label, [K] bound): the mean of exact labels; without any the tightest bound, or between two their mean."""
    exact = _mean(np.where(signs_nK == 0, labels_nK, np.nan), "regression")
    least = np.where(signs_nK > 0, labels_nK, -np.inf).max(0)  # the truth is at least that
    most = np.where(signs_nK < 0, labels_nK, np.inf).min(0)
    both = np.isfinite(least) & np.isfinite(most)
    with np.errstate(invalid="ignore"):
        bound = np.where(both, (least + most) / 2, np.where(np.isfinite(least), least, most))
    bound = np.where(np.isfinite(bound), bound, np.nan)
    sign = np.where(both, 0, np.where(np.isfinite(least), 1, np.where(np.isfinite(most), -1, 0)))
    known = np.isfinite(exact)
    return np.where(known, exact, bound), np.where(known, 0, sign).astype(np.int8)


def _mean(targets_nK: np.ndarray, task: str) -> np.ndarray:
    """[K] one label for several rows of a molecule."""
    merged = np.full(targets_nK.shape[1], np.nan)
    for column, values in enumerate(targets_nK.T):
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        if task == "regression":
            merged[column] = values.mean()
            continue
        different, counts = np.unique(values, return_counts=True)
        if (counts == counts.max()).sum() == 1:
            merged[column] = different[counts.argmax()]
    return merged


def describe(molecules: Labelled, found: Sequence[Repeated], rule: str) -> list[str]:
    """What there is of several rows, in sentences with the largest differences, and the rule for them."""
    if not found:
        return []
    rows = sum(len(one.rows) for one in found)
    words = _RULE[rule]
    lines = [
        f"{_have(len(found), 'molecule')} several rows, {rows} in all: {words.get(molecules.task, words.get('', ''))} "
        f"(data.duplicates = {rule})",
        *_spelled_otherwise(molecules, found),
    ]
    differing = [one for one in found if one.differing]
    if not differing:
        return lines

    def spread(one: Repeated) -> float:
        low, high = _range(molecules.targets[list(one.rows)])
        return float((high - low).max())

    differing.sort(key=spread, reverse=True)
    examples = []
    for one in differing:
        low, high = _range(molecules.targets[list(one.rows)])
        most = int((high - low).argmax())
        places = ", ".join(molecules.names[row] for row in one.rows[:4])
        examples.append(
            f'"{molecules.target_names[most]}" {low[most]:.6g} to {high[most]:.6g} ({places})'
        )
    shown = join_names(examples, _NAMED, "; ")
    return [*lines, f"{_have(len(differing))} different labels: {shown}"]


def _have(number: int, what: str = "") -> str:
    noun = count(number, what) if what else f"{number} of them"
    return f"{noun} {'has' if number == 1 else 'have'}"


def _spelled_otherwise(molecules: Labelled, found: Sequence[Repeated]) -> list[str]:
    """How many molecules the InChIKey alone finds in several rows, as a sentence."""
    keys = molecules.keys
    assert keys is not None
    apart = [one for one in found if len({keys[row] for row in one.rows}) > 1]
    if not apart:
        return []
    some = [" = ".join(molecules.names[row] for row in one.rows[:4]) for one in apart]
    return [
        f"{_have(len(apart))} several canonical SMILES and one InChIKey, as tautomers do: "
        f"{join_names(some, _NAMED, '; ')}"
    ]


def leaks(molecules: Labelled, splits: Mapping[str, np.ndarray]) -> list[list[tuple[str, int]]]:
    """[(split, row), ...] of every molecule that is in several splits; none where there are no keys."""
    if molecules.keys is None:
        return []
    places: dict[int, list[tuple[str, int]]] = {}
    numbers = identities(molecules)
    for split, rows in splits.items():
        for row in rows.tolist():
            places.setdefault(int(numbers[row]), []).append((split, row))
    return [found for found in places.values() if len({split for split, _ in found}) > 1]


def refuse_leaks(molecules: Labelled, splits: Mapping[str, np.ndarray]) -> None:
    """Raises UserError naming the first molecule that is in several splits."""
    found = leaks(molecules, splits)
    if found:
        split, row = found[0][0]
        other, there = next((s, r) for s, r in found[0] if s != split)
        assert molecules.keys is not None
        key, spelled = molecules.keys[row], molecules.keys[there]
        as_ = "" if key == spelled else f", as {spelled[:80]}, of the same InChIKey"
        others = count(len(found) - 1, "other molecule")
        more = f", and so {'is' if len(found) == 2 else 'are'} {others} in two splits"
        raise UserError(
            f"{molecules.origin}: {key[:80]} is in {split} ({molecules.names[row]}) and in {other} "
            f"({molecules.names[there]}{as_}){more * (len(found) > 1)}: mend the "
            "splits, or set data.allow_leakage = true"
        )
