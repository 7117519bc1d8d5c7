"""Words of splits, the two drawings (unchanged to the bit) and groups kept whole."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.data.splits import (
    SPLITS,
    draw_units,
    fill_splits,
    join_groups,
    number_texts,
    read_splits,
    split_by_size,
    split_rows,
    stratify,
    torn_groups,
    units_of,
)
from isoform.core.errors import UserError

N = 211


def digest(rows):
    content = b"".join(
        split.encode() + np.asarray(rows[split], np.int64).tobytes() for split in sorted(rows)
    )
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.fixture
def rows():
    """211 rows: classes, groups, targets, sets of labels and texts."""
    rng = np.random.default_rng(7)
    classes = [f"c{k}" for k in np.minimum(rng.geometric(0.3, N), 7)]
    group = np.array([f"g{k}" for k in rng.integers(0, 53, N)], dtype=object)
    targets = rng.normal(size=(N, 2))
    sets = [
        tuple(sorted({f"l{k}" for k in rng.integers(0, 5, rng.integers(0, 4))})) for _ in range(N)
    ]
    texts = [f"s{k}" for k in rng.integers(0, 150, N)]
    return {
        "multiclass": classes,
        "multilabel": sets,
        "regression": list(targets),
        "group": group,
        "texts": texts,
    }


def test_the_words_of_a_column():
    found = read_splits(
        ["Train", " training", "", "dev", "VALID", "validation", "val", "testing", "test"], "s", str
    )
    assert found.tolist() == ["train", "train", "", "val", "val", "val", "val", "test", "test"]
    with pytest.raises(UserError, match=r"t\.csv line 4: column \"s\" is 'later'"):
        read_splits(["train", "later"], "s", lambda row: f"t.csv line {row + 3}")
    with pytest.raises(UserError, match="''"):
        read_splits(["train", ""], "s", str, open_=False)


@pytest.mark.parametrize(
    ("kind", "grouped", "drawn", "given_"),
    [
        ("multiclass", False, "2bdb1788b8b03be3", "826f4532c6f67af1"),
        ("multiclass", True, "a1d15329da23cca9", "8c802a94ce1cfa94"),
        ("multilabel", False, "7460a4e4d39e26f6", "a995da37586f67b9"),
        ("multilabel", True, "676c9c6578dc90d7", "e75e4c65b5a5e7c4"),
        ("regression", False, "3f0f869d1aefd290", "819dc52c1c7f31f9"),
        ("regression", True, "d26471b4b2b163f9", "76c34f4e3266cc96"),
    ],
)
def test_shares_are_drawn_as_ever(rows, kind, grouped, drawn, given_):
    """A run's split depends on its seed alone, also that of a run of long ago."""
    strata, group = stratify(rows[kind], kind), rows["group"] if grouped else None
    how = {"seed": 5, "test_fraction": 0.2, "val_fraction": 0.15, "torn_allowed": True}
    assert digest(split_rows(np.array([""] * N), strata, group, **how)) == drawn
    told = np.array(["test"] * 31 + ["train"] * (N - 31), dtype=object)
    assert digest(split_rows(told, strata, group, **how)) == given_


def test_units_are_drawn_as_ever(rows):
    fractions = {"test": 0.2, "val": 0.15}
    some_groups = [name if row % 3 else "" for row, name in enumerate(rows["group"])]
    for groups, drawn, by_size in (
        (None, "df419aa97f42516e", "73d1dfeecbe33d61"),
        (some_groups, "9536d2942189fb99", "f97604bcd464dd0b"),
    ):
        parts = join_groups(number_texts(rows["texts"]), groups)
        units = units_of(parts)
        found = draw_units(units, [np.arange(len(units))], fractions, np.random.default_rng(5))
        assert digest(found) == drawn and digest(split_by_size(parts, 0.15, 0.2)) == by_size
        assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(N))
        split_of = {row: split for split, held in found.items() for row in held.tolist()}
        assert all(len({split_of[row] for row in unit.tolist()}) == 1 for unit in units)


labels = st.lists(
    st.tuples(st.sampled_from("aabbbc"), st.sampled_from("pqrstuv")), min_size=7, max_size=60
)


@settings(max_examples=100, deadline=None)
@given(labels, st.integers(0, 99), st.booleans())
def test_every_row_is_in_one_split_and_every_group_too(pairs, seed, grouped):
    strata = np.array([one for one, _ in pairs], dtype=object)
    group = np.array([other for _, other in pairs], dtype=object) if grouped else None
    how = {"seed": seed, "test_fraction": 0.25, "val_fraction": 0.25}
    found = split_rows(np.array([""] * len(pairs)), strata, group, **how)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(len(pairs)))
    again = split_rows(np.array([""] * len(pairs)), strata, group, **how)
    assert all(np.array_equal(found[split], again[split]) for split in found)
    if grouped:
        assert torn_groups(group, found) == []
    else:
        frequent = {key for key in strata if (strata == key).sum() >= 5}
        assert all(frequent <= set(strata[rows]) for rows in found.values())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["", "x", "y", "z"])), max_size=23))
def test_groups_join_what_shares_a_row(pairs):
    parts = number_texts([one for one, _ in pairs])
    found = join_groups(parts, [group for _, group in pairs]).tolist()
    linked = {
        (i, j)
        for i, (a, g) in enumerate(pairs)
        for j, (b, h) in enumerate(pairs)
        if a == b or (g == h != "")
    }
    while True:
        wider = linked | {(i, k) for i, j in linked for m, k in linked if j == m}
        if wider == linked:
            break
        linked = wider
    assert {(i, j) for i, a in enumerate(found) for j, b in enumerate(found) if a == b} == linked


def test_units_fill_the_splits_in_their_order():
    units = [np.array([0, 1, 2]), np.array([3]), np.array([4, 5]), np.array([6])]
    found = fill_splits(units, {"test": 1, "val": 2})
    assert {split: found[split].tolist() for split in SPLITS} == {
        "train": [0, 1, 2, 6],
        "val": [4, 5],
        "test": [3],
    }
    assert fill_splits(units, {"test": 0, "val": 0}, most_train=4)["train"].tolist() == [0, 1, 2, 3]


def test_torn_groups_are_named():
    told = np.array(["train", "train", "test", "test", "val"], dtype=object)
    strata, group = np.array(list("aabab"), dtype=object), np.array(list("xyxzz"), dtype=object)
    how = {"seed": 0, "test_fraction": 0.2, "val_fraction": 0.2}
    with pytest.raises(UserError, match=r'group "x" lies in train and test \(2 such group\(s\)\)'):
        split_rows(told, strata, group, **how)
    found = split_rows(told, strata, group, torn_allowed=True, **how)
    assert torn_groups(group, found) == [("x", ["train", "test"]), ("z", ["val", "test"])]
