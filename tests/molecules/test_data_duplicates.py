"""Rows of one molecule: merged by rule, contradictions named, leakage refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.molecules.data.clean import clean_and_split
from isoform.molecules.data.duplicates import leaks, merge, refuse_leaks, repeated
from isoform.molecules.data.standardise import standardise

from .miniatures import data, refusal
from .test_data_standardise import table

nan = np.nan
# ethanol three times, methane, acetone twice
SAME = ("CCO", "C", "OCC", "CC(C)=O", "C(C)O", "O=C(C)C")


def molecules(targets, task="regression", **fields):
    targets = np.array(targets, float)
    names = [f"y{k}" for k in range(targets.shape[1])]
    source = table(
        *SAME, targets=targets, target_names=names, units=["eV"] * len(names), task=task, **fields
    )
    return standardise(source, data())


VALUES = [[1, 5], [2, 6], [4, nan], [3, nan], [nan, 5], [3, nan]]


@pytest.mark.parametrize(
    ("rule", "rows", "targets"),
    [
        ("mean", [0, 1, 3], [[2.5, 5], [2, 6], [3, nan]]),
        ("first", [0, 1, 3], [[1, 5], [2, 6], [3, nan]]),
        ("drop", [1, 3], [[2, 6], [3, nan]]),
        ("keep", [0, 1, 2, 3, 4, 5], VALUES),
    ],
)
def test_rules_for_measured_labels(rule, rows, targets):
    found = merge(molecules(VALUES), data(duplicates=rule))
    assert found.names == [f"line {row + 2}" for row in rows]
    np.testing.assert_array_equal(found.targets, targets)
    assert (
        "2 molecules have several rows, 5 in all: " in found.findings[0]
        and f"(data.duplicates = {rule})" in found.findings[0]
    )
    assert (
        found.findings[1] == '1 of them has different labels: "y0" 1 to 4 (line 2, line 4, line 6)'
    )
    gone = {name for name, _ in found.skipped}
    assert gone == {f"line {row + 2}" for row in range(6)} - {f"line {row + 2}" for row in rows}
    if rule == "mean":
        assert ("line 7", "is the same molecule as line 5") in found.skipped
    if rule == "drop":
        assert (
            "line 2",
            "its labels differ between rows (data.duplicates = drop)",
        ) in found.skipped


def test_the_majority_counts_for_classes_and_a_tie_is_no_label():
    found = merge(molecules([[1], [0], [0], [1], [1], [0]], "binary"), data())
    assert found.names == ["line 2", "line 3"] and found.targets[:, 0].tolist() == [1, 0]
    assert ("line 5", "its labels contradict each other") in found.skipped
    two = merge(molecules([[1, 1], [0, 0], [0, 1], [1, 1], [1, 1], [0, 0]], "binary"), data())
    np.testing.assert_array_equal(two.targets, [[1, 1], [0, 0]])
    most = merge(
        molecules([[2], [0], [2], [1], [0], [1]], "multiclass", classes=("a", "b", "c")), data()
    )
    assert most.targets[:, 0].tolist() == [2, 0, 1]


def test_tiny_differences_are_no_contradiction_and_equal_rows_no_finding():
    found = merge(molecules([[1.0], [2], [1.0 + 1e-12], [3], [1.0], [3]]), data())
    assert len(found.findings) == 1
    assert (
        merge(replace(molecules(VALUES), keys=list("abcdef"), inchis=None), data()).findings == []
    )


def test_rows_in_two_splits_are_not_merged_but_leak():
    split = np.array(["train", "train", "test", "val", "train", "val"], dtype=object)
    source = molecules(VALUES, split=split)
    found = merge(source, data(split="given"))
    assert found.names == ["line 2", "line 3", "line 4", "line 5"]
    splits = {"train": np.array([0, 1]), "val": np.array([3]), "test": np.array([2])}
    assert leaks(found, splits) == [[("train", 0), ("test", 2)]]
    said = refusal(refuse_leaks, found, splits)
    assert (
        "t.csv: CCO is in train (line 2) and in test (line 4)" in said
        and "data.allow_leakage = true" in said
    )
    assert said in refusal(clean_and_split, source, data(split="given"))
    kept = clean_and_split(source, data(split="given", allow_leakage=True))
    assert kept.split.tolist() == ["train", "train", "test", "val"]
    refuse_leaks(found, {"train": np.array([0, 1]), "test": np.array([3])})


def test_without_keys_nothing_is_compared():
    source = replace(molecules(VALUES), keys=None)
    assert repeated(source) == [] and merge(source, data()) is source
    assert leaks(source, {"train": np.array([0]), "test": np.array([2])}) == []


def test_enantiomers_and_charges_are_different_molecules():
    source = table("C[C@H](F)Cl", "C[C@@H](F)Cl", "CC(F)Cl", "CC(=O)O", "CC(=O)[O-]")
    assert repeated(standardise(source, data())) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(-3, 3))),
        min_size=1,
        max_size=19,
    )
)
def test_merging_leaves_one_row_a_molecule_with_the_mean_of_its_labels(rows):
    values = np.array([[nan if value is None else value] for _, value in rows], float)
    source = replace(table(*["C"] * len(rows), targets=values), keys=[str(key) for key, _ in rows])
    found = merge(source, data())
    wanted = {}
    for key, value in rows:
        wanted.setdefault(str(key), []).append(nan if value is None else value)
    assert list(found.keys) == list(wanted)
    assert len(found) + len(found.skipped) == len(rows)
    means = [np.nanmean(v) if np.isfinite(v).any() else nan for v in wanted.values()]
    np.testing.assert_allclose(found.targets[:, 0], means, atol=1e-12)
