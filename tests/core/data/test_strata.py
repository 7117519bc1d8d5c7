"""No class is left out of a split that groups allow it in, and a drawing that leaves none out stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.data.splits import split_rows
from isoform.core.data.strata import keep_strata

HOW = {"test_fraction": 0.2, "val_fraction": 0.2}


def members(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == name) for name in np.unique(labels)]


def drawn(labels: list[str], group: list[str] | None, seed: int, *, keep: bool = True):
    strata = np.array(labels, dtype=object)
    groups = None if group is None else np.array(group, dtype=object)
    classes = members(np.array(labels)) if keep else ()
    return split_rows(
        np.array([""] * len(labels)), strata, groups, seed=seed, classes=classes, **HOW
    )


def classes_in(rows: np.ndarray, labels: list[str]) -> set[str]:
    return {labels[row] for row in rows.tolist()}


def test_a_rare_class_in_three_groups_is_in_every_split():
    """101 good images of 17 parts and 3 defects of 3 parts: the greedy drawing takes no defect for test."""
    labels = ["good"] * 101 + ["defect"] * 3
    group = [f"part{k % 17}" for k in range(101)] + ["broken1", "broken2", "broken3"]
    left_out = 0
    for seed in range(5):
        before = drawn(labels, group, seed, keep=False)
        left_out += any(len(classes_in(rows, labels)) < 2 for rows in before.values())
        found = drawn(labels, group, seed)
        assert all(classes_in(rows, labels) == {"good", "defect"} for rows in found.values())
        again = drawn(labels, group, seed)
        assert all(np.array_equal(found[split], again[split]) for split in found)
        assert all(abs(len(found[split]) - len(before[split])) <= 3 for split in found)
    assert left_out == 5  # else this shows nothing


@pytest.mark.parametrize(
    ("count", "held"), [(1, ["train"]), (2, ["train"]), (3, ["train", "val", "test"])]
)
def test_single_rows_of_a_class(count, held):
    labels = ["good"] * 53 + ["defect"] * count
    found = drawn(labels, None, 0)
    assert [split for split in found if "defect" in classes_in(found[split], labels)] == held


def test_two_groups_are_in_train_and_test_and_one_in_train():
    labels = ["good"] * 60 + ["two"] * 7 + ["one"] * 5
    group = [f"g{k // 3}" for k in range(60)] + ["t1"] * 4 + ["t2"] * 3 + ["o1"] * 5
    for seed in range(7):
        found = drawn(labels, group, seed)
        inside = {
            name: [s for s in found if name in classes_in(found[s], labels)]
            for name in ("two", "one")
        }
        assert inside == {"two": ["train", "test"], "one": ["train"]}


def test_fixed_splits_stay_and_val_is_mended_from_train():
    labels = np.array(["a"] * 30 + ["b"] * 3)
    rows = {"train": np.arange(3, 33), "val": np.arange(2), "test": np.array([2])}
    found, moved = keep_strata(rows, np.arange(33), members(labels), fixed=["test"])
    assert moved == 2 and found["test"].tolist() == [2] and len(found["val"]) == 2
    assert classes_in(found["val"], labels.tolist()) == {"a", "b"}


pairs = st.lists(
    st.tuples(st.sampled_from("aaaabbc"), st.integers(0, 13)), min_size=11, max_size=70
)


@settings(max_examples=150, deadline=None)
@given(pairs, st.integers(0, 99), st.booleans())
def test_groups_stay_whole_and_no_split_loses_a_class(pairs, seed, grouped):
    labels = [one for one, _ in pairs]
    group = [str(other) for _, other in pairs] if grouped else None
    before, found = drawn(labels, group, seed, keep=False), drawn(labels, group, seed)
    assert found.keys() == before.keys()
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(len(pairs)))
    if group is not None:
        split_of = {row: split for split, rows in found.items() for row in rows.tolist()}
        assert len({(group[row], split) for row, split in split_of.items()}) == len(set(group))
    lost = sum(len(classes_in(rows, labels)) for rows in before.values())
    assert sum(len(classes_in(rows, labels)) for rows in found.values()) >= lost - 2 * (
        grouped is False
    )
    whole = all(len(classes_in(rows, labels)) == len(set(labels)) for rows in before.values())
    if whole:
        assert all(np.array_equal(found[split], before[split]) for split in found)
