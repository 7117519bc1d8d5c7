"""Which rows train, validate and test: as given, or drawn from a seed, stratified, with groups kept whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import SPLITS, Records


def split_rows(records: Records, data: DataConfig) -> dict[str, np.ndarray]:
    """{split: sorted rows} of every split that has rows.

    Given splits stand; where there is no val split, it is drawn from train. Where nothing is given, test is drawn from
    all rows and val from the rest. Each draw depends on `data.split_seed` alone and is stratified by class (by the
    rarest label of a multi-label row, by tenths of the first regression target).
    Raises UserError when a group lies in two given splits, unless data.allow_leakage.
    """
    strata = stratify(records)
    given = {name: np.flatnonzero(records.split == name) for name in SPLITS}
    free = np.flatnonzero(records.split == "")
    rng = np.random.default_rng(data.split_seed)
    if len(free) == len(records):
        test, rest = draw(free, strata, records.group, data.test_fraction, rng)
        val, train = draw(rest, strata, records.group, data.val_fraction, rng)
        rows = {"train": train, "val": val, "test": test}
    else:
        rows = given
        if records.group is not None and not data.allow_leakage:
            _refuse_torn_groups(records.group, given)
        if len(given["train"]) and not len(given["val"]):
            rows["val"], rows["train"] = draw(given["train"], strata, records.group, data.val_fraction, rng)
    return {name: np.sort(rows[name]) for name in SPLITS if len(rows[name])}


def stratify(records: Records) -> np.ndarray:
    """A key a row; every split should have its share of each key."""
    if records.kind == "regression":
        first = np.asarray(records.labels, np.float64).reshape(len(records), -1)[:, 0]
        return np.searchsorted(np.quantile(first, np.linspace(0, 1, 11)[1:-1]), first)
    if records.kind == "multiclass":
        return np.asarray(records.labels, dtype=object)
    counts = Counter(name for names in records.labels for name in names)
    return np.array([min(names, key=lambda n: (counts[n], n), default="") for names in records.labels], dtype=object)


def draw(
    rows: np.ndarray, strata: np.ndarray, group: np.ndarray | None, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(drawn, rest): `fraction` of `rows`, of each stratum alike, whole groups only.

    A stratum of at least 3 rows gives at least one and keeps at least one, where groups allow.
    """
    if fraction <= 0 or not len(rows):
        return rows[:0], rows
    if fraction >= 1:
        return rows, rows[:0]
    if group is not None:
        return _draw_groups(rows, strata, group, fraction, rng)
    taken = []
    for members in _by_key(rows, strata):
        n = len(members)
        count = min(max(round(n * fraction), 1), n - 1) if n >= 3 else 0
        taken.append(rng.permutation(members)[:count])
    drawn = np.concatenate(taken)
    return drawn, np.setdiff1d(rows, drawn)


def _by_key(rows: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    """The rows of each key, keys in the order of their spelling."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(str(keys[row]), []).append(int(row))
    return [np.array(found[key]) for key in sorted(found)]


def _draw_groups(
    rows: np.ndarray, strata: np.ndarray, group: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy: largest groups first, each taken if that brings the counts of the strata nearer to their share."""
    groups = _by_key(rows, group)
    names, codes = np.unique([str(strata[row]) for row in rows], return_inverse=True)
    code_of = dict(zip(rows.tolist(), codes.tolist(), strict=True))
    wanted = np.bincount(codes, minlength=len(names)) * fraction
    have = np.zeros(len(names))
    taken: list[np.ndarray] = []
    shuffled = [groups[i] for i in rng.permutation(len(groups))]
    for members in sorted(shuffled, key=len, reverse=True):
        counts = np.bincount([code_of[int(row)] for row in members], minlength=len(names))
        if np.square(wanted - have - counts).sum() < np.square(wanted - have).sum():
            have = have + counts
            taken.append(members)
    if not taken and len(groups) >= 2:
        taken = [min(shuffled, key=len)]
    drawn = np.concatenate(taken) if taken else rows[:0]
    return drawn, np.setdiff1d(rows, drawn)


def _refuse_torn_groups(group: np.ndarray, given: dict[str, np.ndarray]) -> None:
    torn = torn_groups(group, given)
    if torn:
        name, splits = torn[0]
        raise UserError(
            f'group "{name}" lies in {" and ".join(splits)} ({len(torn)} such group(s)): move it into one split, '
            "or set data.allow_leakage = true"
        )


def torn_groups(group: np.ndarray, splits: dict[str, np.ndarray]) -> list[tuple[str, Sequence[str]]]:
    """(group, its splits) of every group that lies in more than one split."""
    places: dict[str, list[str]] = {}
    for split, rows in splits.items():
        for name in sorted({str(group[row]) for row in rows}):
            places.setdefault(name, []).append(split)
    return [(name, found) for name, found in sorted(places.items()) if len(found) > 1]
