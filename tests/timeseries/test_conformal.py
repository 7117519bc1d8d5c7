"""Calibrated quantiles: the promise of coverage, exactly; pooling; order; other levels and other variates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.timeseries.conformal import LEVELS, Calibration, calibrate, fit
from isoform.timeseries.state import TimeseriesState

N, H, V = 211, 3, 2
numbers = st.lists(st.integers(-1000, 1000), min_size=200, max_size=260, unique=True)


def outputs_of(residual, forecast=None):
    """Validation whose truth is the forecast plus `residual` [n, H, V]."""
    residual = np.asarray(residual, np.float32)
    forecast = np.zeros_like(residual) if forecast is None else np.asarray(forecast, np.float32)
    return {"forecast": forecast, "target": forecast + residual}


def one(values):
    return np.asarray(values, float)[:, None, None]


@settings(max_examples=30)
@given(numbers, st.sampled_from([0.05, 0.1, 0.25, 0.75, 0.9, 0.95]))
def test_exchangeable_values_are_covered_as_promised(values, level):
    """Each value in turn is the one to come and the others are validation: all are equally likely in that place."""
    values = np.array(values, float)
    covered = 0
    for i in range(len(values)):
        calibration = fit(outputs_of(one(np.delete(values, i))), levels=[level])
        bound = calibration.offsets_QHV[0, 0, 0]
        covered += values[i] <= bound if level > 0.5 else values[i] >= bound
    promised = max(level, 1 - level)
    assert promised - 1e-9 <= covered / len(values) <= promised + 1 / len(values)


def test_offsets_by_hand():
    """99 residuals 1 to 99: of 100 places, the 90th, the 10th and the middle."""
    calibration = fit(
        outputs_of(one(np.random.default_rng(0).permutation(np.arange(1, 100)))),
        levels=[0.1, 0.5, 0.9],
    )
    assert calibration.offsets_QHV[:, 0, 0].tolist() == [10, 50, 90]
    calibration = fit(outputs_of(one(np.arange(100.0))), levels=[0.1, 0.5, 0.9])
    assert calibration.offsets_QHV[:, 0, 0].tolist() == [
        9,
        49.5,
        90,
    ]  # ranks 10, 50 and 51, 91 of 100


def test_a_forecasts_own_offset_at_each_step_and_variate():
    rng = np.random.default_rng(1)
    scale = np.array([[1.0, 20.0], [300.0, 4000.0], [5e4, 6e5]])
    calibration = fit(outputs_of(rng.normal(size=(N, H, V)) * scale))
    found = calibration.offsets_QHV[LEVELS.index(0.9)] / scale
    assert calibration.offsets_QHV.shape == (7, H, V) and ((found > 1) & (found < 1.7)).all()


def test_the_models_quantiles_are_widened_to_what_they_claim():
    """Its interval is that of a fifth of the true spread, which differs from window to window."""
    rng = np.random.default_rng(2)
    spread = np.exp(rng.normal(size=(2 * N, H, V))).astype(np.float32)
    truth = spread * rng.normal(size=spread.shape).astype(np.float32)
    quantiles = spread[..., None] * np.float32([-1.2816, 0, 1.2816]) / 5
    base, half = (0.1, 0.5, 0.9), slice(0, N)
    outputs = {"forecast": 0 * spread[half], "target": truth[half], "quantiles": quantiles[half]}
    calibration = Calibration.of(calibrate(outputs, base, levels=base))
    assert calibration.base == calibration.levels == base
    found = calibration.apply(0 * spread[N:], quantiles[N:])
    inside = (found[..., 0] <= truth[N:]) & (truth[N:] <= found[..., 2])
    before = (quantiles[N:, ..., 0] <= truth[N:]) & (truth[N:] <= quantiles[N:, ..., 2])
    assert before.mean() < 0.3 and 0.77 < inside.mean() < 0.84
    widths = found[..., 2] - found[..., 0]
    assert (
        np.corrcoef(widths.ravel(), spread.ravel()[: widths.size])[0, 1] < 0.5
    )  # other windows' spread
    assert (
        np.corrcoef(widths.ravel(), spread[N:].ravel())[0, 1] > 0.8
    )  # its own: intervals still breathe


@given(st.integers(0, 1000))
def test_quantiles_never_cross_and_never_promise_less(seed):
    """Whatever the model said: in order, and no upper one below, no lower one above its calibrated place."""
    rng = np.random.default_rng(seed)
    base = (0.1, 0.5, 0.9)
    outputs = outputs_of(rng.normal(size=(N, H, V)))
    outputs["quantiles"] = rng.normal(size=(N, H, V, 3)).astype(np.float32)  # crossing anywhere
    calibration = fit(outputs, base)
    forecast, quantiles = (
        rng.normal(size=(5, H, V)),
        rng.normal(size=(5, H, V, 3)).astype(np.float32),
    )
    found = calibration.apply(forecast, quantiles)
    assert (np.diff(found, axis=-1) >= 0).all()
    for i, level in enumerate(calibration.levels):
        alone = Calibration(
            (level,), calibration.offsets_QHV[i : i + 1], calibration.pooled_QH[i : i + 1], base
        )
        raw = alone.apply(forecast, quantiles)[..., 0]
        assert (found[..., i] >= raw).all() if level > 0.5 else (found[..., i] <= raw).all()


def test_too_few_windows_are_pooled_over_steps_then_over_variates():
    """40 windows: a median stands alone (20 beyond), .9 has 4 beyond and takes its variate's 120 residuals, .99 all
    240 at 2.4 beyond, which is all there is; only with 3 steps and 2 variates."""
    n = 40
    cell = (
        np.arange(n * H * V, dtype=float).reshape(H, V, n).transpose(2, 0, 1)
    )  # each cell has its own numbers
    calibration = fit(outputs_of(cell), levels=[0.5, 0.9, 0.99])
    assert np.array_equal(calibration.offsets_QHV[0], np.median(cell, 0).astype(np.float32))
    for v in range(V):
        expected = np.sort(cell[:, :, v].ravel())[int(np.ceil(0.9 * 121)) - 1]
        assert (calibration.offsets_QHV[1, :, v] == expected).all()
    assert (calibration.offsets_QHV[2] == np.sort(cell.ravel())[int(np.ceil(0.99 * 241)) - 1]).all()
    assert calibration.pooled_QH[1].tolist() == [
        np.sort(cell[:, h].ravel())[int(np.ceil(0.9 * 81)) - 1] for h in range(H)
    ]


def test_a_variate_with_gaps_is_pooled_alone():
    rng = np.random.default_rng(3)
    outputs = outputs_of(rng.normal(size=(N, H, V)) * [1, 100])
    observed = np.ones((N, H, V), bool)
    observed[20:, :, 1] = False
    outputs["target"][~observed] = 1e9
    found = fit({**outputs, "observed": observed}, levels=[0.9])
    whole = fit(outputs_of(outputs["target"][..., :1]), levels=[0.9])
    assert np.array_equal(
        found.offsets_QHV[..., 0], whole.offsets_QHV[..., 0]
    )  # the other variate keeps its own
    few = np.sort(outputs["target"][:20, :, 1].ravel())[int(np.ceil(0.9 * 61)) - 1]
    assert (found.offsets_QHV[0, :, 1] == few).all() and few < 1e3


@pytest.mark.parametrize("missing", ["target", "observed"])
def test_nothing_observed_calibrates_nothing(missing):
    outputs = outputs_of(np.ones((7, H, V)))
    if missing == "target":
        outputs = {name: value[:0] for name, value in outputs.items()}
    else:
        outputs["observed"] = np.zeros((7, H, V), bool)
    assert calibrate(outputs) == {} == calibrate({})


def test_levels_between_and_beside():
    calibration = fit(outputs_of(one(np.arange(199.0))), levels=[0.1, 0.5, 0.9])
    forecast = np.zeros((2, 1, 1))
    assert calibration.apply(forecast)[0, 0, 0].tolist() == [19, 99, 179]
    found = calibration.apply(forecast, levels=[0.9, 0.7, 0.1, 0.3])[1, 0, 0]
    np.testing.assert_allclose(found, [179, 139, 19, 59], rtol=1e-6)
    for level in (0.95, 0.05):
        with pytest.raises(
            UserError, match=rf"quantile {level}: this run's quantiles go from 0.1 to 0.9"
        ):
            calibration.apply(forecast, levels=[level])


def test_levels_that_the_model_lacks_start_from_its_neighbours():
    rng = np.random.default_rng(4)
    outputs = outputs_of(rng.normal(size=(N, H, V)))
    outputs["quantiles"] = np.tile(np.float32([-1, 0, 4]), (N, H, V, 1))
    found = Calibration.of(calibrate(outputs, (0.1, 0.5, 0.9)))
    assert found.levels == LEVELS
    expected = fit(outputs_of(outputs["target"])).offsets_QHV
    for level, base in ((0.05, -1), (0.25, -0.625 + 0.25), (0.75, 2.5), (0.95, 4)):
        i = LEVELS.index(level)
        if level == 0.25:
            base = -1 + (0.25 - 0.1) / 0.4
        np.testing.assert_allclose(found.offsets_QHV[i] + base, expected[i], atol=1e-5)


def test_a_shorter_horizon_and_other_variates():
    rng = np.random.default_rng(5)
    calibration = fit(outputs_of(rng.normal(size=(N, H, V)) * [1, 9]))
    forecast = rng.normal(size=(4, H, V)).astype(np.float32)
    assert np.array_equal(calibration.apply(forecast)[:, :2], calibration.apply(forecast[:, :2]))
    other = calibration.of_variates(["a", "b"], ["b", "new", "a"])
    found = other.apply(forecast[..., [1, 0, 0]])
    assert np.array_equal(found[:, :, [2, 0]], calibration.apply(forecast))
    np.testing.assert_array_equal(other.offsets_QHV[..., 1], calibration.pooled_QH)
    assert (calibration.offsets_QHV[-1, :, 0] < calibration.pooled_QH[-1]).all()
    assert (calibration.pooled_QH[-1] < calibration.offsets_QHV[-1, :, 1]).all()


def test_arrays_go_through_a_run_folder(tmp_path):
    rng = np.random.default_rng(6)
    arrays = calibrate(outputs_of(rng.normal(size=(N, H, V))))
    run = RunFolder(tmp_path)
    run.write_json("task.json", TimeseriesState().to_json())
    run.write_arrays("calibration.npz", arrays)
    found = Calibration.of(run.state(TimeseriesState).calibration)
    assert found.levels == LEVELS and found.base == ()
    forecast = rng.normal(size=(4, H, V))
    assert np.array_equal(found.apply(forecast), Calibration.of(arrays).apply(forecast))
