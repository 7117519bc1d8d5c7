"""One season: which candidates a frequency has, which of them the training rows follow, and that all go by it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoform.timeseries import DOMAIN
from isoform.timeseries.baselines import SeasonalNaive
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.season import candidates, choose_season, seasons
from isoform.timeseries.data.splits import borders_of
from isoform.timeseries.prepare import prepare_panel

from .panels import app, panel, series, with_gaps


def repeated(period, rows, variates=2, noise=0.01, seed=0):
    """A pattern of `period` rows over and over, with some noise."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(period, variates)) * np.arange(1, variates + 1) * 7
    values = np.tile(pattern, (-(-rows // period), 1))[:rows]
    return values + noise * rng.normal(size=values.shape)


def chosen(values, freq="h", **data):
    made = panel(*(series(one, freq=freq) for one in values), freq=freq)
    return choose_season(made, borders_of(app(7, 5, **data).data, made))[0]


@pytest.mark.parametrize(("freq", "season", "expected"), [
    ("h", 24, (24, 168, 8736)), ("h", 168, (24, 168, 8736)), ("h", 25, (25, 168, 8736)), ("h", 500, (500, 0, 8736)),
    ("15min", 96, (96, 672, 34944)), ("7min", 5, (5, 0, 0)), ("D", 7, (7, 0, 364)), ("D", 30, (30, 0, 364)),
    ("B", 5, (5, 0, 260)), ("MS", 12, (12, 0, 0)), ("ME", 12, (12, 0, 0)), ("QS-JAN", 4, (4, 0, 0)),
    ("W-SUN", 52, (52, 0, 0)), ("YS", 1, (1, 0, 0)),
])  # fmt: skip
def test_seasons_of_a_frequency(freq, season, expected):
    assert seasons(freq, season) == expected


@pytest.mark.parametrize(("freq", "expected"), [
    ("h", (24, 168)), ("6h", (4, 28)), ("15min", (96, 672)), ("D", (7, 364)), ("B", (5, 260)), ("W-MON", (52,)),
    ("MS", (12,)), ("QS-JAN", (4,)), ("YE-DEC", (1,)),
])  # fmt: skip
def test_candidates_are_two_at_most(freq, expected):
    assert candidates(freq) == expected


@pytest.mark.parametrize(
    ("freq", "period", "rows"),
    [("h", 24, 1213), ("h", 168, 1213), ("6h", 4, 211), ("6h", 28, 211), ("D", 7, 2003), ("D", 364, 2003)],
)  # fmt: skip
def test_the_season_is_the_one_that_the_training_rows_follow(freq, period, rows):
    assert chosen([repeated(period, rows)], freq) == period


def test_a_longer_season_must_be_better_and_not_only_as_good():
    """A pattern of a day fits a week as well; so does what has no season."""
    assert chosen([repeated(24, 1213, noise=0.0)]) == 24
    assert chosen([np.random.default_rng(5).normal(size=(5003, 3))]) == 24


def test_three_seasons_of_training_rows_are_needed():
    """70 of 100 rows train: two days of hours and a bit; 102 rows train 72, three days."""
    assert [chosen([repeated(24, rows)]) for rows in (100, 101, 102)] == [1, 1, 24]
    made = panel(series(repeated(24, 100)), freq="h")
    _, line = choose_season(made, borders_of(app(7, 5).data, made))
    assert line.startswith("season: none (70 training rows are fewer than 3 of 24), so the last")
    assert chosen([repeated(168, 700)]) == 24  # 490 rows, not 504: a week isn't tried
    assert chosen([repeated(168, 720)]) == 168


def test_only_training_rows_and_values_that_are_there_decide():
    values = repeated(24, 1213)
    late = values.copy()
    late[int(1213 * 0.7) + 1 :] = repeated(168, 1213, seed=3)[: 1213 - int(1213 * 0.7) - 1]
    assert chosen([late]) == 24
    assert chosen([with_gaps(repeated(168, 2003), 0.3)]) == 168


def test_large_variates_count_no_more_than_small_ones():
    weekly, daily = repeated(168, 1213, variates=2), 1e6 * repeated(24, 1213, variates=1, noise=0.3)
    assert chosen([np.concatenate([weekly, daily], 1)]) == 168


def test_short_series_of_a_panel_have_no_say():
    assert chosen([repeated(24, 300), repeated(168, 1213), repeated(24, 211)]) == 168


def test_what_is_set_stays():
    made = panel(series(repeated(168, 1213)), freq="h")
    prepared = prepare_panel(app(7, 5, season=24), made)
    assert (prepared.config.data.season, prepared.data.season) == (24, 24)
    assert not any("season" in note for note in prepared.notes)


def test_one_season_reaches_the_config_the_windows_the_task_and_the_baseline(tmp_path):
    rows = 211
    table = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=rows, freq="6h")})
    table["load"] = 100 + repeated(28, rows, variates=1)[:, 0]
    table.to_csv(tmp_path / "weekly.csv", index=False)
    config = TimeseriesApp.model_validate({
        "domain": "timeseries", "app": "made", "data": {"path": str(tmp_path / "weekly.csv")},
        "model": {"context": 29, "horizon": 3},
    })  # fmt: skip
    prepared = DOMAIN.prepare(config)
    task = DOMAIN.task(prepared)
    assert "season: 28 rows, of 4 and 28 tried" in prepared.notes
    assert (prepared.config.data.season, prepared.data.season, task.season) == (28, 28, 28)
    assert task.inference_state().season == 28
    # MASE's denominator is the training error of that same forecast.
    naive = SeasonalNaive(task.season).fit(task.data)
    train = task.data.where("train", np.arange(task.sizes()["train"]))
    forecast = task.data.to_units(naive.predict(task.data, train[28:]))[:, 0, 0]
    truth = table.load.to_numpy()[train[28:, 1]]
    scale = task.accumulator("test").std / task.accumulator("test").per_mase_SV[0]
    np.testing.assert_allclose(np.abs(forecast - truth).mean(), scale[0], rtol=0.1)
    assert DOMAIN.prepare(prepared.config).config == prepared.config
