"""From noise to a sample along the flow dx/dt = (f(x, t) - x) / (1 - t), where f predicts the clean end.

With a = 1 - t, b = 1 - s and the prediction held fixed, the step from t to s is exact:

    euler       x_s = b/a x + (1 - b/a) f
    multistep   the same, and (a - b - b ln(a/b)) times the slope of f in time, from the last two predictions

"multistep" is the two-step exponential Adams-Bashforth method (Hochbruck & Ostermann 2010, section 2.5; DPM-Solver++ 2M
of Lu et al. 2022 is its sibling in another time): second order for the same one prediction a step.
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
    x, last_clean, last_time = start, None, 0.0
    for i, t in enumerate(times):
        clean = predict(x, t, last_clean if feed_back else None)
        if observe is not None:
            observe(x, t, clean)
        if i + 1 < len(times):
            slope = None
            if solver == "multistep" and last_clean is not None:
                slope = (clean - last_clean) / (t - last_time)
            x = step(x, clean, slope, t, times[i + 1])
        last_clean, last_time = clean, t
    return clean


def step(x: Tensor, clean: Tensor, slope: Tensor | None, t: float, s: float) -> Tensor:
    """x at time s from x at t < s; `slope` is the prediction's derivative in time, None for 0."""
    a, b = 1 - t, 1 - s
    moved = x + (clean - x) * ((s - t) / a)
    if slope is None:
        return moved
    gained = a - b - (b * math.log(a / b) if b > 0 else 0.0)
    return moved + gained * slope


def guide(labelled: Tensor, unlabelled: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022): 1 is the labelled prediction, more exaggerates the labels."""
    return unlabelled + scale * (labelled - unlabelled)
