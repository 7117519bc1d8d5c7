"""Figures that a person can check, formulas written out in another way, and that streaming changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.timeseries.conformal import Calibration
from isoform.timeseries.metrics import FEWEST, ForecastAccumulator, seasonal_scale, training_rows

from .judged import window_data

ROWS, V, H, LEVELS = 101, 2, 3, (0.05, 0.1, 0.5, 0.9, 0.95)


def made(seed=0, missing=0.0, series=1, rows=ROWS):
    rng = np.random.default_rng(seed)
    values = [10 * i + rng.normal([3.0, -70.0], [2.0, 31.0], (rows, V)) for i in range(series)]
    for value in values:
        value[rng.random(value.shape) < missing] = np.nan
    return window_data(*values)


def outputs_of(data, split="test", seed=1, levels=LEVELS, indices=None):
    """The true windows beside random forecasts, as Task.predict gives them."""
    indices = list(range(data.sizes()[split])) if indices is None else indices
    batch = {name: value.numpy() for name, value in data.batch(split, indices).items()}
    rng = np.random.default_rng(seed)
    size = (data.sizes()[split], H, V)
    forecast = rng.normal(size=size).astype(np.float32)[indices]
    spread = np.sort(rng.normal(size=(*size, len(levels))), -1).astype(np.float32)[indices]
    found = {name: batch[name] for name in ("target", "where", "observed") if name in batch}
    return {
        **found,
        "forecast": forecast,
        **({"quantiles": forecast[..., None] + spread} if levels else {}),
    }


def judged_by(data, outputs, split="test", levels=LEVELS, **keywords):
    accumulator = ForecastAccumulator(data, split, levels, 4, **keywords)
    accumulator.add(list(range(len(outputs["forecast"]))), outputs)
    return accumulator


def by_hand(*columns):
    """One series whose training rows are 0 2 0 2 ... a variate, and its standard deviation so 1 and its mean 1."""
    train = np.tile([[0.0], [2.0]], (35, len(columns)))
    return window_data(np.concatenate([train, np.array(columns, float).T]), context=3, horizon=2,
                       val_fraction=0.1, test_fraction=0.2)  # fmt: skip


def test_a_forecast_by_hand():
    """Mean 1, deviation 1. Truth 5, 1 (units) forecast as 3, 1: scaled errors -2 and 0."""
    data = by_hand([9.0] * 10 + [5.0, 1.0] * 10)
    assert data.sizes()["test"] == 19 and data.spread_units() == 1
    outputs = {
        "where": data.where("test", [0]), "target": np.array([[[4.0], [0.0]]]), "forecast": np.array([[[2.0], [0.0]]]),
        "quantiles": np.array([[[[1.0, 3.0, 3.5]], [[-1.0, 0.0, 2.0]]]]),
    }  # fmt: skip
    found = ForecastAccumulator(data, "test", (0.1, 0.5, 0.9), 1)
    found.add([0], outputs)
    metrics = found.metrics()
    assert metrics["windows"] == 1 and metrics["mse"] == 2 and metrics["mae"] == 1
    assert metrics["unit_mae"] == 1 and metrics["unit_rmse"] == pytest.approx(2**0.5)
    assert metrics["mase"] == pytest.approx(1 / 2)  # the training rows go up and down by 2
    assert metrics["smape"] == pytest.approx((2 * 2 / (5 + 3) + 0) / 2)
    # above the quantiles by 3, 1, .5: .1 * 3 + .5 * 1 + .9 * .5; then by 1, 0, -2: .1 * 1 + 0 + .1 * 2; a third each
    assert metrics["crps"] == pytest.approx(2 * (1.25 / 3 + 0.3 / 3) / 2)
    assert metrics["coverage_80"] == 0.5 and metrics["width_80"] == pytest.approx((2.5 + 3) / 2)
    tables = found.outputs()
    assert tables["by_step/mse"].tolist() == [4, 0] and tables["by_variate/mse"].tolist() == [2]
    assert tables["by_step/count"].tolist() == [1, 1] and tables["by_variate/count"].tolist() == [2]
    assert tables["by_level/below"].tolist() == [0, 0.5, 0.5] and tables["windows"] == 1


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_against_formulas_over_all_windows(missing):
    data = made(missing=missing, series=2)
    outputs = outputs_of(data)
    found = judged_by(data, outputs).metrics()
    y, f, q = (
        data.to_units(outputs[name].astype(float), axis=2)
        for name in ("target", "forecast", "quantiles")
    )
    seen = outputs.get("observed", np.ones(y.shape, bool))
    assert seen.all() == (missing == 0)
    seen = seen & ~data.without_past(outputs["where"])[:, None]
    scaled = (outputs["forecast"].astype(float) - outputs["target"])[seen]
    assert found["mse"] == pytest.approx((scaled**2).mean()) and found["mae"] == pytest.approx(
        abs(scaled).mean()
    )
    assert found["windows"] == len(y)
    assert found["unit_mae"] == pytest.approx(abs(y - f)[seen].mean())
    assert found["unit_rmse"] == pytest.approx(((y - f)[seen] ** 2).mean() ** 0.5)
    assert found["smape"] == pytest.approx((2 * abs(y - f) / (abs(y) + abs(f)))[seen].mean())
    scale = []
    for series, dataset in enumerate(data.panel.series):
        train = dataset.target.values[: training_rows(data)[series][1]]
        scale.append(np.nanmean(abs(train[4:] - train[:-4]), 0))
    each = abs(y - f) / np.array(scale)[outputs["where"][:, 0]][:, None]
    assert found["mase"] == pytest.approx(each[seen].mean())
    loss = [
        np.where(y >= q[..., i], a * (y - q[..., i]), (1 - a) * (q[..., i] - y))
        for i, a in enumerate(LEVELS)
    ]
    assert found["crps"] == pytest.approx(2 * np.mean(loss, 0)[seen].mean())
    assert found["coverage_90"] == pytest.approx(((q[..., 0] <= y) & (y <= q[..., 4]))[seen].mean())
    assert found["width_80"] == pytest.approx((q[..., 3] - q[..., 1])[seen].mean())
    assert {"coverage_80", "coverage_90"} == {name for name in found if name.startswith("coverage")}


def test_the_crps_of_many_levels_is_that_of_the_distribution():
    """Of a normal forecast, whose score is known in closed form (Gneiting and Raftery 2007, equation 21)."""
    stats = pytest.importorskip("scipy.stats")
    levels = (np.arange(199) + 0.5) / 199
    data = window_data(np.tile([[-1.0], [1.0]], (60, 1)), horizon=1, context=1)
    n = data.sizes()["test"]
    y = np.linspace(-2, 2, n)
    outputs = {
        "where": data.where("test", range(n)), "target": y[:, None, None], "forecast": np.zeros((n, 1, 1)),
        "quantiles": np.tile(stats.norm.ppf(levels), (n, 1, 1, 1)),
    }  # fmt: skip
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - np.pi**-0.5
    accumulator = ForecastAccumulator(data, "test", levels)
    accumulator.add(range(n), outputs)
    assert accumulator.metrics()["scaled_crps"] == pytest.approx(exact.mean(), rel=2e-3)


@given(st.permutations(range(18)), st.integers(1, 7))
def test_streaming_equals_all_at_once(order, size):
    data = made(missing=0.2)
    outputs = outputs_of(data)
    assert len(outputs["forecast"]) == 18
    whole, parts = judged_by(data, outputs), ForecastAccumulator(data, "test", LEVELS, 4)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        parts.add(chosen, {name: value[chosen] for name, value in outputs.items()})
    assert parts.metrics() == pytest.approx(whole.metrics(), rel=1e-12)
    ours, theirs = parts.outputs(), whole.outputs()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-12, err_msg=name)
    assert np.array_equal(ours["forecast"], outputs["forecast"])


@pytest.mark.parametrize("numbers", [1, 100])
def test_small_chunks_change_nothing(monkeypatch, numbers):
    data = made(missing=0.2)
    whole = judged_by(data, outputs_of(data)).metrics()
    monkeypatch.setattr("isoform.timeseries.metrics._CHUNK", numbers)
    assert judged_by(data, outputs_of(data)).metrics() == pytest.approx(whole, rel=1e-12)


def test_missing_targets_never_count():
    """Whatever stands where nothing was observed, NaN or a number, with or without a mask, and wherever it's seen."""
    data = made(missing=0.3)
    outputs = outputs_of(data)
    seen = outputs["observed"]
    expected = judged_by(data, outputs)
    for fill in (np.nan, 1e6):
        changed = {**outputs, "target": np.where(seen, outputs["target"], np.float32(fill))}
        if np.isnan(fill):
            del changed["observed"]
        found = judged_by(data, changed)
        assert found.metrics() == pytest.approx(expected.metrics())
        assert np.array_equal(found.outputs()["observed"], seen)
        assert np.array_equal(found.outputs()["target"], np.where(seen, outputs["target"], 0))
        wild = {**changed, "forecast": np.where(seen, changed["forecast"], -1e5)}
        assert judged_by(data, wild).metrics() == pytest.approx(expected.metrics())


def test_a_diverged_forecast_is_not_hidden():
    data = made()
    outputs = outputs_of(data, levels=())
    outputs["forecast"][3, 1, 0] = np.nan
    found = judged_by(data, outputs, levels=()).metrics()
    assert np.isnan([found["mse"], found["unit_mae"], found["smape"], found["mase"]]).all()


def test_nothing_observed_is_not_a_number():
    data = made(missing=0.3)
    outputs = outputs_of(data)
    outputs["observed"][..., 1] = False
    accumulator = judged_by(data, outputs)
    tables = accumulator.outputs()
    assert np.isfinite(accumulator.metrics()["mse"]) and tables["by_variate/count"][1] == 0
    assert np.isnan(tables["by_variate/mse"][1]) and np.isfinite(tables["by_variate/mse"][0])
    outputs["observed"][:] = False
    assert np.isnan(judged_by(data, outputs).metrics()["mse"])


def test_a_constant_variate_has_no_mase():
    data = by_hand([9.0] * 10 + [5.0] * 20, [4.0] * 30)
    data.panel.first["target"].values[:70, 1] = 4.0
    scale = seasonal_scale(data, 1)
    assert scale.shape == (1, 2) and scale[0, 0] == pytest.approx(2.0) and scale[0, 1] == 0
    outputs = {
        "where": data.where("test", [0, 4]),
        "target": np.ones((2, 2, 2)),
        "forecast": np.zeros((2, 2, 2)),
    }
    accumulator = ForecastAccumulator(data, "test", season=1)
    accumulator.add([0, 4], outputs)
    found = accumulator.outputs()["by_variate/mase"]
    assert found[0] == pytest.approx(0.5) and np.isnan(found[1])
    assert accumulator.metrics()["mase"] == pytest.approx(0.5)


def test_the_scale_of_mase_is_of_training_rows_alone(monkeypatch):
    season = np.tile([1.0, 4.0, 9.0], 40)[:, None]
    drift = np.concatenate([season + np.arange(120)[:, None], season], 1)
    drift[84:] = 1e9  # validation and test: the last 30 %
    data = window_data(drift)
    assert training_rows(data) == [(0, 84)]
    assert seasonal_scale(data, 3).tolist() == [[3.0, 0.0]]
    assert seasonal_scale(data, 1)[0, 1] == pytest.approx(np.abs(np.diff(season[:84, 0])).mean())
    expected = seasonal_scale(data, 2)
    monkeypatch.setattr("isoform.timeseries.metrics._BLOCK", 8 * 2 * 7)  # read seven rows at a time
    again = window_data(drift)
    np.testing.assert_allclose(seasonal_scale(again, 2), expected)


def test_a_series_shorter_than_a_season():
    data = window_data(np.arange(40.0)[:, None] * 2)
    assert seasonal_scale(data, 1000).tolist() == [[2.0]]


def in_units(data, *units):
    """The same data, with a unit for every variate."""
    for one in data.panel.series:
        one.coords["units"] = ("variate", list(units))
    return data


def test_variates_of_several_units_have_no_mean_in_units():
    rng = np.random.default_rng(7)
    data = in_units(window_data(rng.normal([3, -70, 5], [2, 31, 0.1], (ROWS, 3))), "kWh", "K", "")
    batch = {name: value.numpy() for name, value in data.batch("test", range(18)).items()}
    outputs = {name: batch[name] for name in ("target", "where")}
    outputs["forecast"] = rng.normal(size=batch["target"].shape).astype(np.float32)
    outputs["quantiles"] = np.stack([outputs["forecast"] - 1, outputs["forecast"] + 1], -1)
    found = judged_by(data, outputs, levels=(0.1, 0.9))
    metrics, tables = found.metrics(), found.outputs()
    error = np.abs(outputs["forecast"] - outputs["target"]) * data.spread_units()
    for v, end in enumerate(("[kWh]", "[K]", "[?]")):
        assert metrics[f"unit_mae{end}"] == pytest.approx(error[..., v].mean(), rel=1e-5)
        want = np.sqrt((error[..., v] ** 2).mean())
        assert metrics[f"unit_rmse{end}"] == pytest.approx(want, rel=1e-5)
        assert metrics[f"width_80{end}"] == pytest.approx(2 * data.spread_units()[v], rel=1e-5)
        np.testing.assert_allclose(
            tables[f"by_step/unit_mae{end}"], error[..., v].mean(0), rtol=1e-5
        )
        assert tables["by_variate/unit_mae"][v] == pytest.approx(metrics[f"unit_mae{end}"])
    assert not {"unit_mae", "unit_rmse", "crps", "width_80"} & metrics.keys()
    assert {"mse", "mae", "mase", "smape", "scaled_crps", "coverage_80"} <= metrics.keys()


@pytest.mark.parametrize("units", [("", ""), ("kWh", "kWh"), ("kWh ", "kWh")])
def test_variates_of_one_unit_or_of_none_that_is_known_keep_their_mean(units):
    plain = judged_by(made(), outputs_of(made()))
    data = in_units(made(), *units)
    found = judged_by(data, outputs_of(data))
    assert found.metrics() == plain.metrics() and "unit_mae" in found.metrics()


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_every_series_by_itself(missing):
    data = made(missing=missing, series=3)
    outputs = outputs_of(data)
    tables = judged_by(data, outputs).outputs()
    y, f = (data.to_units(outputs[name].astype(float), axis=2) for name in ("target", "forecast"))
    low, high = (outputs["quantiles"][..., q] for q in (1, 3))
    seen = outputs.get("observed", np.ones(y.shape, bool))
    seen = seen & ~data.without_past(outputs["where"])[:, None]
    inside = (low <= outputs["target"]) & (outputs["target"] <= high)
    for number in range(3):
        mine = outputs["where"][:, 0] == number
        assert tables["by_series/windows"][number] == mine.sum() > 0
        here = seen[mine]
        assert tables["by_series/count"][number] == here.sum()
        want = abs(y - f)[mine][here].mean()
        assert tables["by_series/unit_mae"][number] == pytest.approx(want)
        assert tables["by_series/coverage_80"][number] == pytest.approx(inside[mine][here].mean())
        alone = judged_by(data, {name: value[mine] for name, value in outputs.items()}).metrics()
        for name in ("mae", "unit_mae", "mase", "coverage_90"):
            assert tables[f"by_series/{name}"][number] == pytest.approx(alone[name])
    one = made(missing=missing)
    assert not [name for name in judged_by(one, outputs_of(one)).outputs() if "by_series" in name]


def test_a_scale_can_be_given():
    data = made()
    outputs = outputs_of(data, levels=())
    found = ForecastAccumulator(data, "test", scale_units=np.array([[2.0, 0.5]]))
    found.add(range(18), outputs)
    tables = found.outputs()
    np.testing.assert_allclose(
        tables["by_variate/mase"], tables["by_variate/unit_mae"] / [2.0, 0.5]
    )


def test_what_is_kept_is_bounded_and_evenly_spread():
    data = made(rows=503, missing=0.01)
    n = data.sizes()["test"]
    outputs = outputs_of(data)
    window = H * V * (4 + 4 + 1 + 4 * len(LEVELS))
    found = judged_by(data, outputs, limit=33 * window).outputs()
    kept = found["where"][:, 1] - data.where("test", [0])[0, 1]
    assert (
        len(kept) == 33 and kept[0] == 0 and kept[-1] == n - 1 and set(np.diff(kept)) <= {2, 3, 4}
    )
    assert np.array_equal(found["quantiles"], outputs["quantiles"][kept]) and found["windows"] == n
    assert (
        sum(found[name].nbytes for name in ("forecast", "target", "observed", "quantiles"))
        == 33 * window
    )
    assert len(judged_by(data, outputs, limit=1).outputs()["where"]) == FEWEST
    assert "observed" not in judged_by(made(), outputs_of(made())).outputs()


def test_calibrated_intervals_are_what_is_judged():
    data = made()
    outputs = outputs_of(data, levels=())
    offsets = np.zeros((2, H, V), np.float32)
    offsets[0], offsets[1] = -100, 100
    calibration = Calibration((0.1, 0.9), offsets, offsets[:, :, 0], ())
    accumulator = ForecastAccumulator(data, "test", calibration=calibration)
    accumulator.add(range(18), outputs)
    found = accumulator.metrics()
    assert found["coverage_80"] == 1
    assert found["width_80"] == pytest.approx((200 * data.spread_units()).mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(judged_by(data, outputs, levels=()).metrics()["mse"])
    assert accumulator.outputs()["levels"].tolist() == [0.1, 0.9] and accumulator.outputs()[
        "quantiles"
    ].shape == (
        18,
        H,
        V,
        2,
    )


def test_without_levels_there_are_no_intervals():
    data = made()
    accumulator = judged_by(data, outputs_of(data, levels=()), levels=())
    assert set(accumulator.metrics()) == {
        "windows",
        "mse",
        "mae",
        "unit_mae",
        "unit_rmse",
        "mase",
        "smape",
    }
    assert not {"quantiles", "levels"} & accumulator.outputs().keys()
