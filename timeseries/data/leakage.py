"""Columns that say what is to be forecast: a target some rows later, or, of a known-future covariate, in any row.

R rows of a series, A columns that may say something, V targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from isoform.core.errors import count
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.rows import variable_of

SHARE = 0.01  # of the test horizons that may stand in the training rows
_ROWS, _COLUMNS, _SERIES = 20_000, 200, 32  # looked at: the last rows, the first columns, a spread
_SAMPLE = 1000  # rows by which a pair is chosen to be looked at in all rows
_LEADS, _WORK = 48, 2_000_000  # leads at least, and pairs times leads over all series beyond that
_CHANGES, _DISTINCT = (
    10,
    40,
)  # a target with fewer changes, or with few values and fewer of these, tells nothing
_OF_A_STEP = 0.01  # of what a target moves by from row to row: how closely another column says it


def find_leaks(panel: Panel, horizon: int) -> list[tuple[str, str, str, int]]:
    """(role, column, target, lead): column[t] says target[t + lead], up to a factor and a shift; the first such lead.

    Every other target and every past covariate is looked at 1 to `horizon` rows ahead; a known-future covariate in the
    same row too, and some rows behind, for its own values over the horizon are given. A target that says its own next
    rows (a calendar's, a counter) is none that another could give away.
    """
    numbers = np.unique(
        np.linspace(0, len(panel.series) - 1, min(len(panel.series), _SERIES)).astype(int)
    )
    found: dict[tuple[str, str, str], int] = {}
    for number in numbers:
        targets = _values(panel.series[number], "target", panel.rows[number])
        for role in ("known", "past", "target"):
            names = panel.variates if role == "target" else panel.names(role)
            if names:
                columns = _values(panel.series[number], role, panel.rows[number])
                leads = _leads(role, horizon, columns, targets, len(numbers))
                for column, target, lead in _pairs(columns, targets, leads, role == "target"):
                    key = (role, names[column], panel.variates[target])
                    found.setdefault(key, lead)
    return [(*key, lead) for key, lead in found.items()]


def describe_leak(leak: tuple[str, str, str, int]) -> str:
    """One of `find_leaks` as a sentence."""
    role, column, target, lead = leak
    what = "target" if role == "target" else "covariate"
    when = "in the same row"
    if lead:
        when = f"{count(abs(lead), 'row')} {'ahead' if lead > 0 else 'before'}"
    known = ", and known over the horizon" if lead < 0 else ""
    return f"{what} {column} is the target {target} {when}{known}: leave it out (data.drop)"


def describe_repeated(repeated: int, total: int) -> str:
    """How many test horizons stand in the training rows; see survey.repeated_windows."""
    return f"{repeated:,} of {total:,} test horizons stand word for word in the training rows"


def is_leakage(leaks: Sequence[object], repeated: int, total: int) -> bool:
    """Whether a score on these data would be too good: a column gives a target away, or 1 % of test is in training."""
    return bool(leaks) or (repeated > 0 and repeated >= SHARE * total)


def _values(series: xr.Dataset, role: str, rows: int) -> np.ndarray:
    """float64 [R, columns], infinite values missing."""
    variable = series.variables["target"] if role == "target" else variable_of(series, role)
    assert variable is not None
    values = np.array(variable[max(0, rows - _ROWS) : rows, :_COLUMNS].values, np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _leads(
    role: str, horizon: int, columns: np.ndarray, targets: np.ndarray, series: int
) -> list[int]:
    """The nearest first."""
    work = max(1000, columns.shape[1] * targets.shape[1]) * series
    most = min(horizon, max(_LEADS, _WORK // work), len(targets) - _CHANGES - 1)
    ahead = list(range(1, most + 1))
    return [0, *ahead, *(-lead for lead in ahead if lead < horizon)] if role == "known" else ahead


def _pairs(
    columns: np.ndarray, targets: np.ndarray, leads: list[int], same: bool
) -> Iterator[tuple[int, int, int]]:
    """(column, target, lead) that say the same; `same`: both are the targets, of which none is compared to itself."""
    moves = np.diff(targets, axis=0)
    lively = np.array([_is_lively(targets[:, v], moves[:, v]) for v in range(targets.shape[1])])
    if not lively.any():
        return
    square = np.nansum(moves**2, 0) / np.maximum(1, (~np.isnan(moves)).sum(0))
    rng = np.random.default_rng(0)
    for lead in leads:
        first, stop = max(0, -lead), len(targets) - max(0, lead)
        rows = np.arange(first, stop)
        if len(rows) > _SAMPLE:
            rows = np.sort(rng.choice(rows, _SAMPLE, replace=False))
        near = _unexplained(columns[rows], targets[rows + lead]) <= 1e-3 * square
        near &= lively
        if same:
            np.fill_diagonal(near, False)
        for column, target in np.argwhere(near).tolist():
            before, after = columns[first:stop, column], targets[first + lead : stop + lead, target]
            if _says(before, after) and (not lead or not _says_itself(targets[:, target], lead)):
                yield column, target, lead


def _is_lively(target: np.ndarray, moves: np.ndarray) -> bool:
    """Whether a target [R] changes often enough to be recognised in another column."""
    changes = int((np.abs(moves) > 0).sum())
    values = len(np.unique(target[~np.isnan(target)][:_SAMPLE]))
    return changes >= _CHANGES and (values >= _CHANGES or changes >= _DISTINCT)


def _unexplained(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[A, V] variance of each column of b that no line through a column of a gives, over rows where both are there.

    Infinite where a column of a doesn't vary, or too few rows are left.
    """
    here, there = ~np.isnan(a), ~np.isnan(b)
    a, b = _centred(a, here), _centred(b, there)
    ones_a, ones_b = here.astype(np.float64), there.astype(np.float64)
    count = np.maximum(ones_a.T @ ones_b, 1)
    mean_a, mean_b = (a.T @ ones_b) / count, (ones_a.T @ b) / count
    var_a = (a**2).T @ ones_b / count - mean_a**2
    var_b = ones_a.T @ (b**2) / count - mean_b**2
    both = a.T @ b / count - mean_a * mean_b
    varies = (var_a > 1e-12 * (a**2).mean(0)[:, None]) & (var_a > 0) & (count > _CHANGES)
    left = var_b - np.divide(both**2, var_a, out=np.zeros_like(both), where=varies)
    return np.where(varies, np.maximum(left - 1e-12 * var_b, 0), np.inf)


def _centred(x: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Without the mean of each column, 0 where missing."""
    mean = np.where(there, x, 0).sum(0) / np.maximum(1, there.sum(0))
    return np.where(there, x - mean, 0)


def _says(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a line through `before` gives `after` [n], in all rows but 1 %, closely against what `after` moves by."""
    both = ~np.isnan(before) & ~np.isnan(after)
    x, y = before[both], after[both]
    moves = np.abs(np.diff(y))
    if (moves > 0).sum() < _CHANGES or not np.ptp(x):
        return False
    x, y = (x - x.mean()) / x.std(), y - y.mean()
    rest = np.abs(y - (x @ y / len(x)) * x)
    return bool((rest <= _OF_A_STEP * np.median(moves[moves > 0])).mean() >= 0.99)


def _says_itself(target: np.ndarray, lead: int) -> bool:
    """Whether a target repeats itself, after `lead` rows or any season, up to a factor and a shift."""
    lead = abs(lead)
    if _says(target[:-lead], target[lead:]):
        return True
    seasons = range(1, len(target) // 2 + 1)
    sample = target[: 4 * _SAMPLE]
    return any(
        _repeats(sample, season) and _repeats(target, season)
        for season in seasons
        if season < len(sample)
    )


def _repeats(x: np.ndarray, season: int) -> bool:
    """Whether x [n] holds the same again a season later, in all rows but 1 %."""
    before, after = x[:-season], x[season:]
    both = ~np.isnan(before) & ~np.isnan(after)
    if both.sum() <= _CHANGES:
        return False
    scale = np.nanmax(np.abs(x))
    return bool((np.abs(before - after)[both] <= 1e-6 * scale).mean() >= 0.99)
