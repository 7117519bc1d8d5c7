"""Bootstrap intervals: a weighted metric is the metric of samples taken so often, and 95 % hold what they should."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest

from isoform.core.supervised import bootstrap as B
from isoform.core.supervised.decision import Decision, decision_metrics
from isoform.core.supervised.metrics import (
    binary_target_metrics,
    multiclass_metrics,
    multilabel_metrics,
    regression_metrics,
    sigmoid,
    softmax,
)

NAMES = ("a", "b", "c")
LOW = Decision(np.array([0.4]))


def resampled(statistics: Mapping[str, B.Statistic], count_N: np.ndarray) -> dict[str, float]:
    """What the statistics are of samples that come so often, without those that can't be had."""
    values = {name: float(one(count_N[None])[0]) for name, one in statistics.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def agree(found: Mapping[str, float], metrics: Mapping[str, float], *without: str) -> None:
    assert found.keys() == metrics.keys() - set(without)
    for name, value in found.items():
        assert value == pytest.approx(metrics[name], abs=1e-9), name


@pytest.fixture(params=range(3))
def counts(request: pytest.FixtureRequest) -> np.ndarray:
    """How often each of 83 samples comes: once, or as they were drawn."""
    rng = np.random.default_rng(request.param)
    drawn = np.bincount(rng.integers(0, 83, 83), minlength=83).astype(float)
    return drawn if request.param else np.ones(83)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes(counts: np.ndarray, classes: int) -> None:
    rng = np.random.default_rng(classes)
    p, y = softmax(rng.normal(size=(83, classes))), rng.integers(0, classes, 83)
    y[::11] = -1
    rows = np.repeat(np.arange(83), counts.astype(int))
    metrics = multiclass_metrics(p[rows], y[rows])
    metrics |= decision_metrics(LOW, "multiclass", p[rows], y[rows])
    agree(resampled(B.of_classes(p, y, LOW), counts), metrics)


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_labels(counts: np.ndarray, kind: str) -> None:
    rng = np.random.default_rng(5)
    p = sigmoid(np.round(rng.normal(size=(83, 3)), 1))  # with equal scores
    y = (rng.random((83, 3)) < 0.4).astype(float)
    y[::7, 0], y[:, 2] = np.nan, 1
    rows = np.repeat(np.arange(83), counts.astype(int))
    if kind == "binary":
        metrics = binary_target_metrics(p[rows], y[rows], NAMES)
    else:
        metrics = multilabel_metrics(p[rows], y[rows])
    metrics |= decision_metrics(LOW, kind, p[rows], y[rows])
    agree(resampled(B.of_labels(kind, p, y, NAMES, LOW), counts), metrics)


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_numbers(counts: np.ndarray, loss: str) -> None:
    rng = np.random.default_rng(6)
    y = np.round(rng.normal(size=(83, 3)), 1)
    guess = y + rng.normal(size=(83, 3))
    y[::7, 0], y[:, 2] = np.nan, 4.0
    rows = np.repeat(np.arange(83), counts.astype(int))
    scale = (1.0, 3.0, 0.1)
    metrics = regression_metrics(guess[rows], y[rows], NAMES, scale, loss=loss, ranks=True)
    found = B.of_numbers(guess, y, NAMES, scale, loss=loss, ranks=True)
    agree(resampled(found, counts), metrics)


def test_a_mean_has_the_interval_of_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 2, 400)
    found = B.intervals({"mean": B.share(x)}, 400)
    error = 1.96 * x.std() / 20
    assert found["mean"] == pytest.approx((x.mean() - error, x.mean() + error), abs=0.03)
    assert B.intervals({"mean": B.share(x)}, 400) == found, "the same draws every time"


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(60):
        right = rng.random(200) < 0.8
        low, high = B.intervals({"top1": B.share(right)}, 200)["top1"]
        held += low <= 0.8 <= high
    assert 51 <= held <= 60


def test_what_cant_be_had_has_no_interval() -> None:
    p, y = np.array([[0.3, 0.7]]), np.array([1])
    assert B.intervals(B.of_classes(p, y, LOW), 1) == {}
    p, y = np.repeat(p, 5, 0), np.ones(5, int)
    found = B.intervals(B.of_classes(p, y, LOW), 5)
    assert "roc_auc" not in found and "specificity" not in found
    none = np.full(5, -1)
    assert B.intervals(B.of_classes(p, none, LOW), 5) == {}


@pytest.mark.parametrize("right", [0, 1, 17, 18])
def test_what_every_resample_says_alike_has_no_interval(right: int) -> None:
    y = np.arange(18) % 2
    p = np.full((18, 2), 0.3)
    p[np.arange(18), np.where(np.arange(18) < right, y, 1 - y)] = 0.7
    found = B.intervals(B.of_classes(p, y, LOW), 18)
    assert ("top1" in found) == ("loss" in found) == (right in (1, 17))


def test_ten_thousand_samples_take_less_than_a_second() -> None:
    """Of the processor; more classes have fewer intervals."""
    rng = np.random.default_rng(0)
    p, y = softmax(rng.normal(size=(10_000, 10))), rng.integers(0, 10, 10_000)
    started = time.process_time()
    found = B.intervals(B.of_classes(p, y, Decision()), 10_000)
    assert time.process_time() - started < 2, "a third of that, usually"
    assert {"top1", "balanced_accuracy", "loss"} <= found.keys() and "roc_auc" not in found


def test_large_splits_have_fewer_resamples() -> None:
    assert sum(len(part) for part in B.draw(83)) == 1000
    assert len(next(B.draw(300_000))) == 1 and sum(1 for _ in B.draw(300_000)) == 200
    for part in B.draw(83):
        assert (part.sum(1) == 83).all()
