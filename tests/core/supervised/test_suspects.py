import numpy as np

from isoform.core.supervised.suspects import rank, suspect_classes, suspect_labels


def test_classes_whose_answer_is_another_are_suspected():
    guess = np.array(
        [[0.7, 0.2, 0.1], [0.05, 0.15, 0.8], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [1, 0, 0]]
    )
    found = suspect_classes(["a", "b", "c"], guess, np.array([0, 1, 2, -1, 2]))
    assert [row["sample"] for row in found] == [1, 2, 4]
    assert found[0] == {
        "sample": 1,
        "given": "b",
        "p(given)": 0.15,
        "suggested": "c",
        "p(suggested)": 0.8,
    }
    assert [row["sample"] for row in rank(found)] == [4, 1, 2], "the least probable label first"


def test_labels_are_judged_one_by_one():
    guess = np.array([[0.9, 0.1], [0.2, 0.5], [0.3, 0.97]])
    target = np.array([[1, 1], [np.nan, 0], [0, 0]])
    found = suspect_labels(["red", "blue"], guess, target)
    assert [(row["sample"], row["label"], row["given"], row["suggested"]) for row in found] == [
        (0, "blue", "yes", "no"),
        (1, "blue", "no", "yes"),
        (2, "blue", "no", "yes"),
    ]
    assert [row["p(given)"] for row in found] == [0.1, 0.5, 0.03]
    assert [row["p(suggested)"] for row in found] == [0.9, 0.5, 0.97]


def test_nothing_is_suspected_where_all_agree():
    assert not suspect_classes(["a", "b"], np.eye(2), np.array([0, 1]))
    assert not suspect_labels(["a"], np.array([[0.2]]), np.array([[np.nan]]))
