"""Intervals and sets hold what they promise on exchangeable samples, and say nothing where they can't."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoform.core.supervised.conformal import (
    LEVELS,
    Calibration,
    calibrate,
    finite_sample_rank,
    residual_quantile,
    score_quantile,
)
from isoform.core.supervised.metrics import softmax


@pytest.mark.parametrize("n", [19, 23, 101])
def test_intervals_hold_the_truth_as_often_as_they_say(n: int) -> None:
    """Over many draws the mean coverage is ceil((n + 1) q) / (n + 1), of heavy tails too."""
    rng = np.random.default_rng(n)
    covered = {level: [] for level in LEVELS}
    for _ in range(300):
        residual = rng.standard_t(2, (n + 50, 3)) * [1, 10, 0.1]
        guess = rng.normal(size=residual.shape)
        found = Calibration.of(calibrate("regression", guess[:n], guess[:n] + residual[:n]))
        for level in found.levels:
            held = found.coverage(guess[n:], guess[n:] + residual[n:], level)
            covered[level].append(held[f"coverage {level:g}"])
    for level, shares in covered.items():
        want = math.ceil((n + 1) * level - 1e-9) / (n + 1)
        assert np.mean(shares) == pytest.approx(want, abs=0.015)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_sets_hold_the_truth_as_often_as_they_say(kind: str) -> None:
    rng = np.random.default_rng(0)
    held, sizes = [], []
    for _ in range(100):
        if kind == "multiclass":
            guess = softmax(rng.normal(size=(300, 5)) * 2)
            target = (guess.cumsum(1) < rng.random((300, 1))).sum(1).clip(0, 4)
        else:
            guess = rng.random((300, 3))
            target = (rng.random((300, 3)) < guess**2).astype(
                float
            )  # a model that is wrong is covered as well
        found = Calibration.of(calibrate(kind, guess[:97], target[:97])).coverage(
            guess[97:], target[97:]
        )
        held.append(found["coverage 0.9"])
        sizes.append(found["set size 0.9"])
    assert (
        0.885 < np.mean(held) < 0.93
    )  # scores tie nowhere; the best class always belongs, which adds a little
    assert 1 < np.mean(sizes) < (5 if kind == "multiclass" else 2)


def test_the_radius_is_the_residual_of_the_rank() -> None:
    guess, residual = np.zeros((19, 1)), np.arange(1.0, 20)[:, None]
    found = calibrate(
        "regression", guess, np.where(np.arange(19)[:, None] % 2, -residual, residual)
    )
    assert dict(zip(found["levels"], found["radius_RK"][:, 0], strict=True)) == {
        0.5: 10,
        0.8: 16,
        0.9: 18,
        0.95: 19,
    }


def test_what_too_few_labels_can_not_tell_is_left_out() -> None:
    target = np.full((11, 2), np.nan)
    target[:, 0] = np.arange(11)
    target[:3, 1] = 1
    found = calibrate("regression", np.zeros((11, 2)), target)
    assert found["levels"].tolist() == [0.5, 0.8, 0.9]  # 0.95 needs 19 labels
    assert np.isfinite(found["radius_RK"]).tolist() == [[True, True], [True, False], [True, False]]
    assert calibrate("regression", np.zeros((5, 1)), np.full((5, 1), np.nan)) == {}
    assert calibrate("multiclass", np.full((5, 3), 1 / 3), np.full(5, -1)) == {}


def test_missing_labels_are_not_counted() -> None:
    rng = np.random.default_rng(1)
    guess, target = rng.normal(size=(67, 2)), rng.normal(size=(67, 2))
    holes = rng.random((67, 2)) < 0.3
    whole = calibrate("regression", guess, np.where(holes, np.nan, target))
    for k in range(2):
        alone = calibrate("regression", guess[~holes[:, k]][:, [k]], target[~holes[:, k]][:, [k]])
        np.testing.assert_array_equal(whole["radius_RK"][:, k], alone["radius_RK"][:, 0])
    found = Calibration.of(whole)
    junk = found.coverage(np.where(holes, 1e9, guess), np.where(holes, np.nan, target))
    assert (
        junk == found.coverage(guess, np.where(holes, np.nan, target))
        and junk["coverage 0.9"] > 0.89
    )


def test_no_set_is_empty() -> None:
    sure = Calibration((0.9,), class_R=np.array([0.01]))
    sets = sure.sets(np.array([[0.4, 0.35, 0.25], [0.995, 0.003, 0.002]]))
    assert sets.tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("count", [9, 10, 11, 19, 99])
def test_the_rank_is_the_smallest_that_keeps_the_promise(count: int, level: float) -> None:
    """A new score is equally likely to fall between any two of n ordered ones: at or below the r-th in r of n + 1."""
    rank = int(finite_sample_rank(np.array(count), level))
    assert rank / (count + 1) >= level - 1e-12 and (rank - 1) / (count + 1) < level - 1e-12
    assert int(finite_sample_rank(np.array(count), 1 - level, upper=False)) == count + 1 - rank, (
        "the mirror image"
    )


def test_scores_by_columns_with_holes() -> None:
    scores = np.sort(
        np.array([[3.0, np.nan, np.nan], [1.0, 5.0, np.nan], [2.0, np.nan, np.nan]]), axis=0
    )
    assert score_quantile(scores, 0.5)[:2].tolist() == [2, 5] and np.isnan(
        score_quantile(scores, 0.5)[2]
    )
    assert np.isnan(score_quantile(scores, 0.8)).all()
    assert np.isnan(score_quantile(scores[:0], 0.5)).all()


@pytest.mark.parametrize("n", [19, 23])
def test_offsets_hold_what_their_levels_promise(n: int) -> None:
    rng = np.random.default_rng(n)
    residuals = np.sort(rng.standard_t(2, (n, 3001)), axis=0)
    fresh = rng.standard_t(2, 3001)
    for level in (0.05, 0.1, 0.5, 0.9, 0.95):
        below = (fresh <= residual_quantile(residuals, level)).mean()
        rank = (n + 1) * level
        want = (
            rank
            if level == 0.5
            else math.ceil(rank - 1e-9)
            if level > 0.5
            else math.floor(rank + 1e-9)
        )
        assert below == pytest.approx(want / (n + 1), abs=0.03)


def test_offsets_by_hand() -> None:
    residuals = np.array([-4.0, -1.0, 2.0, 8.0])[:, None]
    assert residual_quantile(residuals, 0.5).tolist() == [0.5]
    assert residual_quantile(residuals, 0.4).tolist() == [-1] and residual_quantile(
        residuals, 0.6
    ).tolist() == [2]
    assert residual_quantile(residuals, 0.01).tolist() == [-4] and residual_quantile(
        residuals, 0.99
    ).tolist() == [8]
    assert np.isnan(residual_quantile(np.full((4, 1), np.nan), 0.9)).all()
