"""Baselines by hand and against formulas; none of them sees what lies behind the origin."""

import numpy as np
import pytest
import torch

from isoform.core.baselines import Fitting
from isoform.core.errors import Preempted
from isoform.timeseries.baselines import (
    LagBoosting,
    Last,
    Linear,
    SeasonalNaive,
    baselines,
    method,
)
from isoform.timeseries.config import BASELINES
from isoform.timeseries.conformal import Calibration
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.metrics import ForecastAccumulator

from .judged import app, panel, window_data

lightgbm = pytest.importorskip("lightgbm")


def units(data, forecast):
    return data.to_units(forecast, axis=2)


def steps(rows=60, variates=2):
    """Values that tell their row and variate: 1000 a variate and 1 a row."""
    return np.arange(rows)[:, None] + 1000.0 * np.arange(variates)


def test_last_by_hand():
    values = steps()
    values[49, 1] = np.nan
    data = window_data(values)
    found = units(data, Last().fit(data).predict(data, np.array([[0, 50], [0, 20]])))
    np.testing.assert_allclose(found[0], [[49, 1048]] * 3, rtol=1e-5)
    np.testing.assert_allclose(found[1], [[19, 1019]] * 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("season", "rows"), [(1, [49, 49, 49]), (2, [48, 49, 48]), (3, [47, 48, 49]), (5, [45, 46, 47])]
)
def test_seasonal_naive_by_hand(season, rows):
    """Before row 50: each step a whole number of seasons back, the newest value that is known."""
    data = window_data(steps(), season=season)
    method = SeasonalNaive(season).fit(data)
    assert method.season == season
    found = units(data, method.predict(data, np.array([[0, 50], [0, 51]])))
    np.testing.assert_allclose(found[0], np.array(rows)[:, None] + [0, 1000], rtol=1e-5)
    np.testing.assert_allclose(found[1], np.array(rows)[:, None] + [1, 1001], rtol=1e-5)


def test_seasonal_naive_falls_back_on_the_last_value():
    values = steps()
    values[48, 0] = np.nan
    data = window_data(values, season=3)
    found = units(data, SeasonalNaive(3).predict(data, np.array([[0, 50]])))
    np.testing.assert_allclose(found[0], [[47, 1047], [49, 1048], [49, 1049]], rtol=1e-5)
    data = window_data(steps(), context=5, season=30)  # a season longer than the history
    found = units(data, SeasonalNaive(30).predict(data, np.array([[0, 29]])))
    np.testing.assert_allclose(found[0], [[28, 1028], [0, 1000], [1, 1001]], rtol=1e-4, atol=1e-3)


def test_series_keep_apart():
    data = window_data(steps(), steps() + 500)
    where = np.array([[1, 50], [0, 20], [1, 21]])
    for one in (Last(), SeasonalNaive(3)):
        both = one.predict(data, where)
        for i, pair in enumerate(where):
            assert np.array_equal(both[i], one.predict(data, pair[None])[0])
    assert np.allclose(units(data, Last().predict(data, where))[:, 0, 0], [549, 19, 520])


# ---------------------------------------------------------------------- linear


def linear_values(rows=400, missing=0.0):
    """y(t) = y(t - 3) + 0.5 (y(t - 1) - y(t - 2)) with some noise: differences from the last value say it all."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=(rows, 2))
    for t in range(3, rows):
        y[t] = 0.6 * y[t - 3] + 0.4 * (y[t - 1] - y[t - 2]) + 3 + rng.normal(size=2)
    y[rng.random(y.shape) < missing] = np.nan
    return y


def windows_of(data, split):
    batch = data.batch(split, range(data.sizes()[split]))
    x = batch["context"].transpose(1, 2).flatten(0, 1).double().numpy()
    y = batch["target"].transpose(1, 2).flatten(0, 1).double().numpy()
    seen = (
        batch["observed"].transpose(1, 2).flatten(0, 1).numpy()
        if "observed" in batch
        else np.ones(y.shape, bool)
    )
    return x, y, seen


def test_linear_is_the_least_squares_solution():
    data = window_data(linear_values())
    method = Linear().fit(data)
    x, y, _ = windows_of(data, "train")
    design = np.concatenate([x[:, :-1] - x[:, -1:], np.ones((len(x), 1))], 1)
    solution = np.linalg.lstsq(design, y - x[:, -1:], rcond=None)[0]
    assert method.strength <= 1e-2
    eye = np.eye(5) * method.strength * np.square(design).mean() * len(design)
    ridge = np.linalg.solve(design.T @ design + eye, design.T @ (y - x[:, -1:]))
    np.testing.assert_allclose(method.map, ridge, atol=1e-5)
    np.testing.assert_allclose(method.map, solution, atol=0.1)
    x, y, _ = windows_of(data, "test")
    design = np.concatenate([x[:, :-1] - x[:, -1:], np.ones((len(x), 1))], 1)
    found = method.predict(data, data.where("test", range(data.sizes()["test"])))
    np.testing.assert_allclose(
        found.transpose(0, 2, 1).reshape(-1, 3), design @ ridge + x[:, -1:], atol=1e-5
    )


def test_a_strong_penalty_is_chosen_for_noise():
    rng = np.random.default_rng(2)
    noisy = window_data(np.cumsum(rng.normal(size=(60, 1)), 0), context=19, horizon=2)
    assert Linear().fit(noisy).strength > Linear().fit(window_data(linear_values())).strength


@pytest.mark.parametrize("enough", [True, False])
def test_missing_targets_teach_linear_nothing(monkeypatch, enough):
    """Rows that are whole, or step by step all rows where the step was observed: either way by numpy."""
    monkeypatch.setattr("isoform.timeseries.baselines.linear.ENOUGH", 1 if enough else 1e9)
    data = window_data(linear_values(missing=0.1))
    method = Linear().fit(data)
    x, y, seen = windows_of(data, "train")
    design = np.concatenate([x[:, :-1] - x[:, -1:], np.ones((len(x), 1))], 1)
    for step in range(3):
        mine = seen.all(1) if enough else seen[:, step]
        penalty = method.strength * np.square(design[mine]).mean() * mine.sum() * np.eye(5)
        system = design[mine].T @ design[mine] + penalty
        expected = np.linalg.solve(system, design[mine].T @ (y[mine, step] - x[mine, -1]))
        np.testing.assert_allclose(method.map[:, step], expected, atol=1e-5)
    assert not seen.all()


def test_portions_change_nothing(monkeypatch):
    data = window_data(linear_values(missing=0.05))
    whole = Linear().fit(data).map
    monkeypatch.setattr("isoform.timeseries.baselines.chunks.BYTES", 7 * 4 * 3 * 8 * 2)
    np.testing.assert_allclose(Linear().fit(data).map, whole, atol=1e-5)


# ---------------------------------------------------------------------- boosting


def daily(rows=1500, seed=3, variates=2):
    """A day's pattern that differs by variate and is off on weekends, and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    pattern = rng.normal(size=(24, variates))[t % 24] * np.where(t[:, None] // 24 % 7 < 5, 1.0, 0.2)
    return pattern + 0.1 * rng.normal(size=(rows, variates))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.TRAIN_ROWS", 3000)
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.CHOOSING_ROWS", 500)
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.TREES", 40)
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.UNCHOSEN_TREES", 20)


def error(method, data, split="test"):
    where = data.where(split, range(data.sizes()[split]))
    return float(np.square(method.predict(data, where) - data.at(where)["target"].numpy()).mean())


def test_boosting_beats_the_others_where_it_should(small):
    data = window_data(daily(), context=11, horizon=5)
    naive = error(SeasonalNaive(24).fit(data), data)
    boosted = error(LagBoosting(24).fit(data), data)
    assert boosted < 0.7 * min(naive, error(Linear().fit(data), data))
    assert (
        boosted < 2 * 0.1**2 / data.spread_units().min() ** 2
    )  # twice the noise, which nobody can forecast


def test_boosting_starts_from_what_is_closest(small):
    """A walk that leaves all it has seen is followed; a pattern is repeated."""
    walk = np.arange(600.0)[:, None] * [1, -2] + np.random.default_rng(6).normal(size=(600, 2))
    data = window_data(walk)
    method = LagBoosting(24).fit(data)
    assert method.lags.names()[method.start] == "value 1 before"
    assert error(method, data) < 2 * error(Last(), data)
    method = LagBoosting(24).fit(window_data(daily()))
    assert method.lags.names()[method.start] == "mean of the long seasons before"


def test_boosting_is_a_function_of_the_data(small):
    data = window_data(daily(400), context=11, horizon=5)
    where = data.where("test", range(7))
    first = LagBoosting(24).fit(data).predict(data, where)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.array_equal(LagBoosting(24).fit(data).predict(data, where), first)
    finally:
        torch.set_num_threads(threads)


def test_boosting_learns_from_known_covariates(small):
    """A covariate of the target's own row that decides everything, and one known only up to the origin that doesn't."""
    rng = np.random.default_rng(4)
    known = rng.integers(0, 2, size=(603, 1)).astype(float)
    values = 5 * known[:600] + 0.1 * rng.normal(size=(600, 1))
    with_it = window_data(values, known=known, past=rng.normal(size=(603, 2)))
    without = window_data(values)
    assert (
        error(LagBoosting(24).fit(with_it), with_it)
        < 0.2
        < 0.8
        < error(LagBoosting(24).fit(without), without)
    )


def test_few_windows_are_enough(small):
    data = window_data(daily(60), context=5, horizon=2)
    assert np.isfinite(LagBoosting(24).fit(data).predict(data, data.where("test", [0]))).all()


def test_rows_and_windows_are_bounded_and_it_says_so(small, monkeypatch):
    said = []
    data = window_data(daily(), context=11, horizon=5)
    method = LagBoosting(24, Fitting(said.append)).fit(data)
    assert said == [
        f"lag_boosting learns from 3000 values, drawn evenly from {data.sizes()['train'] * 5 * 2}"
    ]
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.PREDICTED", 5 * 2 * 9)
    assert len(method.windows(data, "test")) == 9
    assert (
        said[1]
        == f"lag_boosting is judged on 9 evenly spread windows of the {data.sizes()['test']} of test"
    )
    monkeypatch.setattr("isoform.timeseries.baselines.boosting.STRETCH_VALUES", 2 * 20)
    assert np.isfinite(error(LagBoosting(24).fit(data), data))


# ---------------------------------------------------------------------- all of them


def fitted(data, accumulator, season, names=BASELINES):
    offered = baselines(data, accumulator, season)
    return {one.name: one.fit(Fitting()) for one in offered if one.name in names}


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_behind_the_origin_is_seen(small, name):
    """Other values from the origin on, the same forecast; other values before it, another one."""
    values, row = daily(500), 450
    data = window_data(values, context=11, horizon=5)
    made, where = method(name, 24).fit(data), np.array([[0, row]])
    before = made.predict(data, where)
    for first, same in ((row, True), (row - 170, False)):
        changed = values.copy()
        changed[first:] = 100 - 3 * changed[first:]
        other = WindowData(app(11, 5), panel(changed), data.scaling)
        assert np.array_equal(made.predict(other, where), before) == same


@pytest.mark.parametrize("name", BASELINES)
def test_the_order_of_windows_is_kept(small, name):
    data = window_data(daily(400), daily(300, 5), context=11, horizon=5)
    made = method(name, 24).fit(data)
    where = np.array([[1, 290], [0, 350], [0, 300], [1, 280], [0, 13]])
    found = made.predict(data, where)
    assert found.shape == (5, 5, 2) and found.dtype == np.float32
    alone = np.concatenate([made.predict(data, pair[None]) for pair in where])
    np.testing.assert_allclose(found, alone, atol=1e-6)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_table_of_baselines(small, missing):
    values = daily()
    values[np.random.default_rng(5).random(values.shape) < missing] = np.nan
    data = window_data(values, context=11, horizon=5)
    found = fitted(data, lambda split: ForecastAccumulator(data, split, (0.1, 0.5, 0.9), 24), 24)
    assert tuple(found) == BASELINES
    for metrics in found.values():
        assert (
            metrics.keys() == {"val", "test"} and metrics["test"]["windows"] == data.sizes()["test"]
        )
        assert "crps" not in metrics["val"]
        assert (
            0.65 < metrics["test"]["coverage_80"] < 0.95
            and metrics["test"]["crps"] < metrics["test"]["unit_mae"]
        )
    order = [found[name]["test"]["mse"] for name in ("lag_boosting", "seasonal_naive", "last")]
    assert order == sorted(order)


def test_intervals_are_a_baselines_own():
    """The task's accumulator may come with the model's calibration: of it only the levels count."""
    data = window_data(daily(400), context=11, horizon=5)
    offsets = np.full((4, 5, 2), 1e6, np.float32)
    model = Calibration((0.05, 0.1, 0.9, 0.95), offsets, offsets[..., 0], (0.1, 0.9))

    def accumulator(split):
        return ForecastAccumulator(
            data, split, (0.1, 0.9), 24, calibration=model if split == "test" else None
        )

    found = fitted(data, accumulator, 24, names=("last",))["last"]
    assert {"coverage_80", "coverage_90"} < found["test"].keys() and not {"coverage_80"} & found[
        "val"
    ].keys()
    assert found["test"]["width_90"] < 1e3


def test_without_validation(small):
    data = window_data(daily(400), context=11, horizon=5, val_fraction=0.001, test_fraction=0.2)
    assert "val" not in data.sizes()
    found = fitted(data, lambda split: ForecastAccumulator(data, split), 24)
    assert tuple(found) == BASELINES and all(
        metrics.keys() == {"test"} for metrics in found.values()
    )


def test_without_training_windows():
    data = window_data(daily(40), context=30, horizon=5)
    assert "train" not in data.sizes()
    assert baselines(data, lambda split: ForecastAccumulator(data, split), 24) == []


@pytest.mark.parametrize(("name", "what"), [("lag_boosting", "trees"), ("ets", "variates")])
def test_a_long_fit_stops_where_it_is_told_to(small, name, what):
    """At the third step that it shows, not at its end."""
    shown = []
    fitting = Fitting(show=shown.append, stopping=lambda: len(shown) == 2)
    data = window_data(daily(400, variates=5), context=11, horizon=5)
    with pytest.raises(Preempted, match="--resume"):
        method(name, 24, fitting).fit(data)
    assert len(shown) == 2 and all(line.startswith(what) for line in shown)


def test_costs_follow_from_sizes_alone():
    """More rows, more minutes; other values of the same sizes, the same."""

    def minutes(values):
        data = window_data(values, context=11, horizon=5)
        offered = baselines(data, lambda split: ForecastAccumulator(data, split), 24)
        return {one.name: one.minutes for one in offered}

    first, other, longer = minutes(daily(300)), minutes(daily(300, seed=5)), minutes(daily(900))
    assert first == other and tuple(first) == BASELINES
    assert all(0 < first[name] < longer[name] for name in BASELINES)
    assert first["lag_boosting"] > first["ets"] > first["last"]
