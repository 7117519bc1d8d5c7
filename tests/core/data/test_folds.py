"""Which fold tests a row."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.config.schema import FoldedData
from isoform.core.data.folds import assign_folds, block_of_fold, given_by_fold
from isoform.core.errors import UserError


def drawn(labels, group, folds, seed=0):
    """The fold that tests each row, asked fold by fold."""
    found = np.zeros(len(labels), int)
    for fold in range(1, folds + 1):
        data = FoldedData(folds=folds, fold=fold)
        given_ = given_by_fold(data, np.array(labels), group, seed=seed, origin="t.csv")
        assert set(given_) == {"train", "test"}
        assert not found[given_ == "test"].any(), "a row is tested on twice"
        found[given_ == "test"] = fold
    return found


def test_every_row_is_tested_on_once_and_classes_are_dealt_out_evenly():
    labels = ["a"] * 31 + ["b"] * 13 + ["c"] * 2
    fold = drawn(labels, None, 5)
    assert (fold > 0).all() and max(Counter(fold).values()) - min(Counter(fold).values()) <= 1
    for name, least in (("a", 6), ("b", 2), ("c", 0)):
        counts = [Counter(fold[np.array(labels) == name])[k] for k in range(1, 6)]
        assert min(counts) == least and max(counts) <= least + 1
    assert (fold == drawn(labels, None, 5)).all() and (fold != drawn(labels, None, 5, seed=1)).any()


def test_a_group_is_in_one_fold_and_folds_are_alike_as_far_as_groups_allow():
    rng = np.random.default_rng(3)
    group = np.array([f"p{k}" for k in rng.integers(0, 23, 211)], dtype=object)
    labels = np.where(np.char.str_len(group.astype(str)) > 2, "a", "b")
    fold = drawn(labels, group, 3)
    assert all(len(set(fold[group == name])) == 1 for name in set(group))
    for name in ("a", "b"):
        share = (
            np.array([(labels[fold == k] == name).sum() for k in (1, 2, 3)])
            / (labels == name).sum()
        )
        assert share.min() > 0.2 and share.max() < 0.47


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_units_none_is_torn_and_no_fold_is_empty(data):
    units = data.draw(st.lists(st.integers(0, 8), min_size=9, max_size=61)) + list(range(9))
    strata = data.draw(st.lists(st.sampled_from("abc"), min_size=len(units), max_size=len(units)))
    folds = data.draw(st.integers(2, 9))
    fold = assign_folds(np.array(strata), np.array(units), folds, np.random.default_rng(0))
    assert set(fold) == set(range(1, folds + 1))
    assert len({(unit, k) for unit, k in zip(units, fold, strict=True)}) == len(set(units))


def test_fewer_groups_or_rows_than_folds_are_refused():
    data = FoldedData(folds=7, fold=1)
    with pytest.raises(UserError, match=r"t.csv: has 5 groups and data.folds = 7 needs one"):
        group = np.array(list("abcdeabcde"), dtype=object)
        given_by_fold(data, np.array(["x"] * 10), group, seed=0, origin="t.csv")
    with pytest.raises(UserError, match="has 3 samples"):
        given_by_fold(data, np.array(["x"] * 3), None, seed=0, origin="t.csv")


def test_folds_and_fold_go_together():
    for wrong, words in (
        ({"folds": 3}, "go together"),
        ({"fold": 2}, "go together"),
        ({"folds": 3, "fold": 4}, "fold = 4 is not among 3 folds"),
    ):
        with pytest.raises(ValueError, match=words):
            FoldedData(**wrong)


def test_blocks_of_time_follow_each_other_behind_a_first_one():
    blocks = [block_of_fold(103, 5, fold) for fold in range(1, 6)]
    assert blocks[0][0] == 17 and blocks[-1][1] == 103
    assert all(before[1] == after[0] for before, after in pairwise(blocks))
    assert {stop - start for start, stop in blocks} == {17, 18}
