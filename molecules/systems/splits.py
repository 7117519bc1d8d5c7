"""The published splits of QM9 and MP-20."""

from __future__ import annotations

import numpy as np

from isoform.core.errors import UserError

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
