"""Which rows train, validate and test: as given, or drawn from data.split_seed, stratified, with groups kept whole."""

from __future__ import annotations

import numpy as np

from isoform.core.data import folds, splits
from isoform.vision.config import DataConfig
from isoform.vision.data.records import Records


def split_rows(records: Records, data: DataConfig) -> splits.Rows:
    """{split: sorted rows} of every split that has rows; see core's for the rules. Of one fold, where data.fold is set.

    Raises UserError when a group lies in two given splits, unless data.allow_leakage, and for too few rows or groups.
    """
    given, strata = records.split, strata_of(records)
    if data.folds is not None:
        given = folds.given_by_fold(
            data, strata, records.group, seed=data.split_seed, origin=records.origin
        )
    return splits.split_rows(
        given,
        strata,
        records.group,
        seed=data.split_seed,
        test_fraction=data.test_fraction,
        val_fraction=data.val_fraction,
        torn_allowed=data.allow_leakage,
        classes=classes_of(records),
    )


def classes_of(records: Records) -> list[np.ndarray]:
    """The rows of each class or label; of numbers the rows with a value, of a target that some have none of."""
    if records.kind == "regression":
        known = np.isfinite(np.asarray(records.labels, np.float64).reshape(len(records), -1))
        return [np.flatnonzero(column) for column in known.T if not column.all()]
    found: dict[str, list[int]] = {name: [] for name in records.classes}
    for row in range(len(records)):
        for name in records.names_of(row):
            found[name].append(row)
    return [np.array(rows, np.int64) for rows in found.values() if rows]


def strata_of(records: Records) -> np.ndarray:
    """A key a row: its class, rarest label or tenth of the first target; "" for rows without one."""
    if records.kind == "regression":
        first = np.asarray(records.labels, np.float64).reshape(len(records), -1)[:, 0]
        known = np.isfinite(first)
    else:
        first = np.empty(len(records), dtype=object)
        first[:] = records.labels
        known = np.array([label is not None for label in records.labels], bool)
    keys = np.full(len(records), "", dtype=object)
    if known.any():
        keys[known] = splits.stratify(list(first[known]), records.kind)
    return keys
