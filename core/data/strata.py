"""No class is left out of a split that it could be in: groups change places where a drawing left one out.

n rows in G groups, K strata (classes, or targets: the rows that have one). A drawing that leaves none out stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Rows = dict[str, np.ndarray]  # split -> rows

_FIRST = ("train", "test", "val")  # where a stratum of too few groups for every split should be
_FEW = 3  # rows of a stratum below which it is in train alone


def keep_strata(
    rows: Rows, group: np.ndarray, strata: Sequence[np.ndarray], fixed: Sequence[str] = ()
) -> tuple[Rows, int]:
    """(the splits with every stratum in them that they have groups for, how many groups changed places).

    rows     {split: rows} as drawn                    group   key of each row [n]
    strata   the rows of each class, label or target   fixed   splits that stay as they are

    A stratum of at least 3 rows is in train and test where it has 2 groups, and in val too where it has 3; a smaller
    one, and one of a single group, is in train. Deterministic: rarest strata first, and the smallest change of sizes.
    """
    splits = [split for split, held in rows.items() if len(held) and split not in fixed]
    if len(splits) < 2 or not strata:
        return rows, 0
    places = _Places(splits, rows, group, strata)
    moved = sum(places.mend(split, stratum) for split, stratum in places.unmet())
    return (rows, 0) if not moved else (rows | places.rows(), moved)


class _Places:
    """Which split each group is in, and what may leave it.

    place   [G] number of a group's split        inside   of each group, the strata that it has rows of
    held    [splits, K] groups with a stratum    needs    [splits, K] whether a stratum should be in a split
    """

    def __init__(
        self, splits: Sequence[str], rows: Rows, group: np.ndarray, strata: Sequence[np.ndarray]
    ) -> None:
        self.splits = splits
        used = np.concatenate([rows[split] for split in splits])
        numbers: dict[object, int] = {}
        self.code = np.full(len(group), -1)
        self.code[used] = [numbers.setdefault(key, len(numbers)) for key in group[used].tolist()]
        self.used = used
        self.sizes = np.bincount(self.code[used])
        self.place = np.zeros(len(numbers), np.int64)
        for split, name in enumerate(splits):
            self.place[self.code[rows[name]]] = split
        self.inside: list[set[int]] = [set() for _ in numbers]
        self.groups_of: list[list[int]] = []
        self.held = np.zeros((len(splits), len(strata)), np.int64)
        self.needs = np.zeros_like(self.held, bool)
        order = [splits.index(split) for split in _FIRST if split in splits]
        for k, members in enumerate(strata):
            codes = self.code[members]
            found = np.unique(codes[codes >= 0])
            self.groups_of.append(found.tolist())
            self.held[:, k] = np.bincount(self.place[found], minlength=len(splits))
            for rank, split in enumerate(order):
                self.needs[split, k] = len(found) > rank and (len(members) >= _FEW or not rank)
            for one in found.tolist():
                self.inside[one].add(k)

    def unmet(self) -> list[tuple[int, int]]:
        """(split, stratum) of what is left out, the rarest stratum first."""
        left_out = [(int(s), int(k)) for s, k in np.argwhere(self.needs & (self.held == 0))]
        return sorted(left_out, key=lambda one: (len(self.groups_of[one[1]]), one[1], one[0]))

    def rows(self) -> Rows:
        """{split: rows}, ascending."""
        split = self.place[self.code[self.used]]
        return {name: np.sort(self.used[split == k]) for k, name in enumerate(self.splits)}

    def mend(self, split: int, stratum: int) -> int:
        """Brings a group with the stratum into the split, for another where sizes stay nearer so; how many moved."""
        if self.held[split, stratum]:
            return 0
        best: tuple[int, int, int] | None = (
            None  # by how many rows sizes change, group, its exchange or -1
        )
        mine = np.flatnonzero(self.place == split)
        for group in sorted(self.groups_of[stratum], key=lambda one: (self.sizes[one], one)):
            size = int(self.sizes[group])
            if (best is None or size < best[0]) and self._free(group):
                best = (size, group, -1)
            apart = np.abs(self.sizes[mine] - size)
            for other in mine[np.argsort(apart, kind="stable")].tolist():
                change = abs(int(self.sizes[other]) - size)
                if best is not None and change >= best[0]:
                    break
                if self._free(group, other) and self._free(other, group):
                    best = (change, group, other)
                    break
        if best is None:
            return 0
        _, group, other = best
        if other >= 0:
            self._move(other, int(self.place[group]))
        self._move(group, split)
        return 1 + (other >= 0)

    def _free(self, group: int, gained: int = -1) -> bool:
        """Whether a group may leave its split, which gets the group `gained` for it."""
        split = self.place[group]
        new = self.inside[gained] if gained >= 0 else set()
        return all(
            self.held[split, k] > 1 or k in new or not self.needs[split, k]
            for k in self.inside[group]
        )

    def _move(self, group: int, split: int) -> None:
        for k in self.inside[group]:
            self.held[self.place[group], k] -= 1
            self.held[split, k] += 1
        self.place[group] = split
