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
    )


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
