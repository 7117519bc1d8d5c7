"""From noise to a sample along the flow dx/dt = (f(x, t) - x) / (1 - t), where f predicts the clean end.

    euler       x_s = x + (s - t) / (1 - t) (f - x), exact where the prediction stays as it is
    multistep   the same with f + (f - f_before) h / (2 h_before) in the place of f

h is a step's width in the logarithm of t / (1 - t). That is DPM-Solver++ (2M) of Lu et al. 2022 (arXiv:2211.01095,
algorithm 2): second order for the same one prediction a step. The last step, of infinite width, is Euler's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

# The state, its time, and the prediction before, None where there is none or it is not to be fed back.
Predict = Callable[[Tensor, float, Tensor | None], Tensor]
Observe = Callable[[Tensor, float, Tensor], None]

SOLVERS = ("euler", "multistep")


def time_points(count: int, start: float) -> list[float]:
    """`count` times from `start` to 1, evenly apart. Raises ValueError for fewer than 2."""
    if count < 2:
        raise ValueError(f"a path has at least 2 points in time, got {count}")
    width = (1 - start) / (count - 1)
    return [*(start + width * i for i in range(count - 1)), 1.0]


def solve(
    predict: Predict,
    start: Tensor,
    times: Sequence[float],
    solver: str = "euler",
    *,
    feed_back: bool = True,
    observe: Observe | None = None,
) -> Tensor:
    """The sample: the prediction at the last time, whose state the steps between `times` have led to.

    feed_back   predictions are handed to the next call, for networks trained with self-conditioning
    observe     sees the state, its time and the prediction there at each of `times`
    One prediction a time. Raises ValueError for another solver.
    """
    if solver not in SOLVERS:
        raise ValueError(f"no solver is called {solver!r}; there are {', '.join(SOLVERS)}")
    x, before, width_before = start, None, 0.0
    for i, t in enumerate(times):
        clean = predict(x, t, before if feed_back else None)
        if observe is not None:
            observe(x, t, clean)
        if i + 1 < len(times):
            s = times[i + 1]
            end, width = clean, log_odds(s) - log_odds(t)
            if solver == "multistep" and before is not None and s < 1:
                end = clean + (clean - before) * (width / (2 * width_before))
            x = x + (end - x) * ((s - t) / (1 - t))
            width_before = width
        before = clean
    return clean


def log_odds(t: float) -> float:
    """ln(t / (1 - t)), half the logarithm of the signal-to-noise ratio; infinite at the ends."""
    if t <= 0 or t >= 1:
        return math.inf if t >= 1 else -math.inf
    return math.log(t / (1 - t))


def guide(labelled: Tensor, unlabelled: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022): 1 is the labelled prediction, more exaggerates the labels."""
    return unlabelled + scale * (labelled - unlabelled)
