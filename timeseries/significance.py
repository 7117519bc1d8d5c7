"""Is one forecaster better than another, or was it luck? Paired tests over the origins of a backtest.

n origins in order of time, d the difference of two losses at each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 8  # origins, below which nothing is tested


@dataclass(frozen=True)
class Comparison:
    """A Diebold-Mariano test: `statistic` is below 0 where the first loss is the smaller one; NaN if not tested."""

    statistic: float
    p: float  # two-sided
    n: int
    lags: int
    mean: float  # of d


def diebold_mariano(d_n: np.ndarray, lags: int) -> Comparison:
    """Tests whether the mean of d is 0, allowing for correlation between origins up to `lags` apart.

    The statistic of Diebold and Mariano (1995) with the long-run variance of Newey and West (1987; Bartlett weights, so
    it is never negative), the small-sample factor of Harvey, Leybourne and Newbold (1997) for forecasts lags + 1 steps
    ahead, and Student's t with n - 1 degrees of freedom. With no lags it is the paired t test. NaN in d leaves the
    origin out. Nothing is tested with fewer than 8 origins, or than three for each of the lags + 1 steps.
    """
    d = np.asarray(d_n, np.float64)
    d = d[np.isfinite(d)]
    n, steps = len(d), lags + 1
    mean = float(d.mean()) if n else math.nan
    if n < max(FEWEST, 3 * steps):
        return Comparison(math.nan, math.nan, n, lags, mean)
    e = d - mean
    variance = e @ e / n
    for k in range(1, steps):
        variance += 2 * (1 - k / steps) * (e[k:] @ e[:-k]) / n
    if variance <= 1e-24 * max(mean * mean, 1e-300):  # the same difference everywhere
        same = mean == 0
        return Comparison(
            0.0 if same else math.copysign(math.inf, mean), 1.0 if same else 0.0, n, lags, mean
        )
    factor = math.sqrt((n + 1 - 2 * steps + steps * (steps - 1) / n) / n)
    statistic = float(factor * mean / math.sqrt(variance / n))
    return Comparison(statistic, two_sided(statistic, n - 1), n, lags, mean)


def two_sided(t: float, degrees: int) -> float:
    """Probability of a Student's t as far from 0 as this one, to about 1e-13.

    The sums for a whole number of degrees of freedom of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    if degrees % 2:
        k = np.arange(1, (degrees - 1) // 2)
        terms = np.cumprod(np.concatenate([[cosine], 2 * k / (2 * k + 1) * cosine**2]))
        inside = 2 / math.pi * (angle + (sine * float(terms.sum()) if degrees > 1 else 0.0))
    else:
        k = np.arange(1, degrees // 2)
        inside = sine * float(
            np.cumprod(np.concatenate([[1.0], (2 * k - 1) / (2 * k) * cosine**2])).sum()
        )
    return min(1.0, max(0.0, 1 - inside))


def lags_for(n: int, horizon: int, step: int) -> int:
    """How many neighbouring origins to allow for: those whose horizons overlap, and at least 4 (n / 100)^(2/9).

    Forecasts of `horizon` rows every `step` rows share rows with ceil(horizon / step) - 1 later ones; the second number
    (Newey and West 1994) is for differences that last longer, such as a season that suits one of the two.
    """
    return max(-(-horizon // step) - 1, int(4 * (n / 100) ** (2 / 9)))


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values adjusted for how many were tested together (Holm 1979); NaN stays and doesn't count."""
    values = np.asarray(p, np.float64)
    found = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    if len(order):
        factors = np.arange(len(order), 0, -1)
        found[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return found
