"""Scores of molecules against scikit-learn's and scipy's; missing labels count for nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.molecules.metrics import score, spearman

sklearn = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")
NAMES = ("a", "b", "c")


def numbers(n=53, missing=0.3):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(n, 3)) * [1, 100, 0.01]
    target[rng.random((n, 3)) < missing] = np.nan
    return np.nan_to_num(target) + rng.normal(size=(n, 3)) * [0.5, 30, 0.02], target


def labels(n=61):
    rng = np.random.default_rng(1)
    target = (rng.random((n, 3)) < [0.5, 0.2, 0.4]).astype(float)
    target[rng.random((n, 3)) < 0.3] = np.nan
    return np.round(rng.random((n, 3)), 1), target  # with ties, and with probabilities of 0 and 1


def test_regression_as_others_count_it():
    guess, target = numbers()
    found = score("regression", guess, target, NAMES, (1.0, 100.0, 0.01))
    scaled = []
    for k, name in enumerate(NAMES):
        there = np.isfinite(target[:, k])
        y, p = target[there, k], guess[there, k]
        assert found[f"mae {name}"] == pytest.approx(sklearn.mean_absolute_error(y, p))
        assert found[f"rmse {name}"] == pytest.approx(sklearn.root_mean_squared_error(y, p))
        assert found[f"r2 {name}"] == pytest.approx(sklearn.r2_score(y, p))
        assert found[f"spearman {name}"] == pytest.approx(stats.spearmanr(y, p).statistic)
        scaled.extend(abs(y - p) / (1.0, 100.0, 0.01)[k])
    for metric in ("mae", "rmse", "r2", "spearman"):
        assert found[metric] == pytest.approx(np.mean([found[f"{metric} {name}"] for name in NAMES]))
    assert found["loss"] == pytest.approx(np.mean(scaled))


def test_one_target_has_no_name():
    guess, target = numbers()
    assert set(score("regression", guess[:, :1], target[:, :1], ("a",), (1.0,))) == {
        "mae", "rmse", "r2", "spearman", "loss"
    }  # fmt: skip
    guess, target = labels()
    assert set(score("binary", guess[:, :1], target[:, :1], ("a",), (1.0,))) == {"roc_auc", "average_precision", "loss"}


def test_binary_as_scikit_learn():
    guess, target = labels()
    found = score("binary", guess, target, NAMES, (1.0,) * 3)
    for k, name in enumerate(NAMES):
        there = np.isfinite(target[:, k])
        y, p = target[there, k], guess[there, k]
        assert found[f"roc_auc {name}"] == pytest.approx(sklearn.roc_auc_score(y, p))
        assert found[f"average_precision {name}"] == pytest.approx(sklearn.average_precision_score(y, p))
    assert found["roc_auc"] == pytest.approx(np.mean([found[f"roc_auc {name}"] for name in NAMES]))
    there = np.isfinite(target)
    p = np.clip(guess[there], 1e-12, 1)
    q = np.clip(1 - guess[there], 1e-12, 1)
    assert found["loss"] == pytest.approx(-np.where(target[there] == 1, np.log(p), np.log(q)).mean())


def test_multiclass_leaves_out_what_has_no_class():
    rng = np.random.default_rng(2)
    guess, target = rng.dirichlet(np.ones(7), 59), rng.integers(0, 7, 59)
    target[::5] = -1
    found = score("multiclass", guess, target, "abcdefg", (1.0,))
    there = target >= 0
    assert found["top1"] == pytest.approx(sklearn.accuracy_score(target[there], guess[there].argmax(1)))
    assert found["loss"] == pytest.approx(sklearn.log_loss(target[there], guess[there], labels=range(7)))
    assert set(found) == {
        "top1", "top5", "balanced_accuracy", "macro_f1", "average_precision", "calibration_error", "loss"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_guesses_without_a_label_count_nothing(kind):
    guess, target = numbers() if kind == "regression" else labels()
    expected = score(kind, guess, target, NAMES, (1.0,) * 3)
    wild = np.where(np.isfinite(target), guess, np.nan)
    assert score(kind, wild, target, NAMES, (1.0,) * 3) == expected


def test_targets_that_tell_nothing_are_left_out_of_means():
    guess, target = labels()
    target[:, 0], target[np.isfinite(target[:, 1]), 1] = np.nan, 1
    found = score("binary", guess, target, NAMES, (1.0,) * 3)
    assert found["roc_auc"] == found["roc_auc c"] and not {"roc_auc a", "roc_auc b"} & set(found)
    guess, target = numbers()
    target[:, 0], target[np.isfinite(target[:, 1]), 1] = np.nan, 7
    found = score("regression", guess, target, NAMES, (1.0,) * 3)
    assert found["r2"] == found["r2 c"] and found["spearman"] == found["spearman c"]
    assert found["mae"] == pytest.approx((found["mae b"] + found["mae c"]) / 2) and "mae a" not in found


def test_without_any_label_nothing_is_claimed():
    missing = np.full((5, 3), np.nan)
    found = score("regression", np.zeros((5, 3)), missing, NAMES, (1.0,) * 3)
    assert set(found) == {"mae", "rmse", "loss"} and all(map(math.isnan, found.values()))
    assert set(score("binary", np.zeros((5, 3)), missing, NAMES, (1.0,) * 3)) == {"loss"}
    assert math.isnan(score("multiclass", np.ones((5, 3)) / 3, np.full(5, -1), NAMES, (1.0,))["top1"])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_spearman_with_ties(pairs):
    a, b = np.array(pairs, float).T
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
    else:
        assert spearman(a, b) == 0


def test_a_diverged_guess_is_not_hidden():
    guess, target = numbers(missing=0)
    guess[3, 1] = np.nan
    found = score("regression", guess, target, NAMES, (1.0,) * 3)
    assert all(math.isnan(found[name]) for name in ("mae", "rmse", "r2", "spearman", "loss", "mae b"))
    assert math.isfinite(found["mae a"])
