"""ETS and Theta against statsmodels' own forecasts, and against loops over rows."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.timeseries.baselines import Last, method, smoothing
from isoform.timeseries.baselines.smoothing import Parameters, follow, forecast

from .judged import window_data

ets = pytest.importorskip("statsmodels.tsa.exponential_smoothing.ets")
theta = pytest.importorskip("statsmodels.tsa.forecasting.theta")
SEASON, ROWS = 7, 173


def series(kind, rows=ROWS, seed=0):
    """[T, 2]: a season, a trend, both or neither, and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    season = 3 * rng.normal(size=(SEASON, 2))[t[:, 0] % SEASON] if "season" in kind else 0.0
    trend = 0.2 * t * [1, -1] if "trend" in kind else 0.0
    return 5 + season + trend + 0.5 * rng.normal(size=(rows, 2))


def origin_of(data):
    """Row of the first step of the first test window."""
    return int(data.where("test", [0])[0, 1])


def statsmodels_of(own, values, **known):
    """statsmodels' model of the same form on other rows, from known first states."""
    trend, seasonal = own.trend != 0 or own.beta > 0, len(own.season) > 1
    return ets.ETSModel(
        values, error="add", trend="add" if trend else None, damped_trend=own.phi < 1,
        seasonal="add" if seasonal else None, seasonal_periods=len(own.season) if seasonal else None, **known,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["season", "trend", "season and trend", "neither"])
def test_ets_forecasts_as_statsmodels_does_at_the_first_test_origin(kind):
    data = window_data(series(kind), context=11, horizon=9)
    found, row = method("ets", SEASON).fit(data), origin_of(data)
    forecasts = found.predict(data, np.array([[0, row]]))[0]
    for variate in range(2):
        own, seen = found.found[0, variate], data.scaled(0)[:row, variate].astype(float)
        first = {"initial_level": own.level}
        if own.trend or own.beta:
            first["initial_trend"] = own.trend
        if len(own.season) > 1:
            first["initial_seasonal"] = np.array(own.season)
        model = statsmodels_of(own, seen, initialization_method="known", **first)
        shares = {"smoothing_level": own.alpha, "smoothing_trend": own.beta,
                  "smoothing_seasonal": own.gamma, "damping_trend": own.phi}  # fmt: skip
        fitted = model.smooth(np.array([shares[name] for name in model.param_names]))
        np.testing.assert_allclose(forecasts[:, variate], fitted.forecast(9), atol=1e-5)


@pytest.mark.parametrize("kind", ["season", "trend", "season and trend", "neither"])
def test_ets_is_the_form_with_the_smallest_aicc(kind):
    """As by statsmodels' likelihood of each form on the training rows; the season is found where there is one."""
    data = window_data(series(kind), context=11, horizon=5)
    found = method("ets", SEASON).fit(data)
    train = data.scaled(0)[: int(ROWS * 0.7), 0].astype(float)
    scores = {}
    for trend, damped, seasonal in [(None, False, None), ("add", False, None), ("add", True, None),
                                    (None, False, "add"), ("add", False, "add"), ("add", True, "add")]:  # fmt: skip
        fitted = ets.ETSModel(
            train, error="add", trend=trend, damped_trend=damped, seasonal=seasonal,
            seasonal_periods=SEASON if seasonal else None, initialization_method="heuristic",
        ).fit(disp=False)  # fmt: skip
        # Shares, first states and the errors' variance.
        k = len(fitted.params) + 1 + (trend is not None) + (SEASON if seasonal else 0) + 1
        n = len(train)
        scores[trend, damped, seasonal] = 2 * k - 2 * fitted.llf + 2 * k * (k + 1) / (n - k - 1)
    best = min(scores, key=scores.get)
    own = found.found[0, 0]
    assert (len(own.season) > 1) == ("season" in kind) == (best[2] is not None)
    assert (own.phi < 1, own.beta > 0 or own.trend != 0) == (best[1], best[0] is not None)


@pytest.mark.parametrize("kind", ["season", "trend"])
def test_theta_forecasts_as_statsmodels_does_behind_the_training_rows(kind):
    data = window_data(series(kind), context=11, horizon=9)
    stop = int(ROWS * 0.7)
    forecasts = method("theta", SEASON).fit(data).predict(data, np.array([[0, stop]]))[0]
    for variate in range(2):
        train = data.scaled(0)[:stop, variate].astype(float)
        fitted = theta.ThetaModel(train, period=SEASON, method="additive").fit()
        np.testing.assert_allclose(forecasts[:, variate], fitted.forecast(9), atol=1e-5)


def test_theta_follows_the_rows_with_what_training_fitted():
    """At every origin of a split: level by a loop, half the line's slope, the season of the row to forecast."""
    data = window_data(series("season and trend"), context=11, horizon=5)
    found = method("theta", SEASON).fit(data)
    own, values = found.found[0, 1], data.scaled(0)[:, 1].astype(float)
    where = data.where("test", range(data.sizes()["test"]))
    forecasts = found.predict(data, where)[:, :, 1]
    for (_, row), mine in zip(where, forecasts, strict=True):
        level = values[0] - own.season[0]
        for t in range(row):
            level += own.alpha * (values[t] - own.season[t % SEASON] - level)
        for h in range(1, 6):
            lag = (1 - (1 - own.alpha) ** row) / own.alpha
            expected = level + own.drift * (h - 1 + lag) + own.season[(row + h - 1) % SEASON]
            assert mine[h - 1] == pytest.approx(expected, abs=1e-5)


shares = st.floats(0.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(
    shares,
    shares,
    shares,
    st.floats(0.8, 1.0),
    st.integers(1, 5),
    st.integers(0, 6),
    st.integers(0, 99),
)
def test_states_follow_as_a_loop_does(alpha, beta, gamma, phi, m, first, seed):
    """The textbook's recursion; a missing value changes nothing but what time does."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(23) < 0.2, np.nan, rng.normal(size=23))
    season = rng.normal(size=m).tolist()
    own = Parameters(alpha, beta, gamma, phi, 0.5, 0.1, tuple(season), first=first)
    level, trend, row = 0.5, 0.1, 17
    for t in range(first, row):
        expected = level + phi * trend + season[(t - first) % m]
        error = 0.0 if np.isnan(values[t]) else values[t] - expected
        level, trend = level + phi * trend + alpha * error, phi * trend + beta * error
        season[(t - first) % m] += gamma * error
    expected = [
        level + sum(phi**i for i in range(1, h + 1)) * trend + season[(row + h - 1 - first) % m]
        for h in range(1, 8)
    ]
    found = forecast(own, follow(own, values), np.array([row]), 7)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    unseen = np.where(np.arange(23) < row, values, 1e6)
    assert np.array_equal(forecast(own, follow(own, unseen), np.array([row]), 7)[0], found)


@pytest.mark.parametrize("name", ["ets", "theta"])
def test_series_are_fitted_by_themselves_on_their_own_training_rows(name):
    a, b = series("season", 120), series("trend", 160, seed=3)
    both = method(name, SEASON).fit(window_data(a, b, context=11, horizon=5)).found
    assert set(both) == {(s, v) for s in range(2) for v in range(2)}
    changed = b.copy()
    changed[112:] = 1e4  # behind the training rows of the second
    data = window_data(a, changed, context=11, horizon=5)
    assert method(name, SEASON).fit(data).found == both


@pytest.mark.parametrize("name", ["ets", "theta"])
@pytest.mark.parametrize("kind", ["gaps", "late", "few", "equal", "short season"])
def test_hard_series_get_numbers_without_a_warning(name, kind):
    values = series("season")
    if kind == "gaps":
        values[np.random.default_rng(5).random(values.shape) < 0.3] = np.nan
    if kind == "late":
        values[:31, 1] = np.nan
    if kind == "few":
        values[:113, 1] = np.nan  # 8 of the 121 training rows are left
    if kind == "equal":
        values[:, 1] = 4.0
    if kind == "short season":
        values = series("season", rows=19)  # 13 training rows are less than two seasons
    data = window_data(values, context=2, horizon=2)
    where = data.where("test", range(data.sizes()["test"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = method(name, SEASON).fit(data).predict(data, where)
    assert np.isfinite(found).all()
    if kind in ("few", "equal"):
        expected = Last().predict(data, where)[:, :, 1]
        np.testing.assert_allclose(found[:, :, 1], expected, atol=1e-5)


@pytest.mark.parametrize("fit", [smoothing.fit_ets, smoothing.fit_theta])
@pytest.mark.parametrize(
    ("rows", "season"), [(10, 2), (10, 5), (11, 3), (17, 7), (23, 7), (23, 12), (24, 12), (25, 12)]
)
def test_as_few_rows_as_there_can_be_for_a_season(fit, rows, season):
    values = np.sin(np.arange(rows)) + np.arange(rows) % season
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        own = fit(values, season)
    found = forecast(own, follow(own, values), np.array([rows]), 2 * season + 1)
    assert np.isfinite(found).all() and np.abs(found).max() < 100


def test_they_are_for_short_data(monkeypatch):
    data = window_data(series("season"), context=11, horizon=5)
    assert smoothing.why_not(data) == ""
    monkeypatch.setattr(smoothing, "MOST_ROWS", 120)
    assert "at most 120 training rows" in smoothing.why_not(data)
    assert "here are 121 and 2" in smoothing.why_not(data)
    monkeypatch.setattr(smoothing, "MOST_ROWS", 121)
    monkeypatch.setattr(smoothing, "MOST_COLUMNS", 1)
    assert "1 variates of all series" in smoothing.why_not(data)


@pytest.mark.parametrize("name", ["ets", "theta"])
def test_without_statsmodels_there_is_none(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(ImportError, match="statsmodels"):
        method(name, SEASON).fit(window_data(series("season"), context=11, horizon=5))
