"""Cross-validation: which of K folds tests a row, whole groups together, and blocks of time that follow each other.

n rows, K folds. Everything is a pure function of its arguments, so that one fold can be drawn again by itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isoform.core.config.schema import AppConfig, FoldedData
from isoform.core.data.splits import number_texts
from isoform.core.data.writers import write_rows
from isoform.core.errors import UserError

SET_ASIDE = (
    "the split that the data give is set aside: every sample is tested on in one of the folds"
)


def is_fold(config: AppConfig) -> bool:
    """Whether the settings are those of one fold of a cross-validation."""
    data = getattr(config, "data", None)
    return isinstance(data, FoldedData) and data.folds is not None


def given_by_fold(
    data: FoldedData,
    strata: np.ndarray,
    group: np.ndarray | None,
    *,
    seed: int,
    origin: str,
) -> np.ndarray:
    """Object [n]: "test" for the rows of fold data.fold, "train" for the rest, from which val is still to be drawn.

    strata, group   keys [n] as `splits.split_rows` takes them; see `assign_folds`
    origin          of the data, for the UserError where there are fewer groups or rows than folds
    """
    assert data.folds is not None and data.fold is not None
    units = number_texts(map(str, range(len(strata)) if group is None else group))
    refuse_few(
        int(units.max(initial=-1)) + 1, data.folds, origin, "samples" if group is None else "groups"
    )
    fold = assign_folds(strata, units, data.folds, np.random.default_rng(seed))
    return np.where(fold == data.fold, "test", "train").astype(object)


def refuse_few(there: int, folds: int, origin: str, what: str) -> None:
    """Raises UserError where there are fewer samples or groups than folds."""
    if there < folds:
        raise UserError(
            f"{origin}: has {there} {what} and data.folds = {folds} needs one for each fold; take fewer folds"
        )


def assign_folds(
    strata: np.ndarray, units: np.ndarray, folds: int, rng: np.random.Generator
) -> np.ndarray:
    """int64 [n]: the fold, 1 to K, of every row; K at most the number of units, none of which is torn.

    strata  a key a row [n], of which every fold should have its share
    units   0, 1, ... [n]: rows of one number stay together

    Greedy: of shuffled units the largest first, each to the fold that has least of its strata, as shares of their
    totals, and of rows. Units of one row and one stratum are dealt out evenly.
    """
    codes = number_texts(map(str, strata))
    counts = np.zeros((int(units.max()) + 1, int(codes.max()) + 1))
    np.add.at(counts, (units, codes), 1)
    counts = np.hstack([counts, counts.sum(1, keepdims=True)])
    share = counts / np.square(counts.sum(0))
    shuffled = rng.permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled, -1], kind="stable")]
    fold_of, have = np.zeros(len(counts), np.int64), np.zeros((folds, counts.shape[1]))
    for unit in order.tolist():
        cost = have @ share[unit]
        fold = np.lexsort((have[:, -1], np.round(cost, 12)))[0]
        have[fold] += counts[unit]
        fold_of[unit] = fold + 1
    return fold_of[units]


def block_of_fold(rows: int, folds: int, fold: int) -> tuple[int, int]:
    """[first row, row after the last) that a fold tests on: of K + 1 equal blocks of time the one behind the fold-th.

    What lies before it may train and validate; what lies behind it is in no split (rolling origin).
    """
    return rows * fold // (folds + 1), rows * (fold + 1) // (folds + 1)


def join_tables(tables: list[Path], out: Path) -> None:
    """The rows of the folds' predictions, one fold after the other, with its number in front of each."""
    import csv

    rows: list[dict[str, object]] = []
    for fold, path in enumerate(tables, 1):
        with path.open(newline="", encoding="utf-8") as file:
            rows += [{"fold": fold, **row} for row in csv.DictReader(file)]
    write_rows(rows, out)
