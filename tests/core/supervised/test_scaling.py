"""Target scaling by hand, back and forth, and with the bits of float32."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.supervised.scaling import TargetScaling

NAN = math.nan


def test_scaling_by_hand() -> None:
    """The population's standard deviation; no labels and no spread leave a target as it is, but for its mean."""
    targets = torch.tensor([[1.0, NAN, 5.0], [3.0, NAN, 5.0], [NAN, NAN, 5.0], [5.0, NAN, 5.0]])
    scaling = TargetScaling.fit(targets.numpy())
    assert scaling == TargetScaling.fit(targets)
    assert scaling.mean == (3.0, 0.0, 5.0) and scaling.std == pytest.approx(
        (math.sqrt(8 / 3), 1.0, 1.0)
    )
    scaled = scaling.scale(targets)
    assert scaled[:, 2].eq(0).all() and scaled.isnan().equal(targets.isnan())
    assert TargetScaling.identity(3).scale(targets).nan_to_num(7).equal(targets.nan_to_num(7))


def test_missing_is_left_out() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(31, 3)) * [1, 100, 0.01]
    holes = rng.random(targets.shape) < 0.3
    whole = TargetScaling.fit(np.where(holes, NAN, targets))
    for k in range(3):
        alone = TargetScaling.fit(targets[~holes[:, k]][:, [k]])
        assert (whole.mean[k], whole.std[k]) == pytest.approx(
            (alone.mean[0], alone.std[0]), rel=1e-12
        )


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=9),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e3),
)
def test_scaling_and_back(values: list[float], mean: float, std: float) -> None:
    scaling = TargetScaling((mean,), (std,))
    targets = torch.tensor(values, dtype=torch.float64)[:, None]
    back = scaling.unscale(scaling.scale(targets))
    torch.testing.assert_close(back, targets, atol=1e-9 * (1 + abs(mean)), rtol=1e-9)


def test_a_far_mean_costs_no_digits() -> None:
    """QM9's energies lie thousands of deviations from zero: in float32 the difference must not be what is left."""
    targets = torch.tensor([[-10931.25], [-10931.5]])
    assert TargetScaling((-10931.0,), (0.125,)).scale(targets).tolist() == [[-2.0], [-4.0]]


def test_in_float32_it_is_float32_arithmetic_bit_for_bit() -> None:
    mean, std = (0.1, -1234.5678, 3e-3), (1.7, 31.4159, 0.7)
    mean_K, std_K = torch.tensor(mean), torch.tensor(std)
    scaling = TargetScaling(mean, std).in_float32()
    assert scaling.mean == tuple(mean_K.tolist()) and scaling.in_float32() == scaling
    targets = torch.randn(17, 3, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(scaling.scale(targets, torch.float32), (targets - mean_K) / std_K)
    assert torch.equal(scaling.unscale(targets, torch.float32), targets * std_K + mean_K)
    outputs = targets.numpy()
    expected = outputs * np.asarray(scaling.std) + np.asarray(scaling.mean)
    np.testing.assert_array_equal(scaling.unscale(targets).numpy(), expected)


def test_it_travels_as_json() -> None:
    scaling = TargetScaling.fit(np.random.default_rng(1).normal(size=(11, 5)))
    assert TargetScaling.from_json(json.loads(json.dumps(scaling.to_json()))) == scaling


def test_a_logarithm_is_scaled_and_comes_back_in_units() -> None:
    """The second of three targets spans decades: its mean and deviation are those of its exponents 0, 2 and 4."""
    targets = torch.tensor(
        [[1.0, 1.0, -3.0], [2.0, 100.0, 0.0], [6.0, 10_000.0, math.nan]]
    ).double()
    scaling = TargetScaling.fit(targets, (False, True, False))
    assert scaling.mean[1] == pytest.approx(2) and scaling.std[1] == pytest.approx((8 / 3) ** 0.5)
    plain = TargetScaling.fit(targets)
    assert (scaling.mean[0], scaling.std[2]) == (plain.mean[0], plain.std[2])
    torch.testing.assert_close(scaling.unscale(scaling.scale(targets)), targets, equal_nan=True)
    learned = scaling.learned(targets.numpy())
    assert learned[:, 1].tolist() == pytest.approx([0, 2, 4]) and learned[1].tolist() == [2, 2, 0]
    np.testing.assert_allclose(scaling.in_units(learned), targets.numpy(), rtol=1e-12)
    assert TargetScaling.from_json(scaling.to_json()) == scaling
    assert "log" not in plain.to_json() and plain.learned(learned) is learned


@pytest.mark.parametrize("value", [0.1, 0.3, 1.1, 7.7, 1e6 + 0.1])
@pytest.mark.parametrize("rows", [1, 3, 7, 11, 13])
def test_equal_targets_have_no_spread_whatever_rounding_says(value: float, rows: int) -> None:
    """The mean of 3 times 0.1 isn't 0.1, and a deviation of 1e-17 would make every error a million million."""
    targets = np.stack([np.full(rows, value), np.arange(rows) * 1.0], 1)
    targets = np.concatenate([targets, [[np.nan, 0.5]]])
    assert TargetScaling.fit(targets).std[0] == 1
    assert TargetScaling.fit(np.full((rows, 1), value), [True]).std == (1,)
    assert TargetScaling.fit(np.full((0, 1), value)) == TargetScaling((0.0,), (1.0,))
