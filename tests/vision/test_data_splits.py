"""Splits of records: what is stratified by, and which settings of data decide; the drawing itself is core's."""

from collections import Counter

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import ArrayImages, Records
from isoform.vision.data.splits import split_rows, strata_of


def records(labels, kind="multiclass", split=None, group=None):
    n = len(labels)
    images = ArrayImages(np.zeros((n, 1, 2, 2), np.uint8), [str(i) for i in range(n)])
    names = {
        name
        for label in labels
        if label is not None
        for name in ([label] if isinstance(label, str) else label)
    }
    given_split = np.array(split if split is not None else [""] * n)
    groups = None if group is None else np.array(group, dtype=object)
    return Records(images, labels, sorted(names, key=str), kind, given_split, groups)


def test_shares_of_every_class():
    labels = np.array(["a"] * 100 + ["b"] * 50 + ["c"] * 7 + ["d"] * 2)
    rows = split_rows(records(labels.tolist()), DataConfig())
    counts = {part: Counter(labels[members].tolist()) for part, members in rows.items()}
    assert counts["test"] == {"a": 10, "b": 5, "c": 1}
    assert counts["val"] == {"a": 9, "b": 4, "c": 1}  # a tenth of what is left
    assert counts["train"] == {"a": 81, "b": 41, "c": 5, "d": 2}


def test_the_settings_of_data_decide():
    labels = ["a", "b"] * 50
    first, second = (split_rows(records(labels), DataConfig(split_seed=s))["test"] for s in (0, 1))
    assert not np.array_equal(first, second)
    sizes = {
        part: len(rows)
        for part, rows in split_rows(records(labels), DataConfig(test_fraction=0.4)).items()
    }
    assert sizes == {"train": 54, "val": 6, "test": 40}
    assert list(split_rows(records(["a", "b"]), DataConfig(test_fraction=1.0))) == ["test"]
    split = ["train"] * 30 + ["test"] * 10
    rows = split_rows(records(["a", "b"] * 20, split=split), DataConfig(val_fraction=0.2))
    assert rows["test"].tolist() == list(range(30, 40)) and len(rows["val"]) == 6


def test_a_group_in_two_given_splits_is_refused():
    torn = records(["a", "b", "a"], split=["train", "train", "test"], group=["p", "q", "p"])
    with pytest.raises(UserError, match='group "p" lies in train and test'):
        split_rows(torn, DataConfig())
    assert len(split_rows(torn, DataConfig(allow_leakage=True, val_fraction=0.4))["test"]) == 1


def test_rare_labels_and_values_are_spread():
    labels = [("common", "rare") if i % 20 == 0 else ("common",) for i in range(200)]
    rows = split_rows(records(labels, "multilabel"), DataConfig(test_fraction=0.2))
    assert sum("rare" in labels[row] for row in rows["test"]) == 2
    values = [np.array([float(i)]) for i in range(100)]
    rows = split_rows(records(values, "regression"), DataConfig(test_fraction=0.2))
    assert [sum(10 * k <= row < 10 * k + 10 for row in rows["test"]) for k in range(10)] == [2] * 10


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_rows_without_a_label_are_a_stratum_of_their_own(kind):
    known = {"multiclass": "a", "multilabel": ("a", "b"), "regression": np.array([2.0])}[kind]
    missing = np.array([np.nan]) if kind == "regression" else None
    strata = strata_of(records([known, missing] * 15, kind))
    assert set(strata[1::2]) == {""} and len(set(strata[::2])) == 1 and strata[0] != ""
    rows = split_rows(records([known, missing] * 15, kind), DataConfig(test_fraction=0.2))
    assert Counter(rows["test"] % 2) == {0: 3, 1: 3}
