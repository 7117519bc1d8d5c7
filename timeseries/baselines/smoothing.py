"""Exponential smoothing of every variate by itself: ETS, chosen by AICc, and the Theta method; fitted by statsmodels.

    ets    additive errors; no trend, a straight or a damped one; no season or an additive one: the form with the
           smallest corrected AIC (Hyndman and Koehler 2002). Additive forms alone, for scaled values go below zero
    theta  half a straight line and half simple exponential smoothing (Assimakopoulos and Nikolopoulos 2000), behind an
           additive season where the training rows show one

Parameters and first states are fitted once, on the training rows of each variate of each series. From there on the
states follow the rows as they come, and a forecast is made from those of the row before its first step. Both are for
short data: see `why_not`.

T rows, V variates, n windows, H steps, m rows a season.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.baselines import QUIET, Fitting
from isoform.timeseries.baselines.naive import last_known
from isoform.timeseries.metrics import training_rows

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

MOST_ROWS, MOST_COLUMNS = 5_000, 200  # training rows of a series; variates of all series together
LEAST_ROWS = 10  # with fewer a forecast is the last value
FORMS = [(trend, seasonal) for seasonal in (False, True) for trend in ("", "straight", "damped")]


@dataclass(frozen=True)
class Parameters:
    """Additive smoothing of one column: what the error of a row changes, and the states before row `first`.

    alpha, beta, gamma   share of a row's error that moves level, trend and season
    phi                  what is left of the trend after a row
    season [m]           of the rows first, first + 1, ...
    drift                added to a forecast a step, and for the steps that the level lags behind (theta)
    """

    alpha: float = 1.0
    beta: float = 0.0
    gamma: float = 0.0
    phi: float = 1.0
    level: float = 0.0
    trend: float = 0.0
    season: tuple[float, ...] = (0.0,)
    drift: float = 0.0
    first: int = 0


@dataclass(frozen=True)
class States:
    """level and trend [T + 1] before each row and behind the last; season [m + T]: the first ones, then each row's."""

    level: np.ndarray
    trend: np.ndarray
    season: np.ndarray


def why_not(data: WindowData) -> str:
    """Why these data are too many to fit each column by itself; empty where they aren't."""
    longest = max((stop for _, stop in training_rows(data)), default=0)
    columns = len(data.panel.series) * len(data.variates)
    if longest <= MOST_ROWS and columns <= MOST_COLUMNS:
        return ""
    return (
        f"they fit each variate by itself, which is for at most {MOST_ROWS:,} training rows and "
        f"{MOST_COLUMNS} variates of all series; here are {longest:,} and {columns:,}"
    )


class Smoothing:
    """One of the module's methods: `fit_column` turns training values [T], without a gap, and m into parameters."""

    def __init__(
        self,
        fit_column: Callable[[np.ndarray, int], Parameters],
        season: int,
        fitting: Fitting = QUIET,
    ) -> None:
        self.fit_column, self.season, self.fitting = fit_column, season, fitting
        self.found: dict[tuple[int, int], Parameters] = {}  # by series and variate

    def fit(self, data: WindowData) -> Smoothing:
        """Fits every variate of every series. Raises ImportError without statsmodels."""
        import statsmodels  # noqa: F401 - its models are imported where they are fitted

        total = len(data.panel.series) * len(data.variates)
        for series, stop in training_rows(data):
            values_TV = data.reader.read(series, "target", 0, max(stop, 1))[:stop]
            for variate in range(len(data.variates)):
                self.found[series, variate] = self._fitted(values_TV[:, variate].astype(float))
                self.fitting.step(len(self.found), total, "variates")
        return self

    def _fitted(self, values_T: np.ndarray) -> Parameters:
        """The last value where there are too few rows to learn from, or all are equal."""
        there = np.flatnonzero(~np.isnan(values_T))
        if len(there) < LEAST_ROWS or np.ptp(values_T[there]) == 0:
            return Parameters()
        rows = np.arange(there[0], there[-1] + 1)
        whole = np.interp(rows, there, values_T[there])  # gaps as straight lines
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of optimisers at the edge of what is allowed
            found = self.fit_column(whole, self.season)
        return Parameters(**{**vars(found), "first": int(there[0])})

    def predict(self, data: WindowData, where: np.ndarray) -> np.ndarray:
        """[n, H, V] scaled, of windows (series, row) [n, 2]."""
        found = np.empty((len(where), data.horizon, len(data.variates)), np.float32)
        for series in np.unique(where[:, 0]):
            mine = where[:, 0] == series
            rows = where[mine, 1]
            values_TV = data.reader.read(int(series), "target", 0, int(rows.max()))
            for variate in range(len(data.variates)):
                own = self.found.get((int(series), variate), Parameters())
                states = follow(own, values_TV[:, variate])
                found[mine, :, variate] = forecast(own, states, rows, data.horizon)
        return found


def follow(own: Parameters, values_T: np.ndarray) -> States:
    """The states as the rows come; a missing value is taken for what was expected."""
    m = len(own.season)
    level, trend = np.full(len(values_T) + 1, own.level), np.full(len(values_T) + 1, own.trend)
    season = [own.season[(row - m - own.first) % m] for row in range(m + len(values_T))]
    now, slope = own.level, own.trend
    for row, value in enumerate(values_T.tolist()[own.first :], own.first):
        slope *= own.phi
        now += slope
        error = value - now - season[row]
        season[row + m] = season[row]
        if error == error:
            now += own.alpha * error
            slope += own.beta * error
            season[row + m] += own.gamma * error
        level[row + 1], trend[row + 1] = now, slope
    return States(level, trend, np.array(season))


def forecast(own: Parameters, states: States, rows: np.ndarray, horizon: int) -> np.ndarray:
    """[n, H] from the states before each of the rows [n]."""
    m, steps_H = len(own.season), np.arange(1, horizon + 1)
    trend_H = np.cumsum(own.phi**steps_H)
    season_nH = states.season[last_known(rows[:, None], horizon, m) + m]
    found: np.ndarray = states.level[rows, None] + trend_H * states.trend[rows, None] + season_nH
    if own.drift:
        seen_n1 = np.maximum(rows - own.first, 0)[:, None]
        behind = seen_n1 if own.alpha <= 0 else (1 - (1 - own.alpha) ** seen_n1) / own.alpha
        found = found + own.drift * (steps_H - 1 + behind)
    return found


def fit_ets(values_T: np.ndarray, season: int) -> Parameters:
    """The form with the smallest AICc; a season only where two of it were seen."""
    tried = [
        _fit_form(values_T, season, *form) for form in FORMS if _allows(values_T, season, form)
    ]
    return min(tried, key=lambda pair: pair[0])[1]


def _allows(values_T: np.ndarray, season: int, form: tuple[str, bool]) -> bool:
    """Whether there are rows enough for a form; the simplest is always allowed."""
    if form == FORMS[0]:
        return True
    # The heuristic of the first states needs ten rows behind a moving mean over a season.
    if form[1] and (season < 2 or len(values_T) < max(2 * season, 10 + 2 * (season // 2))):
        return False
    return len(values_T) > _numbers(form, season) + 1


def _numbers(form: tuple[str, bool], season: int) -> int:
    """Numbers that a form is made of: shares, first states and the variance of the errors."""
    trend, seasonal = form
    return 3 + {"": 0, "straight": 2, "damped": 3}[trend] + (season if seasonal else 0)


def _fit_form(
    values_T: np.ndarray, season: int, trend: str, seasonal: bool
) -> tuple[float, Parameters]:
    """(AICc, parameters); first states by Hyndman's heuristic, the others by maximum likelihood."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    model = ETSModel(
        values_T,
        error="add",
        trend="add" if trend else None,
        damped_trend=trend == "damped",
        seasonal="add" if seasonal else None,
        seasonal_periods=season if seasonal else None,
        initialization_method="heuristic",
    )
    best = model.fit(disp=False, return_params=True)
    k, rows = _numbers((trend, seasonal), season), len(values_T)
    score = 2 * k - 2 * model.loglike(best) + 2 * k * (k + 1) / max(rows - k - 1, 1)
    named = dict(zip(model.param_names, map(float, best), strict=True))
    first = np.asarray(model.initial_seasonal, float).reshape(-1) if seasonal else np.zeros(1)
    return score if np.isfinite(score) else np.inf, Parameters(
        alpha=named["smoothing_level"],
        beta=named.get("smoothing_trend", 0.0),
        gamma=named.get("smoothing_seasonal", 0.0),
        phi=named.get("damping_trend", 1.0),
        level=float(np.squeeze(model.initial_level)),
        trend=float(np.squeeze(model.initial_trend)) if trend else 0.0,
        season=tuple(first.tolist()),
    )


def fit_theta(values_T: np.ndarray, season: int) -> Parameters:
    """Of the two lines 0 and 2, equally weighted; whether there is a season is tested at 10 %."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    seasonal = season > 1 and len(values_T) >= 2 * season
    fitted = ThetaModel(
        values_T, period=season if seasonal else None, deseasonalize=seasonal, method="additive"
    ).fit()
    components = fitted.forecast_components(season)
    # Of the rows behind the training ones, turned round to begin at the first of them.
    first = (
        np.roll(components["seasonal"].to_numpy(), len(values_T) % season) if seasonal else [0.0]
    )
    return Parameters(
        alpha=float(fitted.params["alpha"]),
        level=float(values_T[0] - first[0]),
        season=tuple(float(value) for value in first),
        drift=float(fitted.params["b0"]) / 2,
    )
