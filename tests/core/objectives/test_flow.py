from __future__ import annotations

import torch

from isoform.core.objectives.flow import (
    Preconditioned,
    draw_times,
    drop_labels,
    first_guess,
    interpolate,
    time_weights,
)


def test_the_path_leads_straight_from_noise_to_data() -> None:
    x_0, x_1 = torch.randn(2, 5, 3, dtype=torch.float64)
    for t, want in ((0.0, x_0), (1.0, x_1), (0.25, 0.75 * x_0 + 0.25 * x_1)):
        torch.testing.assert_close(interpolate(x_0, x_1, torch.tensor(t)), want)


def test_the_weighted_error_of_the_end_is_that_of_the_velocity() -> None:
    x_0, x_1, guess = torch.randn(3, 7, dtype=torch.float64)
    t = torch.linspace(0.02, 0.89, 7, dtype=torch.float64)
    x_t = interpolate(x_0, x_1, t)
    velocity_error = ((guess - x_t) / (1 - t) - (x_1 - x_0)) ** 2
    torch.testing.assert_close(time_weights(t) * (guess - x_1) ** 2, velocity_error)
    late = time_weights(torch.tensor([0.9, 0.99, 1.0], dtype=torch.float64))
    torch.testing.assert_close(late, torch.full_like(late, 100.0))


def test_times_and_dropped_labels_come_from_the_generator() -> None:
    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        labels = torch.full((5000, 2), 7)
        return draw_times(5000, 0.2, 0.6, generator), drop_labels(labels, 0.1, generator)

    times, labels = draw()
    assert all(map(torch.equal, draw(), (times, labels)))
    assert 0.2 <= times.min() < 0.21 and 0.59 < times.max() <= 0.6
    dropped = labels == 0
    assert ((dropped.float().mean(0) - 0.1).abs() < 0.02).all()
    assert (dropped.all(1).float().mean() - 0.01).abs() < 0.006  # each label by itself
    assert set(labels.unique().tolist()) == {0, 7}


def test_the_first_guess_takes_no_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    guess = first_guess(lambda: 2 * weight, 1.0)
    assert guess is not None and guess == 2 and not guess.requires_grad
    assert first_guess(lambda: weight, 0.0) is None


def test_a_guess_that_is_not_wanted_is_made_and_dropped_where_all_pass_evenly() -> None:
    """And draws nothing that the batch would draw without it."""
    made: list[torch.Tensor] = []

    def predict() -> torch.Tensor:
        made.append(torch.rand(3))
        return made[-1]

    after = []
    for evenly in (False, True):
        torch.manual_seed(7)
        assert first_guess(predict, 0.0, evenly=evenly) is None
        after.append(torch.rand(5).tolist())
    assert len(made) == 1 and after[0] == after[1]


def test_the_preconditioned_guess_is_the_best_of_all_linear_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    spread, n = 2.5, 200_000
    x_1 = spread * torch.randn(n, generator=generator, dtype=torch.float64)
    x_0 = torch.randn(n, generator=generator, dtype=torch.float64)
    for t in (0.1, 0.4, 0.8):
        level = Preconditioned(torch.tensor(t, dtype=torch.float64), spread)
        x_t = interpolate(x_0, x_1, level.t)
        torch.testing.assert_close(x_t.std(), level.norm, rtol=0.01, atol=0)
        guess = level.clean(x_t, torch.zeros(1, dtype=torch.float64))
        best = (x_t @ x_1) / (x_t @ x_t) * x_t
        torch.testing.assert_close(guess, best, rtol=0.02, atol=0.01)
        torch.testing.assert_close((x_1 - guess).std(), level.out, rtol=0.01, atol=0)


def test_the_noise_level_rises_with_time_and_is_finite() -> None:
    level = Preconditioned(torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]), 1.0).noise_level()
    assert level.isfinite().all() and (level.diff() > 0).all() and level[2] == 0
