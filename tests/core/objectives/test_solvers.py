"""Solvers on a flow whose end is known: noise N(0, 1) to data N(mean, deviation^2)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from isoform.core.objectives.solvers import SOLVERS, guide, solve, time_points

MEAN, DEVIATION, START = 0.7, 0.3, 0.01


def spread(t: float) -> float:
    """Standard deviation of x_t."""
    return math.hypot(1 - t, t * DEVIATION)


def expected_end(x: Tensor, t: float, previous: Tensor | None = None) -> Tensor:
    """E[x_1 | x_t = x], what a perfect network predicts."""
    return MEAN + t * (DEVIATION / spread(t)) ** 2 * (x - t * MEAN)


def error(solver: str, steps: int) -> float:
    noise = torch.linspace(-2.3, 2.3, 11, dtype=torch.float64)
    exact = MEAN + DEVIATION * (noise - START * MEAN) / spread(START)
    found = solve(expected_end, noise, time_points(steps, START), solver)
    return float((found - exact).abs().max())


def test_euler_is_of_first_order_and_multistep_of_second() -> None:
    order = {solver: math.log2(error(solver, 81) / error(solver, 161)) for solver in SOLVERS}
    assert 0.8 < order["euler"] < 1.2, order
    assert 1.5 < order["multistep"] < 2.4, order


def test_multistep_needs_a_quarter_of_the_steps() -> None:
    assert error("multistep", 25) < 0.6 * error("euler", 100)
    assert error("multistep", 100) < 0.15 * error("euler", 100)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sure_prediction_is_reached_exactly(solver: str) -> None:
    end = torch.randn(5, dtype=torch.float64)
    states: list[Tensor] = []
    times = time_points(7, 0.1)
    found = solve(
        lambda x, t, previous: end,
        torch.zeros_like(end),
        times,
        solver,
        observe=lambda x, t, clean: states.append(x),
    )
    assert torch.equal(found, end) and len(states) == len(times) == 7
    for t, state in zip(times, states, strict=True):
        torch.testing.assert_close(state, end * (t - 0.1) / 0.9)


@pytest.mark.parametrize("feed_back", [True, False])
def test_each_prediction_is_fed_to_the_next_where_asked(feed_back: bool) -> None:
    seen: list[Tensor | None] = []

    def predict(x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        seen.append(previous)
        return torch.full_like(x, t)

    solve(predict, torch.zeros(2), [0.2, 0.5, 1.0], feed_back=feed_back)
    given = [None if p is None else round(float(p[0]), 6) for p in seen]
    assert given == ([None, 0.2, 0.5] if feed_back else [None] * 3)


def test_guidance_leads_away_from_what_is_not_told() -> None:
    told, untold = torch.tensor([3.0]), torch.tensor([1.0])
    assert [float(guide(told, untold, scale)) for scale in (0.0, 1.0, 2.0)] == [1.0, 3.0, 5.0]


def test_what_cannot_be_solved_is_refused() -> None:
    assert time_points(4, 0.1)[0] == 0.1 and time_points(4, 0.1)[-1] == 1.0
    with pytest.raises(ValueError, match="at least 2 points in time, got 1"):
        time_points(1, 0.01)
    with pytest.raises(ValueError, match="no solver is called 'rk'; there are euler, multistep"):
        solve(expected_end, torch.zeros(2), [0.1, 1.0], "rk")
