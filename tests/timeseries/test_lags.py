"""Every column of lag_boosting's table, against the words that name it; and that none looks ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.timeseries.baselines import table as tables_module
from isoform.timeseries.baselines.lags import Lags, Rows, running_mean
from isoform.timeseries.baselines.table import tables

from .judged import window_data

M, W, YEAR, H, V, T = 5, 15, 45, 7, 3, 211
LAGS = [Lags(M, W, YEAR, H), Lags(M, 0, 0, H), Lags(1, 0, 0, H), Lags(M, W, 0, 31)]


def values(missing=0.15, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(T, V)).astype(np.float32)
    found[rng.random(found.shape) < missing] = np.nan
    return found


def mean(numbers):
    numbers = [n for n in numbers if not np.isnan(n)]
    return np.mean(numbers) if numbers else np.nan


def spelled(lags, y, origin, step, variate):
    """The columns in plain words; `y(t)` NaN before the first row."""

    def at(row, v=variate):
        return y[row, v] if row >= 0 else np.nan

    def off(row, v=variate):
        return at(row, v) - mean([at(row - lags.period * i, v) for i in range(1, 5)])

    def last(rows, of=at, end=origin, v=variate):
        return mean([of(row, v) for row in range(max(0, end - rows), end)])

    def deviation(rows):
        seen = [at(row) for row in range(max(0, origin - rows), origin)]
        seen = [value for value in seen if not np.isnan(value)]
        return np.std(seen) if seen else np.nan

    target, windows = origin + step, lags.windows
    found = [at(origin - i) for i in (1, 2, 3)]
    found += [last(w) for w in windows] + [deviation(w) for w in windows[-2:]]
    found += [off(origin - 1), *(last(w, off) for w in windows[:-1])]
    found += [mean([last(w, off, v=v) for v in range(V)]) for w in windows[:-1]]

    def back(season, count):
        rows = [row for row in range(target, -1000, -season) if row < origin]
        return rows[:count]

    days = [at(row) for row in back(lags.season, 7)]
    found += [*days, mean(days)]
    if lags.long:
        weeks = [at(row) for row in back(lags.long, 4)]
        newest = back(lags.long, 1)[0]
        found += [
            *weeks,
            mean(weeks),
            mean([at(newest - 1), at(newest + 1) if newest + 1 < origin else np.nan]),
        ]
    if lags.year:
        newest = back(lags.year, 1)[0]
        sides = [at(min(newest + i, origin - 1)) for i in (-1, 0, 1)]
        before = last(windows[-2], end=origin - lags.year) if origin > lags.year else np.nan
        found += [sides[1], mean(sides), last(windows[-2]) - before]
    return [*found, step]


@pytest.mark.parametrize("lags", LAGS)
def test_columns_are_what_their_names_say(lags):
    y = values()
    rows = Rows(lags, 0, y)
    rng = np.random.default_rng(1)
    origin = np.concatenate([[1, 2, 44, 46], rng.integers(1, T - lags.horizon, 60)])
    step, variate = rng.integers(0, lags.horizon, 64), rng.integers(0, V, 64)
    found = np.stack(rows.columns(origin, step, variate), 1)
    assert (
        found.dtype == np.float32 and found.shape[1] == len(lags.names()) and np.isnan(found).any()
    )
    expected = np.array([spelled(lags, y, *one) for one in zip(origin, step, variate, strict=True)])
    for i, name in enumerate(lags.names()):
        np.testing.assert_allclose(found[:, i], expected[:, i], atol=2e-5, err_msg=name)


@given(st.integers(1, T - H), st.integers(0, H - 1), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=50)
def test_nothing_from_the_origin_on_is_seen(origin, step, which, seed):
    lags = LAGS[which]
    step = min(step, lags.horizon - 1)
    y, changed = values(), values()
    changed[origin:] = np.random.default_rng(seed).normal(size=changed[origin:].shape) * 1e3
    ask = np.full(V, origin), np.full(V, step), np.arange(V)
    first, second = (np.stack(Rows(lags, 0, one).columns(*ask)) for one in (y, changed))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("lags", LAGS)
def test_the_reach_is_enough(lags):
    """Rows further back than the reach change nothing, but for rounding in running sums."""
    y = values()
    origin = np.full(V, lags.reach + 3)
    ask = origin, np.full(V, lags.horizon - 1), np.arange(V)
    whole = np.stack(Rows(lags, 0, y).columns(*ask))
    cut = np.stack(Rows(lags, 3, y[3:]).columns(*ask))
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_running_mean_by_hand():
    x = np.array([[1.0], [np.nan], [4.0], [7.0], [np.nan], [np.nan], [np.nan], [2.0]], np.float32)
    assert np.array_equal(
        running_mean(x, 3)[:, 0], np.float32([1, 1, 2.5, 5.5, 5.5, 7, np.nan, 2]), equal_nan=True
    )


def table_of(data, lags, where):
    """[n, H, V, F]"""
    found = None
    for chosen, table in tables(data, lags, where):
        grid = np.meshgrid(where[chosen, 1], np.arange(data.horizon), table.variates, indexing="ij")
        part = table.columns(*(axis.reshape(-1) for axis in grid)).reshape(*grid[0].shape, -1)
        found = (
            np.full((len(where), data.horizon, V, part.shape[-1]), np.inf)
            if found is None
            else found
        )
        found[np.ix_(chosen, np.arange(data.horizon), table.variates)] = part
    return found


def both(**keywords):
    """Two series of different length with covariates."""
    rng = np.random.default_rng(2)
    return window_data(
        values(seed=3), values(seed=4), horizon=H, known=rng.normal(size=(T + H, 2)), past=rng.normal(size=(T + H, 1)),
        **keywords,
    )  # fmt: skip


@pytest.mark.parametrize("small", ["_LONGEST", "BYTES"])
def test_pieces_change_nothing(monkeypatch, small):
    """A piece of time, or of the variates: the same table."""
    data, lags = both(), Lags(3, 9, 0, H)
    rng = np.random.default_rng(5)
    where = np.stack([rng.integers(0, 2, 29), rng.integers(5, T - H, 29)], 1)
    whole = table_of(data, lags, where)
    assert np.isfinite(whole[..., -1]).all()
    monkeypatch.setattr(tables_module, small, 1)
    monkeypatch.setattr(tables_module, "CROWD", 64)
    if small == "BYTES":  # the common deviation is that of fewer variates, too
        common = [i for i, name in enumerate(lags.names()) if name.startswith("all off")]
        whole[..., common] = 0
        parts = table_of(data, lags, where)
        parts[..., common] = 0
    else:
        parts = table_of(data, lags, where)
    np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_what_else_the_table_tells():
    """Clock and date of the target's row, known covariates there and where the lags lie, past ones at the origin."""
    data, lags = both(), Lags(3, 9, 0, H)
    where = np.array([[1, 100], [0, 61]])
    found = table_of(data, lags, where)
    own = len(lags.names())
    for i, (series, row) in enumerate(where):
        stamps = data.stamps(series, row, row + H)
        known = data.reader.read(series, "known", 0, row + H)
        past = data.reader.read(series, "past", 0, row)
        for step in range(H):
            for variate in range(V):
                line, stamp = found[i, step, variate, own:], stamps[step]
                clock = [
                    stamp.hour * 60,
                    stamp.day_of_week,
                    stamp.day,
                    stamp.month,
                    stamp.day_of_year,
                ]
                assert line[:5].tolist() == clock
                assert np.array_equal(line[5:7], known[row + step])
                back = step + 1 if step % 3 == 2 else step // 3 * 3 + 3
                assert np.array_equal(line[7:9], known[row + step - back])
                assert np.array_equal(line[9:11], known[row + step - 9])
                assert line[11] == past[-1, 0] and line[12] == pytest.approx(
                    past[-3:, 0].mean(), abs=1e-6
                )
                assert line[13:].tolist() == [series, variate]


def test_the_local_clock_counts():
    """Stamps in UTC, read on the wall in Auckland: an hour later after the change of September 2024."""
    data = window_data(values(missing=0), horizon=H, tz="Pacific/Auckland", start="2024-09-26")
    lags = Lags(M, W, 0, H)
    found = table_of(data, lags, np.array([[0, 10], [0, 100]]))[:, 0, 0, len(lags.names())]
    assert found.tolist() == [(10 + 12) * 60, (100 + 13) % 24 * 60]
