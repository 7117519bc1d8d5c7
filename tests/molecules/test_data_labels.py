"""Which columns are labels, what a cell is worth, and what "auto" makes of them."""

import numpy as np
import pytest

from isoform.molecules.data.columns import boolean_of

from .miniatures import SMILES, read, refusal, write


def table(tmp_path, *columns):
    """A csv of SMILES and columns (name, cell, cell, ...)."""
    rows = list(zip(SMILES, *(cells for _, *cells in columns), strict=False))
    lines = [
        ",".join(["smiles", *(name for name, *_ in columns)]),
        *(",".join(map(str, row)) for row in rows),
    ]
    return write(tmp_path / "t.csv", "\n".join(lines) + "\n")


def test_censored_values_are_named_and_count_by_rule(tmp_path):
    path = table(tmp_path, ("ic50", ">10", "<= 0.5", "~3", "4.5", "", "≥7", ">x"))
    found = read(path)
    np.testing.assert_array_equal(found.targets[:, 0], [10, 0.5, 3, 4.5, np.nan, 7, np.nan])
    line = next(line for line in found.findings if "censored" in line)
    assert '"ic50": 4 censored values count as their bound' in line and "'>10' (line 2)" in line
    assert "\"ic50\": 1 cell is no number and counts as missing: '>x' (line 8)" in found.findings
    dropped = read(path, censored="drop")
    np.testing.assert_array_equal(
        dropped.targets[:, 0], [np.nan, np.nan, np.nan, 4.5, np.nan, np.nan, np.nan]
    )
    assert any("data.censored = drop" in line for line in dropped.findings)


def test_measurements_are_no_classes(tmp_path):
    path = write(tmp_path / "m.csv", "smiles,logS\n" + "".join(f"C,{k}.5\n" for k in range(23)))
    said = refusal(lambda: read(path, task="multiclass"))
    assert '"logS" holds 23 different numbers' in said and "data.task = regression" in said


def test_a_column_with_a_bad_cell_in_five_is_still_one_of_numbers(tmp_path):
    good = [k / 4 for k in range(18)]
    bad = ("broken", "n/a?", "x", "y")
    assert read(table(tmp_path, ("y", *good[:12], *bad[:3]))).target_names == ["y"]
    many = read(table(tmp_path, ("y", *good[:15], *bad), ("z", *good, 1)))
    assert many.target_names == ["z"] and "not to be predicted (text): y" in many.findings
    named = read(table(tmp_path, ("y", *good[:15], *bad)), targets=("y",), task="regression")
    assert np.isnan(named.targets[15:]).all() and any(
        "4 cells are no numbers" in line for line in named.findings
    )


def test_columns_that_are_no_labels_are_left_out_and_named(tmp_path):
    path = table(
        tmp_path, ("id", *range(1, 8)), ("gaps", 2, 3, 5, 6, 7, 8, 9), ("same", *[4] * 7), ("none", *[""] * 7),
        ("canonical_smiles", *SMILES[:7]), ("note", *"abcdefg"), ("split", *["train"] * 7), ("y", 3, 1, 4, 1, 5, 9, 2),
    )  # fmt: skip
    found = read(path)
    assert found.target_names == ["y"]
    said = "\n".join(found.findings)
    left_out = {
        "running number": "id, gaps", "the same in every row": "same", "empty": "none", "SMILES": "canonical_smiles",
        "text": "note",
    }  # fmt: skip
    for why, names in left_out.items():
        assert f"not to be predicted ({why}): {names}\n" in said
    assert 'the column "split" is not used' in said
    assert read(path, targets=("gaps", "y")).target_names == ["gaps", "y"]


def test_auto_tells_binary_from_regression_and_classes(tmp_path):
    zeros = read(table(tmp_path, ("a", 0, 1, 1, 0, ""), ("b", "0.0", "1.0", "", "1.0", "0")))
    assert zeros.task == "binary" and zeros.target_names == ["a", "b"]
    assert read(table(tmp_path, ("a", 0, 1, 2, 0, 1))).task == "regression"
    assert read(table(tmp_path, ("a", 0, 1, 1, 0, 1), ("b", 0.5, 1, 1, 0, 1))).task == "regression"
    words = read(table(tmp_path, ("active", "yes", "No", "", "YES", "no")))
    assert words.task == "binary" and any("count as 1 and 0" in line for line in words.findings)
    np.testing.assert_array_equal(words.targets[:, 0], [1, 0, np.nan, 1, 0])
    signs = read(table(tmp_path, ("active", "+", "-", "+", "-", "+")))
    assert signs.targets[:, 0].tolist() == [1, 0, 1, 0, 1]
    classes = read(table(tmp_path, ("kind", *"bacabacab")))
    assert classes.task == "multiclass" and classes.classes == ("a", "b", "c")
    assert classes.targets[:3, 0].tolist() == [1, 0, 2]
    assert any("data.task = auto: multiclass" in line for line in classes.findings)
    whole = read(table(tmp_path, ("k", 0, 1, 2, 2, 0)))
    assert any(
        "set data.task = multiclass if these 3 whole numbers are classes" in line
        for line in whole.findings
    )


def test_numbers_may_be_classes_and_their_order_is_by_value(tmp_path):
    path = table(tmp_path, ("k", 10, 2, "", 2.0, 10, 1))
    found = read(path, task="multiclass")
    assert found.classes == ("1", "2", "10")
    np.testing.assert_array_equal(found.targets[:, 0], [2, 1, np.nan, 1, 2, 0])
    few = read(path, classes=("10", "2"))
    np.testing.assert_array_equal(few.targets[:, 0], [0, 1, np.nan, 1, 0, np.nan])
    assert any(
        "1 label of none of the classes" in line and "'1' (line 7)" in line for line in few.findings
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"targets": ("z",)}, 'has no column "z" (data.targets)'),
        ({"targets": ("y", "Y")}, "data.targets names a column twice"),
        ({"targets": ("smiles",)}, "the column of SMILES"),
        (
            {"targets": ("note",), "task": "regression"},
            "column \"note\" holds no number (such as 'a' (line 2))",
        ),
        ({"targets": ("y",), "task": "binary"}, 'line 2: column "y" is 3 where 0 or 1 is expected'),
        ({"targets": ("y", "note"), "task": "multiclass"}, "takes one target and there are 2"),
        (
            {"targets": ("same",), "task": "multiclass"},
            "holds 1 different labels where 2 to 1000 classes",
        ),
        ({"split": "given"}, 'has no column "split" (data.split_column)'),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, words):
    path = table(tmp_path, ("y", 3, 1, 4, 1), ("note", *"abcd"), ("same", *"xxxx"))
    assert words in refusal(lambda: read(path, **settings))


def test_a_word_that_is_no_class_of_two_is_named(tmp_path):
    """An evaluation reads other labels so: of a run of actives and inactives."""
    path = table(tmp_path, ("activity", "active", "inactive", "Weird", "active", "", "odd"))
    said = refusal(lambda: read(path, targets=("activity",), task="binary"))
    assert "holds 'Weird' (line 4), 'odd' (line 7) where 0 and 1" in said and "'active'" not in said
    path = table(tmp_path, ("activity", "active", "", "active"))
    said = refusal(lambda: read(path, targets=("activity",), task="binary"))
    assert "holds one class alone in words ('active' (line 2))" in said


def test_given_splits(tmp_path):
    path = table(tmp_path, ("y", 3, 1, 4, 1, 5), ("part", "Train", "VALID", "test", "", "training"))
    assert read(path, split="given", split_column="part").split.tolist() == [
        "train",
        "val",
        "test",
        "",
        "train",
    ]
    path = table(tmp_path, ("y", 3, 1), ("split", "train", "fold 3"))
    said = refusal(lambda: read(path, split="given"))
    assert "line 3: column \"split\" is 'fold 3' where the split train, val or test" in said


def test_missing_words_and_codes_of_ones_own(tmp_path):
    path = table(tmp_path, ("y", "below", -999, 1.5, 2.5, 0.5), ("w", 1, 2, "below", 0.25, -999))
    np.testing.assert_array_equal(
        read(path, missing=("Below", -999)).targets,
        [[np.nan, 1], [np.nan, 2], [1.5, np.nan], [2.5, 0.25], [0.5, np.nan]],
    )
    assert any("set data.missing = [-999]" in line for line in read(path).findings)


def test_boolean_words_need_both_values():
    assert boolean_of(["yes", "yes"]) is None and boolean_of(["yes", "maybe", "no"]) is None
    assert boolean_of(["-", "-"]) is None and boolean_of(["1", "0"]) is None
    np.testing.assert_array_equal(boolean_of(["Active", "inactive", "-"]), [1, 0, np.nan])
