"""Members as one model: averages of numbers and of probabilities, and intervals scaled by their spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from isoform.core.supervised.conformal import Calibration, calibrate
from isoform.core.supervised.ensemble import Ensemble, average, spread_of
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.core.supervised.rows import rows_of

M, N, K = 3, 7, 5


def answers(seed: int, size: float) -> torch.Tensor:
    return size * torch.randn(M, N, K, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 99), st.sampled_from([1e-3, 1.0, 40.0]))
def test_logits_stand_for_the_mean_probability(seed: int, size: float) -> None:
    each = answers(seed, size)
    for outputs, probability in (("classes", softmax), ("labels", sigmoid)):
        got = probability(average(each, outputs).numpy())
        want = np.mean([probability(one) for one in each.double().numpy()], 0)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-12)
    torch.testing.assert_close(average(each, "numbers"), sum(each) / M)


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return scale * x + self.by

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] + self.by


def test_an_ensemble_is_called_as_its_members_are() -> None:
    x = answers(0, 1.0)[0]
    model = Ensemble([Shift(1.0), Shift(2.0), Shift(6.0)], "numbers")
    torch.testing.assert_close(model(x, scale=2.0), 2 * x + 3)
    assert model.answers.shape == (M, N, K)
    spread = spread_of(model, lambda one: 10 * one)
    np.testing.assert_allclose(spread, 10 * np.std([1.0, 2, 6], ddof=1), rtol=1e-5)
    features = model.features(x)
    assert features.shape == (N, 2 * M)
    torch.testing.assert_close(features[:, 4:], x[:, :2] + 6)
    assert spread_of(Shift(1.0), lambda one: one) is None


def test_intervals_follow_the_spread_and_hold_what_they_promise() -> None:
    """Errors that grow with the spread: scaled intervals hold 90 % among the sure and among the unsure alike."""
    rng = np.random.default_rng(0)
    spread = rng.lognormal(0, 1, (4001, 2))
    truth = rng.normal(size=(4001, 2))
    guess = truth + rng.normal(size=truth.shape) * (spread + np.median(spread, 0))
    val, test = slice(0, 2000), slice(2000, None)
    scaled = Calibration.of(calibrate("regression", guess[val], truth[val], spread[val]))
    plain = Calibration.of(calibrate("regression", guess[val], truth[val]))
    np.testing.assert_allclose(scaled.epsilon_K, np.median(spread[val], 0))
    radius = scaled.radius(guess[test], spread[test])
    inside = np.abs(truth[test] - guess[test]) <= radius
    unsure = spread[test] > np.quantile(spread[test], 0.8)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert inside[unsure].mean() == pytest.approx(0.9, abs=0.04)
    missed = np.abs(truth[test] - guess[test]) > plain.radius(guess[test])
    assert 1 - missed[unsure].mean() < 0.8  # what one width for all does
    found = scaled.coverage(guess[test], truth[test], spread=spread[test])
    assert found["coverage 0.9"] == pytest.approx(inside.mean())


def test_members_that_agree_throughout_are_no_division_by_nothing() -> None:
    guess, truth = np.zeros((19, 1)), np.linspace(-1, 1, 19)[:, None]
    found = Calibration.of(calibrate("regression", guess, truth, np.zeros((19, 1))))
    radius = found.radius(guess, np.zeros((19, 1)))
    assert np.isfinite(radius).all() and (radius > 0).all()


def test_spread_is_a_column_of_every_kind() -> None:
    spread = np.arange(6.0).reshape(2, 3)
    numbers = rows_of("regression", ["a", "b", "c"], spread, spread=spread)
    assert [numbers[1][f"spread {name}"] for name in "abc"] == [3, 4, 5]
    p = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert [row["spread"] for row in rows_of("multiclass", ["a", "b", "c"], p, spread=spread)] == [
        1,
        3,
    ]
    assert rows_of("binary", ["a"], p[:, :1], spread=spread[:, :1])[1]["spread"] == 3
    assert rows_of("multilabel", ["a", "b", "c"], p, spread=spread)[0]["spread c"] == 2
    assert not any("spread" in column for column in rows_of("multiclass", ["a", "b", "c"], p)[0])
    calibration = Calibration((0.9,), radius_RK=np.array([[2.0]]), epsilon_K=np.array([1.0]))
    guess, apart = np.array([[10.0]]), np.array([[0.5]])
    (row,) = rows_of("regression", ["a"], guess, calibration, spread=apart)
    assert (row["low 0.9"], row["high 0.9"], row["uncertainty"]) == (7, 13, 3)
    (row,) = rows_of("regression", ["a"], guess, calibration, log=(True,), spread=apart)
    assert (row["low 0.9"], row["high 0.9"], row["spread (log10)"]) == (0.01, 10_000, 0.5)
