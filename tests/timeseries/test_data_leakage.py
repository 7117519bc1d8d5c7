"""Which columns give a target away, and which only look as if they did."""

import numpy as np
import pytest

from isoform.timeseries.data.leakage import find_leaks

from .panels import panel, series, walk, with_gaps

NAN = np.nan
ROWS = 307


def noise(rows=ROWS, seed=3):
    return np.random.default_rng(seed).normal(size=rows)


def ahead(column, lead):
    """column[t + lead] in row t; behind where negative."""
    moved = np.roll(np.asarray(column, float), -lead)
    moved[len(column) - lead if lead > 0 else 0 : len(column) if lead > 0 else -lead] = NAN
    return moved


def leaks(*targets, horizon=29, **covariates):
    return find_leaks(panel(series(np.stack(targets, 1), **covariates)), horizon)


@pytest.mark.parametrize("lead", [1, 2, 23, 29])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: 1.8 * x + 32, lambda x: -1e9 * x])
@pytest.mark.parametrize("level", [noise(), walk(ROWS, 1)[:, 0], 1e-9 * noise()])
def test_a_target_that_leads_another(lead, change, level):
    assert leaks(level, change(ahead(level, lead))) == [("target", "v1", "v0", lead)]
    assert leaks(change(ahead(level, lead)), level) == [("target", "v0", "v1", lead)]
    assert not leaks(level, change(ahead(level, lead)), horizon=lead - 1)


def test_covariates_by_what_is_known_of_them():
    x = walk(ROWS, 2)
    y = x[:, 0]
    for lead in (0, 3, -3):
        column = ahead(y, lead)[:, None]
        assert leaks(y, known=column) == [("known", "k0", "v0", lead)]
        assert leaks(y, past=column) == ([("past", "p0", "v0", 3)] if lead == 3 else [])
    assert not leaks(y, known=ahead(y, -29)[:, None])  # the first row of a horizon is its last
    assert leaks(y, known=ahead(y, -28)[:, None])
    assert not leaks(y, known=x[:, 1:], past=x[:, 1:])


def test_gaps_and_few_values_hide_nothing():
    y = with_gaps(walk(ROWS, 1), 0.3)[:, 0]
    z = with_gaps(ahead(walk(ROWS, 1)[:, 0], 5)[:, None], 0.3, seed=1)[:, 0]
    assert leaks(y, z) == [("target", "v1", "v0", 5)]
    sold = np.random.default_rng(5).poisson(0.6, ROWS).astype(float)
    assert leaks(sold, ahead(sold, 7)) == [("target", "v1", "v0", 7)]


def test_any_series_of_a_panel():
    other, y = walk(ROWS, 2), walk(211, 1, seed=9)[:, 0]
    members = [series(other, id="a"), series(np.stack([y, ahead(y, 2)], 1), id="b")]
    assert find_leaks(panel(*members), 7) == [("target", "v1", "v0", 2)]
    assert find_leaks(panel(*members[::-1]), 7) == [("target", "v1", "v0", 2)]


t = np.arange(ROWS)
DAY = 2 * np.pi * t / 24
SPIKE = np.zeros(ROWS)
SPIKE[[40, 200]] = 7
FLAG = (t % 168 < 24).astype(float)
INNOCENT = {
    "two waves of a day": (np.sin(DAY), np.cos(DAY)),
    "waves with digits cut": (np.sin(DAY).round(2), np.cos(DAY).round(2)),
    "flags of a calendar": (FLAG, np.roll(FLAG, 24)),
    "hour and weekday": (t % 24.0, t // 24 % 7.0),
    "counters": (t + 5.0, 3.0 * t),
    "growth": (1.01**t, 2 * 1.01 ** (t + 3)),
    "meters that run on": (np.cumsum(noise() ** 2), np.cumsum(noise(seed=4) ** 2)),
    "a meter twice": (np.cumsum(noise() ** 2), np.cumsum(noise() ** 2)),
    "constant": (np.full(ROWS, 4.0), np.full(ROWS, 5.0)),
    "nearly constant": (SPIKE, np.roll(SPIKE, -5)),
    "a code in both": (np.where(SPIKE > 0, -9999, noise()), np.where(np.roll(SPIKE, -5) > 0, -9999, noise(seed=4))),
    "the same twice": (walk(ROWS, 1)[:, 0], walk(ROWS, 1)[:, 0]),
    "nearly the same": (walk(ROWS, 1)[:, 0], walk(ROWS, 1)[:, 0] + 0.01 * noise(seed=8)),
    "without a value": (np.full(ROWS, NAN), noise()),
    "a season with noise": (np.sin(DAY) + 0.05 * noise(), np.cos(DAY) + 0.05 * noise(seed=4)),
    "smooth": (np.convolve(noise(), np.hanning(61), "same"), np.convolve(noise(seed=4), np.hanning(61), "same")),
    "rare flags": ((noise() > 2.2).astype(float), (noise(seed=4) > 2.2).astype(float)),
}  # fmt: skip


@pytest.mark.parametrize("kind", INNOCENT)
def test_what_only_looks_like_it(kind):
    a, b = INNOCENT[kind]
    assert leaks(a, b) == []
    assert leaks(a, past=b[:, None]) == []


def test_a_horizon_longer_than_the_rows():
    assert leaks(noise(13), noise(13, seed=4), horizon=48) == []
    assert leaks(noise(5), noise(5, seed=4), horizon=48, known=noise(60)[:, None]) == []
