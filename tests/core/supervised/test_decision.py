"""From probabilities to an answer: thresholds by rule, what is said, and what isn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isoform.core.errors import UserError
from isoform.core.supervised.config import LabelledEval
from isoform.core.supervised.decision import (
    Decision,
    as_labels,
    check_threshold,
    choose,
    decision_metrics,
    describe_thresholds,
    learn_thresholds,
)
from isoform.core.supervised.rows import is_undecided, rows_of

sklearn = pytest.importorskip("sklearn.metrics")
RULES = ("youden", "f1", "sensitivity@specificity=0.9", "specificity@sensitivity=0.8")


def shares(score: Any, truth: Any, threshold: float) -> tuple[float, float, float]:
    said = score >= threshold
    return (
        said[truth].mean(),
        (~said[~truth]).mean(),
        2 * (said & truth).sum() / (said.sum() + truth.sum()),
    )


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=30))
def test_no_threshold_is_better_by_its_rule(pairs: list[tuple[int, bool]]) -> None:
    score = np.array([s for s, _ in pairs]) / 10
    truth = np.array([t for _, t in pairs])
    if truth.all() or not truth.any():
        assert choose("youden", score, truth) == 0.5
        return
    every = [shares(score, truth, t) for t in (*np.arange(-0.05, 1.1, 0.1), 2.0)]
    found = {rule: shares(score, truth, choose(rule, score, truth)) for rule in RULES}
    assert sum(found["youden"][:2]) == pytest.approx(max(a + b for a, b, _ in every))
    assert found["f1"][2] == pytest.approx(max(f for _, _, f in every))
    at = found["sensitivity@specificity=0.9"]
    assert at[1] >= 0.9 and at[0] == pytest.approx(max(a for a, b, _ in every if b >= 0.9))
    at = found["specificity@sensitivity=0.8"]
    assert at[0] >= 0.8 and at[1] == pytest.approx(max(b for a, b, _ in every if a >= 0.8))


def test_a_threshold_lies_between_two_scores_and_the_nearest_to_one_half_is_taken() -> None:
    score = np.array([0.1, 0.2, 0.8, 0.9])
    assert choose("youden", score, score > 0.5) == pytest.approx(0.5)
    assert choose("youden", score, score > 0.15) == pytest.approx(0.15)
    score = np.array([0.1, 0.2, 0.7, 0.9])  # as good with 0.9 alone as with all but 0.1
    assert choose("youden", score, np.array([False, True, False, True])) == pytest.approx(0.8)


def test_metrics_at_the_threshold_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(97), rng.integers(0, 2, 97)
    found = decision_metrics(
        Decision(np.array([0.3])), "multiclass", np.stack([1 - p, p], 1), np.append(y[:-1], -1)
    )
    said, y = p[:-1] >= 0.3, y[:-1]
    assert found == pytest.approx(
        {
            "sensitivity": sklearn.recall_score(y, said),
            "specificity": sklearn.recall_score(1 - y, ~said),
            "precision": sklearn.precision_score(y, said),
            "f1": sklearn.f1_score(y, said),
        }
    )
    three = np.full((5, 3), 1 / 3)
    assert decision_metrics(Decision(), "multiclass", three, np.zeros(5, int)) == {}
    assert decision_metrics(Decision(), "regression", three, three) == {}


def test_metrics_are_means_over_the_labels_that_have_them() -> None:
    target = np.array([[1.0, 0, np.nan], [0, 0, np.nan], [1, 0, np.nan]])
    p = np.array([[0.9, 0.6, 0.9], [0.1, 0.2, 0.9], [0.2, 0.1, 0.9]])
    found = decision_metrics(Decision(), "binary", p, target)
    assert found == pytest.approx(
        {"sensitivity": 0.5, "specificity": (1 + 2 / 3) / 2, "precision": 0.5, "f1": 2 / 3}
    )


def test_every_label_has_its_own_threshold_and_two_classes_one() -> None:
    settings = LabelledEval(threshold="youden")
    p = np.array([[0.1, 0.6], [0.2, 0.7], [0.3, 0.8], [0.4, 0.9]])
    y = np.array([[0.0, 0], [1, np.nan], [1, 0], [1, 0]])
    found = learn_thresholds(settings, "binary", p, y)["threshold_K"]
    assert found.tolist() == pytest.approx([0.15, 0.5]), "the second has one kind alone"
    classes = np.stack([1 - p[:, 0], p[:, 0]], 1)
    found = learn_thresholds(settings, "multiclass", classes, y[:, 0].astype(int))
    decision = Decision.of(settings, found)
    assert decision.classes(classes).tolist() == [0, 1, 1, 1]
    assert Decision().classes(classes).tolist() == [0, 0, 0, 0]
    assert learn_thresholds(LabelledEval(threshold=0.3), "binary", p, y) == {}
    assert Decision.of(LabelledEval(threshold=0.3)).yes(p)[2].tolist() == [True, True]
    told = describe_thresholds(decision, "youden", ["no", "yes"], "multiclass")
    assert told == ["threshold chosen on validation by youden: 0.15 of yes"]
    assert "didn't end" in describe_thresholds(Decision(), "youden", ["no", "yes"], "multiclass")[0]


def test_without_a_threshold_the_answer_is_as_ever() -> None:
    """Equal probabilities are the first class, and a label from one half on."""
    assert Decision().classes(np.array([[0.5, 0.5]])).tolist() == [0]
    assert Decision.of(LabelledEval()).threshold_K is None
    assert Decision().yes(np.array([0.5, 0.49])).tolist() == [True, False]
    p, y = np.array([[0.3, 0.7]]), np.array([-1])
    assert np.isnan(as_labels("multiclass", p, y)[1]).all()


@pytest.mark.parametrize(
    "rule", ["youdens", "sensitivity@specificity=1.2", "sensitivity=0.9", 0, 1.0, -0.1]
)
def test_another_rule_is_refused(rule: Any) -> None:
    with pytest.raises(ValidationError, match=r"the rules are youden|between 0 and 1"):
        LabelledEval(threshold=rule)


@pytest.mark.parametrize("rule", [*RULES, 0.3])
def test_a_rule_that_nothing_can_be_chosen_by_is_refused(rule: Any) -> None:
    asked = LabelledEval(threshold=rule)
    with pytest.raises(UserError, match="this app has 3 classes; leave it out"):
        check_threshold(asked, "multiclass", "abc", np.array([0, 1]))
    with pytest.raises(UserError, match="predicts numbers"):
        check_threshold(asked, "regression", "abc", np.zeros((3, 3)))
    check_threshold(asked, "multiclass", "ab", np.array([0, 1]))
    if rule != 0.3:
        with pytest.raises(UserError, match="one kind alone"):
            check_threshold(asked, "multiclass", "ab", np.array([1, 1]))
        with pytest.raises(UserError, match="there is none"):
            check_threshold(asked, "binary", "a", np.zeros((0, 1)))


def test_what_is_too_unsure_is_undecided() -> None:
    unsure = Decision(min_probability=0.8)
    p = np.array([[0.75, 0.25], [0.1, 0.9]])
    rows = rows_of("multiclass", ["a", "b"], p, decision=unsure)
    assert [row["prediction"] for row in rows] == ["undecided", "b"]
    assert rows[0]["probability"] == 0.75 and list(map(is_undecided, rows)) == [True, False]
    rows = rows_of("binary", ["x", "y"], p, decision=unsure)
    assert [(r["prediction x"], r["prediction y"]) for r in rows] == [("undecided",) * 2, (0, 1)]
    assert list(map(is_undecided, rows)) == [True, False]
    (row,) = rows_of("multilabel", ["x", "y", "z"], np.array([[0.9, 0.7, 0.1]]), decision=unsure)
    assert row["prediction"] == "x" and row["undecided"] == "y" and is_undecided(row)
    assert "undecided" not in rows_of("multilabel", ["x", "y"], p)[0]
    assert not is_undecided(rows_of("regression", ["x"], p[:, :1], decision=unsure)[0])


def test_the_threshold_makes_the_prediction() -> None:
    low = Decision(np.array([0.2]))
    p = np.array([[0.75, 0.25], [0.9, 0.1]])
    rows = rows_of("multiclass", ["a", "b"], p, decision=low)
    assert [(row["prediction"], row["probability"]) for row in rows] == [("b", 0.25), ("a", 0.9)]
    assert rows_of("binary", ["x"], p[:, 1:], decision=low)[0]["prediction"] == 1
    each = Decision(np.array([0.8, 0.2]))
    assert rows_of("multilabel", ["x", "y"], p, decision=each)[0]["prediction"] == "y"
