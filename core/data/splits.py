"""Which rows train, validate and test: the words of a column, shares drawn from a seed, groups kept whole. n rows.

Two drawings, each a pure function of its arguments and the generator that it is handed:

draw_share   a share of rows, of each stratum alike; whole groups are chosen greedily so that strata keep their shares
draw_units   units (rows that must stay together) shuffled stratum by stratum and given to test, then val, then train

`keep_strata` (strata.py) mends a drawing that left a class out of a split. Beside them `fill_splits` gives units away
in an order of one's own, `split_by_size` is MoleculeNet's rule, and `keep_labelled` leaves fewer training rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from isoform.core.data.strata import Rows, keep_strata
from isoform.core.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

LABELS_STREAM = 1  # beside a seed: draws of labels are no draws of splits

ALONE = "\0row "  # what the group of a row begins with that has none
_BEHIND = re.compile(r"(?<![\s_-])[\s_-]*(set|split|data|images)$")  # "training_set", "test images"


def split_of_word(word: str) -> str | None:
    """train, val or test as a cell or a folder calls it ("Validation_Set"); None for any other word."""
    plain = word.strip().lower()
    return SPLIT_WORDS.get(plain) or SPLIT_WORDS.get(_BEHIND.sub("", plain))


def read_splits(
    cells: Sequence[str], column: str, where: Callable[[int], str], *, open_: bool = True
) -> np.ndarray:
    """The split of each cell of a column, object [n].

    where   row -> how a message calls it, "t.csv line 7"
    open_   an empty cell leaves its row open, ""; otherwise it is refused

    Raises UserError for another word than train, val or test and their synonyms.
    """
    splits = np.full(len(cells), "", dtype=object)
    for row, cell in enumerate(cells):
        split = split_of_word(cell)
        if split is None and (cell.strip() or not open_):
            raise UserError(
                f'{where(row)}: column "{column}" is {cell!r} where the split train, val or test is expected'
            )
        splits[row] = split or ""
    return splits


def read_groups(cells: Sequence[str]) -> np.ndarray:
    """The group of each cell of a column, object [n]; a row whose cell is empty is a group by itself (ALONE)."""
    groups = [cell or f"{ALONE}{row}" for row, cell in enumerate(cells)]
    return np.array(groups, dtype=object)


def stratify(labels: Sequence[object], kind: str) -> np.ndarray:
    """A key a row [n]; every split should have its share of each key.

    kind   "multiclass": the class itself; "multilabel" (labels are sets of names): the rarest of a row's labels;
           "regression": the tenth of the first target that a row lies in
    """
    if kind == "regression":
        targets = np.asarray(labels, np.float64)
        first = targets.reshape(len(labels), -1)[:, 0]
        tenths = np.linspace(0, 1, 11)[1:-1]
        return np.searchsorted(np.quantile(first, tenths), first)
    if kind == "multiclass":
        return np.asarray(labels, dtype=object)
    counts = Counter(name for names in labels for name in names)  # type: ignore[attr-defined]
    rarest = [min(names, key=lambda n: (counts[n], n), default="") for names in labels]  # type: ignore[call-overload]
    return np.array(rarest, dtype=object)


def split_rows(
    given: np.ndarray,
    strata: np.ndarray,
    group: np.ndarray | None,
    *,
    seed: int,
    test_fraction: float,
    val_fraction: float,
    torn_allowed: bool = False,
    classes: Sequence[np.ndarray] = (),
) -> Rows:
    """{split: sorted rows} of every split that has rows.

    Given splits [n] stand ("" = open); where there is no val, it is drawn from train. Where nothing is given, test is
    drawn from all rows and val from the rest. `classes`, the rows of each, are then in every drawn split that they have
    enough groups for (strata.py). Raises UserError when a group [n] lies in two given splits, unless
    `torn_allowed`.
    """
    rows = {name: np.flatnonzero(given == name) for name in SPLITS}
    free = np.flatnonzero(given == "")
    rng = np.random.default_rng(seed)
    fixed: Sequence[str] = ()
    if len(free) == len(given):
        test, rest = draw_share(free, strata, group, test_fraction, rng)
        val, train = draw_share(rest, strata, group, val_fraction, rng)
        rows = {"train": train, "val": val, "test": test}
    else:
        if group is not None and not torn_allowed:
            refuse_torn_groups(group, rows)
        fixed = [split for split in SPLITS if len(rows[split])]
        if len(rows["train"]) and not len(rows["val"]):
            rows["val"], rows["train"] = draw_share(rows["train"], strata, group, val_fraction, rng)
            fixed = ["test"]
    rows, _ = keep_strata(rows, np.arange(len(given)) if group is None else group, classes, fixed)
    return {name: np.sort(rows[name]) for name in SPLITS if len(rows[name])}


def draw_share(
    rows: np.ndarray,
    strata: np.ndarray,
    group: np.ndarray | None,
    fraction: float,
    rng: np.random.Generator,
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
        count = 0
        if n >= 3:
            count = min(max(round(n * fraction), 1), n - 1)
        taken.append(rng.permutation(members)[:count])
    drawn = np.concatenate(taken)
    return drawn, np.setdiff1d(rows, drawn)


def _by_key(rows: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    """The rows of each key, keys in the order of their spelling."""
    rows_of: dict[str, list[int]] = {}
    for row in rows:
        rows_of.setdefault(str(keys[row]), []).append(int(row))
    return [np.array(rows_of[key]) for key in sorted(rows_of)]


def _draw_groups(
    rows: np.ndarray,
    strata: np.ndarray,
    group: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
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
        missing = wanted - have
        if np.square(missing - counts).sum() < np.square(missing).sum():
            have = have + counts
            taken.append(members)
    if not taken and len(groups) >= 2:
        taken = [min(shuffled, key=len)]
    drawn = np.concatenate(taken) if taken else rows[:0]
    return drawn, np.setdiff1d(rows, drawn)


def keep_labelled(
    rows: np.ndarray, labels: Sequence[str | None], share: float, seed: int
) -> np.ndarray:
    """Sorted: of the training `rows` a share of every class, at least one; rows without a label are left out.

    labels   the class of every row there is, None or "" of one without

    The same seed's smaller share is a part of its larger one, so that curves over shares add samples only.
    """
    rng = np.random.default_rng([seed, LABELS_STREAM])
    kept = []
    for name in sorted({label for row in rows.tolist() if (label := labels[row])}):
        own = np.array([row for row in rows.tolist() if labels[row] == name], np.int64)
        kept.append(rng.permutation(own)[: max(1, round(share * len(own)))])
    return np.sort(_joined(kept))


def refuse_torn_groups(group: np.ndarray, splits: Mapping[str, np.ndarray]) -> None:
    """Raises UserError where a group lies in more than one split."""
    torn = torn_groups(group, splits)
    if torn:
        name, places = torn[0]
        raise UserError(
            f'group "{name}" lies in {" and ".join(places)} ({len(torn)} such group(s)): move it into one split, '
            "or set data.allow_leakage = true"
        )


def torn_groups(
    group: np.ndarray, splits: Mapping[str, np.ndarray]
) -> list[tuple[str, Sequence[str]]]:
    """(group, its splits) of every group that lies in more than one split."""
    places: dict[str, list[str]] = {}
    for split, rows in splits.items():
        for name in sorted({str(group[row]) for row in rows}):
            places.setdefault(name, []).append(split)
    return [(name, within) for name, within in sorted(places.items()) if len(within) > 1]


def number_texts(texts: Iterable[object]) -> np.ndarray:
    """int64 [n]: what is equal has equal numbers, by first appearance."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], np.int64)


def join_groups(parts: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """The parts [n] joined wherever two of them have a row of the same group; "" is no group."""
    if groups is None:
        return parts
    parent: dict[object, object] = {}

    def root(node: object) -> object:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    numbers = parts.tolist()
    for part, group in zip(numbers, groups, strict=True):
        if group != "":
            parent[root((part,))] = root(
                group
            )  # a part is a tuple, so that it is never equal to a group
    return number_texts(root((part,)) for part in numbers)


def units_of(parts: np.ndarray) -> list[np.ndarray]:
    """The rows of each part [n], ascending, parts by their number."""
    order = np.argsort(parts, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(parts[order])) + 1) if len(order) else []


def draw_units(
    units: Sequence[np.ndarray],
    strata: Sequence[np.ndarray],
    fractions: Mapping[str, float],
    rng: np.random.Generator,
) -> Rows:
    """{split: rows}: the units of each stratum shuffled, and given to the splits of `fractions` in their order.

    units      rows that stay together              strata   of which units each consists
    fractions  {"test": 0.1, "val": 0.1}, of all rows; train takes the rest

    A stratum of at least 3 rows is in every split whose share of it is above 0.
    """
    parts_of: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for members in strata:
        shuffled = [units[members[i]] for i in rng.permutation(len(members))]
        n = sum(map(len, shuffled))
        wanted = {}
        for split, fraction in fractions.items():
            share = round(n * fraction)
            wanted[split] = max(share, 1) if n >= 3 and n * fraction > 0 else share
        for split, rows in fill_splits(shuffled, wanted).items():
            parts_of[split].append(rows)
    return {split: _joined(parts) for split, parts in parts_of.items()}


def fill_splits(
    units: Sequence[np.ndarray], wanted: Mapping[str, float], most_train: int | None = None
) -> Rows:
    """Units one after the other to the first split of `wanted` with room for all of one, else to train.

    most_train   more than that many rows of train are in no split
    """
    parts_of: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    room = dict(wanted) | {"train": np.inf if most_train is None else most_train}
    for unit in units:
        split = next((split for split in room if len(unit) <= room[split]), None)
        if split is not None:
            parts_of[split].append(unit)
            room[split] -= len(unit)
    return {split: _joined(parts) for split, parts in parts_of.items()}


def split_by_size(groups: np.ndarray, val_fraction: float, test_fraction: float) -> Rows:
    """{split: rows}: the largest groups [n] train, the rarest test (MoleculeNet, Wu et al. 2018). Deterministic.

    A group goes to train while it fits, else to val, else to test. Of groups of one size, the one that begins later
    comes first.
    """
    n = len(groups)
    members = units_of(groups)
    members.sort(key=lambda rows: (len(rows), rows[0]), reverse=True)
    last_train = n * (1 - val_fraction - test_fraction) + 1e-9
    last_val = n * (1 - test_fraction) + 1e-9
    parts_of: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    size = dict.fromkeys(SPLITS, 0)
    for rows in members:
        n_train = size["train"] + len(rows)
        if n_train <= last_train:
            split = "train"
        elif n_train + size["val"] <= last_val:
            split = "val"
        else:
            split = "test"
        parts_of[split].append(rows)
        size[split] += len(rows)
    return {split: _joined(parts) for split, parts in parts_of.items()}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
