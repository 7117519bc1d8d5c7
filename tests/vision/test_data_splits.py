"""Splits: stratified, deterministic, groups whole."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import ArrayImages, Records
from isoform.vision.data.splits import split_rows, torn_groups


def records(labels, kind="multiclass", split=None, group=None):
    n = len(labels)
    images = ArrayImages(np.zeros((n, 1, 2, 2), np.uint8), [str(i) for i in range(n)])
    classes = sorted({name for label in labels for name in ([label] if isinstance(label, str) else label)}, key=str)
    given_split = np.array(split if split is not None else [""] * n)
    return Records(images, labels, classes, kind, given_split, None if group is None else np.array(group, dtype=object))


def test_shares_of_every_class():
    rows = split_rows(records(["a"] * 100 + ["b"] * 50 + ["c"] * 7 + ["d"] * 2), DataConfig())
    labels = np.array(["a"] * 100 + ["b"] * 50 + ["c"] * 7 + ["d"] * 2)
    counts = {part: Counter(labels[members].tolist()) for part, members in rows.items()}
    assert counts["test"] == {"a": 10, "b": 5, "c": 1}
    assert counts["val"] == {"a": 9, "b": 4, "c": 1}  # a tenth of what is left
    assert counts["train"] == {"a": 81, "b": 41, "c": 5, "d": 2}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 99))
def test_every_row_is_in_exactly_one_split_and_seeds_decide(labels, seed):
    data = DataConfig(split_seed=seed)
    rows = split_rows(records(labels), data)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(labels)))
    again = split_rows(records(labels), data)
    assert all(np.array_equal(rows[part], again[part]) for part in rows)


def test_another_seed_gives_another_split():
    labels = ["a", "b"] * 50
    first, second = (split_rows(records(labels), DataConfig(split_seed=s))["test"] for s in (0, 1))
    assert not np.array_equal(first, second)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 8)), min_size=2, max_size=80), st.integers(0, 9))
def test_groups_stay_together(pairs, seed):
    labels, groups = [label for label, _ in pairs], [str(g) for _, g in pairs]
    rows = split_rows(records(labels, group=groups), DataConfig(split_seed=seed, val_fraction=0.3, test_fraction=0.3))
    assert not torn_groups(np.array(groups, dtype=object), rows)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(labels)))
    if len(set(groups)) >= 2:
        assert len(rows) >= 2


def test_groups_are_stratified_as_well_as_they_can():
    groups = [str(g) for g in range(60) for _ in range(5)]
    labels = ["a" if int(g) % 3 else "b" for g in groups]
    rows = split_rows(records(labels, group=groups), DataConfig(test_fraction=0.2))
    test = Counter(labels[row] for row in rows["test"])
    assert test == {"a": 40, "b": 20}


def test_given_splits_stand_and_val_comes_from_train():
    split = ["train"] * 30 + ["test"] * 10
    rows = split_rows(records(["a", "b"] * 20, split=split), DataConfig(val_fraction=0.2))
    assert rows["test"].tolist() == list(range(30, 40)) and len(rows["val"]) == 6
    assert max(rows["val"]) < 30 and not set(rows["val"]) & set(rows["train"])
    split = ["train"] * 20 + ["val"] * 20
    assert set(split_rows(records(["a", "b"] * 20, split=split), DataConfig())) == {"train", "val"}


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


def test_all_of_it_for_evaluation():
    assert list(split_rows(records(["a", "b"]), DataConfig(test_fraction=1.0))) == ["test"]
