"""The published splits of QM9 and MP-20, and how many atoms systems of each kind have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from isoform.core.errors import UserError
from isoform.molecules.systems.system import System

QM9 = (100_000, 18_000)  # train and validation; the rest, 12,831 of 130,831, is the test split
MP20 = (27_138, 9_046, 9_046)


def qm9_split(n: int, seed: int) -> np.ndarray:
    """[n] "train", "val" or "test" of QM9's molecules: 100,000, 18,000 and the rest after a seeded shuffle.

    Raises UserError where there aren't that many.
    """
    if n <= sum(QM9):
        raise UserError(
            f"QM9's split takes 100,000 and 18,000 molecules and tests on the rest, but there are {n:,}; "
            "use data.split = random for a part of it"
        )
    order = np.random.default_rng(seed).permutation(n)
    return _labels(order, (*QM9, n - sum(QM9)))


def mp20_split(n: int) -> np.ndarray:
    """[n] labels of MP-20's crystals in the order of its files train, val, test: 27,138, 9,046 and 9,046.

    Raises UserError for another number of crystals.
    """
    if n != sum(MP20):
        raise UserError(
            f"MP-20's split is of {sum(MP20):,} crystals (27,138 + 9,046 + 9,046), but there are {n:,}; "
            "use data.split = random for a part of it"
        )
    return _labels(np.arange(n), MP20)


def _labels(order: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    labels = np.empty(len(order), "U5")
    labels[order] = np.repeat(["train", "val", "test"], sizes)
    return labels


@dataclass(frozen=True)
class Sizes:
    """How often each number of atoms occurs, by class of system ("molecule", "crystal", or a data set's name)."""

    counts: Mapping[str, Mapping[int, int]]

    def draw(self, name: str, n: int, random: np.random.Generator) -> np.ndarray:
        """[n] numbers of atoms as frequent as in the data. Raises UserError for a class that the data lack."""
        found = self.counts.get(name)
        if not found:
            known = ", ".join(self.counts) or "nothing"
            raise UserError(f"no {name} was trained on; this model knows: {known}")
        atoms = np.array(sorted(found), np.int64)
        weights = np.array([found[size] for size in sorted(found)], np.float64)
        return random.choice(atoms, n, p=weights / weights.sum())

    def json(self) -> dict[str, dict[str, int]]:
        """As a run folder keeps it, sizes ascending."""
        return {
            name: {str(size): found[size] for size in sorted(found)}
            for name, found in self.counts.items()
        }


def sizes_of(systems: Iterable[System]) -> Sizes:
    """The sizes of systems by kind."""
    counts: dict[str, Counter[int]] = {}
    for one in systems:
        counts.setdefault(one.kind, Counter())[len(one)] += 1
    return Sizes(counts)
