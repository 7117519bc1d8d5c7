"""The paired test against formulas written out another way, and against what it must give where theory says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from isoform.timeseries.significance import diebold_mariano, holm, lags_for, two_sided


def long_hand(d: np.ndarray, lags: int) -> tuple[float, float]:
    """The corrected statistic by its definition, a sum over all pairs of origins instead of over autocovariances."""
    n, h = len(d), lags + 1
    e = d - d.mean()
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += max(0.0, 1 - abs(i - j) / h) * e[i] * e[j]
    variance_of_mean = total / n**2
    plain = d.mean() / math.sqrt(variance_of_mean)
    corrected = plain * math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    return corrected, 2 * stats.t.sf(abs(corrected), df=n - 1)


@pytest.mark.parametrize(("n", "lags"), [(29, 0), (31, 2), (101, 6)])
def test_statistic_and_p_by_another_formula(n: int, lags: int) -> None:
    rng = np.random.default_rng(n)
    d = np.convolve(rng.normal(0.2, 1, n + lags), np.ones(lags + 1), "valid")
    found = diebold_mariano(d, lags)
    statistic, p = long_hand(d, lags)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert (found.n, found.lags) == (n, lags)


def test_without_lags_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.gamma(2, 1, 37), rng.gamma(2, 1.3, 37)
    found, known = diebold_mariano(ours - theirs, 0), stats.ttest_rel(ours, theirs)
    assert found.statistic == pytest.approx(known.statistic, rel=1e-12)
    assert found.p == pytest.approx(known.pvalue, rel=1e-9)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 28, 29, 1001, 20_000])
def test_students_t(degrees: int) -> None:
    for t in (0.0, 0.3, -1.7, 2.5, 40.0):
        assert two_sided(t, degrees) == pytest.approx(
            2 * stats.t.sf(abs(t), degrees), rel=1e-9, abs=1e-13
        )


def test_by_hand() -> None:
    """d = 1, 2, 1, 2, ...: mean 1.5, deviations +-0.5, variance 1/4, autocovariance at lag 1 -(n - 1) / (4 n)."""
    n = 10
    d = np.tile([1.0, 2.0], 5)
    variance = 0.25 + 2 * 0.5 * -(n - 1) / (4 * n)
    factor = math.sqrt((n + 1 - 4 + 2 / n) / n)
    assert diebold_mariano(d, 1).statistic == pytest.approx(factor * 1.5 / math.sqrt(variance / n))


def test_it_is_wrong_as_often_as_it_says() -> None:
    """Equal forecasters whose losses overlap over 4 origins: 5 % of the tests find a difference, give or take."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (2000, 203))
    d = np.stack([np.convolve(row, np.ones(4), "valid") for row in noise])
    lags = lags_for(200, horizon=4, step=1)
    share = np.mean([diebold_mariano(row, lags).p < 0.05 for row in d])
    naive = np.mean([diebold_mariano(row, 0).p < 0.05 for row in d])
    assert 0.03 < share < 0.10 < 0.25 < naive


def test_sign_missing_origins_and_what_cannot_be_tested() -> None:
    d = np.array([-1.0, -2, np.nan, -3, -1, -2, -1, -3, -2, np.nan, -1])
    found = diebold_mariano(d, 0)
    assert found.statistic < 0 and found.n == 9
    assert found.statistic == diebold_mariano(d[np.isfinite(d)], 0).statistic
    assert math.isnan(diebold_mariano(d[:8], 0).p)  # 7 origins
    assert math.isnan(diebold_mariano(d, 3).p)  # 9 origins, 4 steps
    assert diebold_mariano(np.zeros(11), 0).p == 1
    assert diebold_mariano(np.full(11, -0.1), 0).statistic == -math.inf
    assert diebold_mariano(np.array([]), 0).n == 0


def test_lags_cover_the_overlap() -> None:
    assert lags_for(100, horizon=24, step=24) == 4
    assert lags_for(100, horizon=24, step=1) == 23
    assert lags_for(100, horizon=25, step=4) == 6
    assert lags_for(5, horizon=1, step=1) == 2


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(
        holm([0.01, np.nan, 0.04, 0.03, 0.5]), [0.04, np.nan, 0.09, 0.09, 0.5]
    )
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
