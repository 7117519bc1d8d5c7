"""Metrics against scikit-learn's, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.supervised import metrics as M

sklearn = pytest.importorskip("sklearn.metrics")


def scores(n=97, classes=7, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    probability = M.softmax(np.round(logits) if ties else logits)
    return probability, rng.integers(0, classes - 1, n)  # the last class never occurs


@pytest.mark.parametrize("ties", [False, True])
def test_multiclass_as_scikit_learn(ties):
    p, y = scores(ties=ties)
    found, guess = M.multiclass_metrics(p, y), p.argmax(1)
    assert found["top1"] == pytest.approx(sklearn.accuracy_score(y, guess))
    assert found["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(y, guess))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(y, guess, average="macro"))
    assert found["loss"] == pytest.approx(sklearn.log_loss(y, p, labels=range(7)))
    each = [sklearn.average_precision_score(y == k, p[:, k]) for k in range(6)]
    assert found["average_precision"] == pytest.approx(np.mean(each))
    if not ties:
        assert found["top5"] == pytest.approx(sklearn.top_k_accuracy_score(y, p, k=5, labels=range(7)))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_ranking_metrics_with_ties(pairs):
    score, truth = np.array([s for s, _ in pairs], float), np.array([t for _, t in pairs])
    found = M.binary_metrics(score, truth)
    if 0 < truth.sum() < len(truth):
        assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, score))
        assert found["average_precision"] == pytest.approx(sklearn.average_precision_score(truth, score))
    else:
        assert found == {}


def test_two_classes_have_a_positive_one():
    p, y = scores(classes=2, seed=3)
    y = np.arange(97) % 2
    found = M.multiclass_metrics(p, y)
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(y, p[:, 1]))
    assert found["average_precision"] == pytest.approx(sklearn.average_precision_score(y, p[:, 1]))
    assert "top5" not in found


def test_confusion_and_classes_by_hand():
    counts = M.confusion(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    recall, precision, f1, n = M.per_class(counts)
    assert recall[:2].tolist() == [0.5, 1] and precision[:2].tolist() == [1, pytest.approx(2 / 3)]
    assert f1[:2] == pytest.approx([2 / 3, 0.8]) and n.tolist() == [2, 2, 0]
    assert np.isnan([recall[2], precision[2], f1[2]]).all()


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert M.calibration_error(p, np.array([0, 1, 0, 0])) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert M.calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_equal_scores_count_by_index():
    constant = np.full((10, 10), 0.1)
    assert M.top_k(constant, np.arange(10), 1) == 0.1 and M.top_k(constant, np.arange(10), 5) == 0.5


def test_extreme_logits_stay_finite():
    assert M.softmax(np.array([[1e4, -1e4]])).tolist() == [[1, 0]]
    assert M.sigmoid(np.array([1e4, -1e4])) == pytest.approx([1, 0])
    assert np.isfinite(M.multiclass_metrics(np.array([[1.0, 0.0]]), np.array([1]))["loss"])
