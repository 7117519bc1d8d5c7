"""Metrics against scikit-learn's and scipy's, and by hand; a missing target counts for nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.supervised import metrics as M

sklearn = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")
NAMES, SCALE = ("a", "b", "c"), (1.0, 100.0, 0.01)


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
    each = [sklearn.roc_auc_score(y == k, p[:, k]) for k in range(6)]
    assert found["roc_auc"] == pytest.approx(np.mean(each))
    if not ties:
        assert found["top5"] == pytest.approx(
            sklearn.top_k_accuracy_score(y, p, k=5, labels=range(7))
        )


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_ranking_metrics_with_ties(pairs):
    score, truth = np.array([s for s, _ in pairs], float), np.array([t for _, t in pairs])
    found = M.binary_metrics(score, truth)
    if 0 < truth.sum() < len(truth):
        assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, score))
        assert found["average_precision"] == pytest.approx(
            sklearn.average_precision_score(truth, score)
        )
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


def numbers(n: int = 53, missing: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(n, 3)) * SCALE
    target[rng.random((n, 3)) < missing] = np.nan
    return np.nan_to_num(target) + rng.normal(size=(n, 3)) * [0.5, 30, 0.02], target


def labels(n: int = 61, missing: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    target = (rng.random((n, 3)) < [0.5, 0.2, 0.4]).astype(float)
    target[rng.random((n, 3)) < missing] = np.nan
    return np.round(rng.random((n, 3)), 1), target  # with ties, and with probabilities of 0 and 1


# --- numbers


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_regression_as_others_count_it(missing: float) -> None:
    guess, target = numbers(missing=missing)
    found = M.regression_metrics(guess, target, NAMES, SCALE, loss="l1", ranks=True)
    squared = M.regression_metrics(guess, target, NAMES, SCALE)
    absolute_error, squared_error = [], []
    for k, name in enumerate(NAMES):
        there = np.isfinite(target[:, k])
        y, p = target[there, k], guess[there, k]
        assert found[f"mae {name}"] == pytest.approx(sklearn.mean_absolute_error(y, p))
        assert found[f"rmse {name}"] == pytest.approx(sklearn.root_mean_squared_error(y, p))
        assert found[f"r2 {name}"] == pytest.approx(sklearn.r2_score(y, p))
        assert found[f"spearman {name}"] == pytest.approx(stats.spearmanr(y, p).statistic)
        absolute_error.extend(abs(y - p) / SCALE[k])
        squared_error.extend(((y - p) / SCALE[k]) ** 2)
    for metric in ("mae", "rmse", "r2", "spearman"):
        assert found[metric] == pytest.approx(
            np.mean([found[f"{metric} {name}"] for name in NAMES])
        )
    assert found["loss"] == pytest.approx(np.mean(absolute_error))
    assert squared["loss"] == pytest.approx(np.mean(squared_error))
    expected = {name: value for name, value in found.items() if not name.startswith("spearman")}
    assert {**expected, "loss": squared["loss"]} == squared


def test_one_target_has_no_name() -> None:
    guess, target = numbers()
    one = M.regression_metrics(guess[:, :1], target[:, :1], ("a",), (1.0,), ranks=True)
    assert list(one) == ["mae", "rmse", "r2", "spearman", "loss"]
    guess, target = labels()
    one = M.binary_target_metrics(guess[:, :1], target[:, :1], ("a",))
    assert list(one) == ["roc_auc", "average_precision", "loss"]


def test_one_complete_target_with_the_bits_of_whole_columns() -> None:
    guess, target = numbers(n=101, missing=0)
    guess, target = guess[:, :1], target[:, :1]
    error = guess - target
    mse = np.square(error).mean(0)
    spread = np.square(target - target.mean(0)).mean(0)
    found = M.regression_metrics(guess, target, ("a",), (0.7,))
    assert found["mae"] == np.abs(error).mean(0).mean() and found["rmse"] == np.sqrt(mse).mean()
    assert (
        found["r2"] == (1 - mse / spread).mean()
        and found["loss"] == (mse / np.square([0.7])).mean()
    )


def test_a_diverged_guess_is_not_hidden() -> None:
    guess, target = numbers(missing=0)
    guess[3, 1] = np.nan
    for loss in ("mse", "l1"):
        found = M.regression_metrics(guess, target, NAMES, SCALE, loss=loss, ranks=True)
        assert all(
            math.isnan(found[name]) for name in ("mae", "rmse", "r2", "spearman", "loss", "mae b")
        )
        assert math.isfinite(found["mae a"])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_spearman_with_ties(pairs) -> None:
    a, b = np.array(pairs, float).T
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert M.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
    else:
        assert M.spearman(a, b) == 0


# --- labels


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_binary_targets_as_scikit_learn(missing: float) -> None:
    guess, target = labels(missing=missing)
    found = M.binary_target_metrics(guess, target, NAMES)
    for k, name in enumerate(NAMES):
        there = np.isfinite(target[:, k])
        y, p = target[there, k], guess[there, k]
        assert found[f"roc_auc {name}"] == pytest.approx(sklearn.roc_auc_score(y, p))
        assert found[f"average_precision {name}"] == pytest.approx(
            sklearn.average_precision_score(y, p)
        )
    assert found["roc_auc"] == pytest.approx(np.mean([found[f"roc_auc {name}"] for name in NAMES]))
    there = np.isfinite(target)
    p, q = np.clip(guess[there], 1e-12, 1), np.clip(1 - guess[there], 1e-12, 1)
    assert found["loss"] == pytest.approx(
        -np.where(target[there] == 1, np.log(p), np.log(q)).mean()
    )


def test_sets_of_labels_as_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    p, y = rng.random((61, 5)), (rng.random((61, 5)) < 0.3).astype(np.float32)
    y[:, 2] = 0
    p[:, 2] *= 0.4
    found, kept = M.multilabel_metrics(p, y), [0, 1, 3, 4]
    assert found["average_precision"] == pytest.approx(
        sklearn.average_precision_score(y[:, kept], p[:, kept])
    )
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(y[:, kept], p[:, kept]))
    assert found["macro_f1"] == pytest.approx(
        sklearn.f1_score(y[:, kept], p[:, kept] >= 0.5, average="macro")
    )
    assert found["exact_match"] == pytest.approx(sklearn.accuracy_score(y > 0.5, p >= 0.5))
    assert found["loss"] == pytest.approx(-np.where(y > 0, np.log(p), np.log(1 - p)).mean())
    assert math.isnan(M.multilabel_metrics(p, np.zeros_like(y))["average_precision"]), (
        "no label is both yes and no: nothing can be ranked, and 0 would be the worst of ranks"
    )


def test_sets_of_known_labels_by_hand() -> None:
    nan = math.nan
    target = np.array([[1, nan], [0, 1], [nan, nan], [1, 0]])
    guess = np.array([[0.9, 0.9], [0.8, 0.7], [0.9, 0.9], [0.6, 0.1]])
    found = M.multilabel_metrics(guess, target)
    assert found["exact_match"] == pytest.approx(2 / 3), (
        "the unlabelled sample is neither right nor wrong"
    )
    assert found["macro_f1"] == pytest.approx((4 / 5 + 1) / 2)
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6, 0.9]).mean())


# --- what is missing, in all of them


METRICS = {
    "regression": lambda guess, target: M.regression_metrics(
        guess, target, NAMES, SCALE, ranks=True
    ),
    "binary": lambda guess, target: M.binary_target_metrics(guess, target, NAMES),
    "multilabel": M.multilabel_metrics,
}


@pytest.mark.parametrize("kind", METRICS)
def test_guesses_without_a_label_count_nothing(kind: str) -> None:
    guess, target = numbers() if kind == "regression" else labels()
    expected = METRICS[kind](guess, target)
    wild = np.where(np.isfinite(target), guess, np.nan)
    assert METRICS[kind](wild, target) == expected
    more = [np.concatenate([guess, guess[:7]]), np.concatenate([target, np.full((7, 3), np.nan)])]
    assert METRICS[kind](*more) == pytest.approx(expected)


def test_samples_without_a_class_count_nothing() -> None:
    rng = np.random.default_rng(2)
    guess, target = rng.dirichlet(np.ones(7), 59), rng.integers(0, 7, 59)
    target[::5] = -1
    there = target >= 0
    assert M.multiclass_metrics(guess, target) == M.multiclass_metrics(guess[there], target[there])


def test_targets_that_tell_nothing_are_left_out_of_means() -> None:
    guess, target = labels()
    target[:, 0], target[np.isfinite(target[:, 1]), 1] = np.nan, 1
    found = M.binary_target_metrics(guess, target, NAMES)
    assert found["roc_auc"] == found["roc_auc c"] and not {"roc_auc a", "roc_auc b"} & set(found)
    assert M.multilabel_metrics(guess, target)["roc_auc"] == found["roc_auc c"]
    guess, target = numbers()
    target[:, 0], target[np.isfinite(target[:, 1]), 1] = np.nan, 7
    found = M.regression_metrics(guess, target, NAMES, SCALE, ranks=True)
    assert found["r2"] == found["r2 c"] and found["spearman"] == found["spearman c"]
    assert (
        found["mae"] == pytest.approx((found["mae b"] + found["mae c"]) / 2)
        and "mae a" not in found
    )


def test_without_any_label_nothing_is_claimed() -> None:
    missing, zeros = np.full((5, 3), np.nan), np.zeros((5, 3))
    claims = {kind: metrics(zeros, missing) for kind, metrics in METRICS.items()}
    claims["multiclass"] = M.multiclass_metrics(np.ones((5, 3)) / 3, np.full(5, -1))
    assert {kind: set(found) for kind, found in claims.items()} == {
        "regression": {"mae", "rmse", "loss"},
        "binary": {"loss"},
        "multilabel": {"average_precision", "loss"},
        "multiclass": {"top1", "loss"},
    }
    assert all(math.isnan(value) for found in claims.values() for value in found.values())


def test_what_has_no_sample_is_named() -> None:
    classes = np.array([0, 2, -1, 2])
    assert M.describe_unscored(np.array([2, 0, 1, -1]), NAMES, "val") is None
    line = M.describe_unscored(classes, NAMES, "test")
    assert (
        line == "warning: test holds 2 of 3 classes, and its metrics run over these; no sample of b"
    )
    target = np.array([[1, np.nan, np.nan], [np.nan, np.nan, 0]])
    assert "no sample of b" in M.describe_unscored(target, NAMES, "test")
    assert M.describe_unscored(np.zeros((2, 3)), NAMES, "test") is None
    assert M.describe_unscored(np.zeros(1, int), [str(k) for k in range(11)], "val").endswith(
        "1, 2, 3, 4, 5, 6, 7, 8 and 2 more"
    )
