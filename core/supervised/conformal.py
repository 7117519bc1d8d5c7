"""Conformal calibration: intervals and sets of classes that hold the truth as often as they say, whatever the model.

Split conformal prediction (Vovk et al. 2005) on the best checkpoint's validation outputs. Of n validation samples with
a label, the bound of a level q is the ceil((n + 1) q)-th smallest score: of a regression the absolute residual, of
classes 1 minus the probability of the true one. If validation and what comes are exchangeable, the truth lies within
with probability at least q; samples of another kind than the training's are not exchangeable with it.

Of an ensemble, residuals are divided by its members' spread plus a number, epsilon, the median spread on validation
(normalised conformal prediction, Papadopoulos et al. 2002): intervals are wide where the members disagree.

n samples, K targets, C classes, R levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)  # of regression
SET_LEVELS: tuple[float, ...] = (0.9,)  # of classes
SHOWN = 0.9  # the level of predictions and metrics
ROUNDING = 1e-9  # 0.9 * 10 must not become more than 9 by rounding


def finite_sample_rank(count: np.ndarray, level: float, *, upper: bool = True) -> np.ndarray:
    """Which of `count` ordered scores bounds a level: the ceil((count + 1) level)-th; not upper: the floor of it.

    Counted from 1. More than `count`, or less than 1, where so few scores bound no such level.
    """
    place = (np.asarray(count) + 1) * level
    rank = np.ceil(place - ROUNDING) if upper else np.floor(place + ROUNDING)
    return np.asarray(rank, np.int64)


def value_of_rank(ordered: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """[...] the values of these ranks along the first axis of [n, ...], where they ascend and NaN is last.

    A rank beyond the values gives the first or the last of them; NaN where there is none.
    """
    count = (~np.isnan(ordered)).sum(0)
    last = np.maximum(count, 1)
    index = np.clip(rank, 1, last) - 1
    return np.take_along_axis(ordered, index[None], 0)[0]


def score_quantile(ordered_scores: np.ndarray, level: float) -> np.ndarray:
    """[...] the bound that new scores stay at or below with probability `level`; NaN where too few can tell.

    The scores [n, ...] ascend along the first axis, with NaN (missing) last.
    """
    count = (~np.isnan(ordered_scores)).sum(0)
    rank = finite_sample_rank(count, level)
    if not len(ordered_scores):
        return np.full(rank.shape, np.nan)
    bound = value_of_rank(ordered_scores, rank)
    return np.where(rank <= count, bound, np.nan)


def residual_quantile(ordered_residuals: np.ndarray, level: float) -> np.ndarray:
    """[...] the offset of a quantile: signed residuals' rank outwards from the middle, and of level 1/2 their median.

    The residuals [n, ...] ascend along the first axis, with NaN (missing) last. Where too few can tell, the outermost.
    """
    count = (~np.isnan(ordered_residuals)).sum(0)
    middle = abs(level - 0.5) < ROUNDING
    low = finite_sample_rank(count, level, upper=level > 0.5 and not middle)
    high = finite_sample_rank(count, level, upper=level > 0.5 or middle)
    below = value_of_rank(ordered_residuals, low)
    above = value_of_rank(ordered_residuals, high)
    return (below + above) / 2


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` learned, of regression, labels or classes; see `arrays` of it there."""

    levels: tuple[float, ...]
    radius_RK: np.ndarray | None = (
        None  # of regression, in the targets' units, or with epsilon in spreads
    )
    label_RK: np.ndarray | None = None  # of labels
    class_R: np.ndarray | None = None  # of classes
    epsilon_K: np.ndarray | None = None  # of an ensemble's regression: what is added to a spread

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        """From what `calibrate` gave, where that is not empty."""
        known = ("radius_RK", "label_RK", "class_R", "epsilon_K")
        bounds = {name: arrays[name] for name in known if name in arrays}
        return cls(tuple(float(level) for level in arrays["levels"]), **bounds)

    @classmethod
    def found_in(cls, arrays: Mapping[str, np.ndarray] | None) -> Calibration | None:
        """That of RunState.calibration; None where it holds none."""
        return cls.of(arrays) if arrays and "levels" in arrays else None

    def bound(self, level: float = SHOWN) -> np.ndarray | None:
        """[K] radii or scores of that level (NaN where a target has none), [1] of classes; None where it is unknown."""
        if level not in self.levels:
            return None
        bounds = next(
            array for array in (self.radius_RK, self.label_RK, self.class_R) if array is not None
        )
        return np.atleast_1d(bounds[self.levels.index(level)])

    def radius(
        self, guess: np.ndarray, spread: np.ndarray | None = None, level: float = SHOWN
    ) -> np.ndarray | None:
        """[n, K] half the width of each interval, by the members' `spread` [n, K] where that scales them; NaN: none."""
        bound = self.bound(level)
        if bound is None or self.radius_RK is None:
            return None
        if self.epsilon_K is None:
            return np.broadcast_to(bound, guess.shape)
        assert spread is not None, "intervals of an ensemble need its members' spread"
        return np.asarray(bound * (spread + self.epsilon_K))

    def sets(self, guess: np.ndarray, level: float = SHOWN) -> np.ndarray | None:
        """Which classes belong to each set: [n, C] of classes, [n, K, 2] of labels' 0 and 1; None for regression.

        Never empty: the most probable class always belongs. All belong where a label has no bound.
        """
        bound = self.bound(level)
        if bound is None or self.radius_RK is not None:
            return None
        bound = np.nan_to_num(bound, nan=1.0)
        probability = guess
        if self.class_R is None:
            probability = np.stack([1 - guess, guess], -1)
            bound = bound[:, None]
        fits = 1 - probability <= bound
        best = probability == probability.max(-1, keepdims=True)
        return np.asarray(fits | best)

    def coverage(
        self,
        guess: np.ndarray,
        target: np.ndarray,
        level: float = SHOWN,
        spread: np.ndarray | None = None,
    ) -> dict[str, float]:
        """{"coverage 0.9": share of known labels within, and "width 0.9" of one target's interval, or "set size 0.9"}.

        Arguments as `calibrate` takes them. Empty where nothing can be said.
        """
        radius = self.radius(guess, spread, level)
        if radius is not None:
            return _interval_coverage(radius, guess, target, level)
        sets = self.sets(guess, level)
        if sets is None:
            return {}
        known = target >= 0  # False for NaN
        if not known.any():
            return {}
        truth = np.where(known, target, 0).astype(np.int64)
        inside = np.take_along_axis(sets, truth[..., None], -1)[..., 0]
        size = sets.sum(-1)
        return {
            f"coverage {level:g}": float(inside[known].mean()),
            f"set size {level:g}": float(size[known].mean()),
        }


def _interval_coverage(
    radius_nK: np.ndarray, guess: np.ndarray, target: np.ndarray, level: float
) -> dict[str, float]:
    known = np.isfinite(target) & np.isfinite(radius_nK)
    if not known.any():
        return {}
    inside = np.abs(target - guess) <= radius_nK
    metrics = {f"coverage {level:g}": float(inside[known].mean())}
    if radius_nK.shape[1] == 1:
        same = bool((radius_nK == radius_nK[0]).all())  # a mean would add rounding
        metrics[f"width {level:g}"] = 2 * float(radius_nK[0, 0] if same else radius_nK.mean())
    return metrics


def calibrate(
    kind: str, guess: np.ndarray, target: np.ndarray, spread: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a `Calibration`: "levels" [R] and what bounds hold of them.

    kind    regression ("radius_RK"), multiclass ("class_R"), or binary or multilabel ("label_RK")
    guess   [n, K] predictions in the targets' units, or probabilities [n, K] or [n, C]
    target  [n, K], NaN = missing; of multiclass [n] class numbers, -1 = missing
    spread  [n, K] of an ensemble's members, by which a regression's intervals are scaled ("epsilon_K")

    A target with too few labels for a level has NaN there; a level that no target has is left out. Empty without any.
    """
    guess = guess.astype(np.float64)
    if kind == "regression":
        residual, bounds = np.abs(target - guess), {}
        if spread is not None:
            median_K = np.median(spread, 0).astype(np.float64)
            bounds["epsilon_K"] = np.where(median_K > 0, median_K, 1.0)
            residual = residual / (spread + bounds["epsilon_K"])
        levels, bounds["radius_RK"] = _bounds(residual, target, LEVELS)
    elif kind == "multiclass":
        samples = np.arange(len(target))
        score_n1 = 1 - guess[samples, np.maximum(target, 0)][:, None]
        labelled_n1 = np.where(target >= 0, 1.0, np.nan)[:, None]
        levels, bounds_RK = _bounds(score_n1, labelled_n1, SET_LEVELS)
        bounds = {"class_R": bounds_RK[:, 0]}
    else:
        score_nK = np.where(target > 0.5, 1 - guess, guess)
        levels, bounds_RK = _bounds(score_nK, target, SET_LEVELS)
        bounds = {"label_RK": bounds_RK}
    return {"levels": levels, **bounds} if len(levels) else {}


def _bounds(
    scores_nK: np.ndarray, target_nK: np.ndarray, levels: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """([R] those of the levels that a target has a bound of, [R, K] the bounds) from the scores of known targets."""
    known = np.isfinite(target_nK) & np.isfinite(scores_nK)
    ordered = np.sort(np.where(known, scores_nK, np.nan), axis=0)
    bounds_RK = np.stack([score_quantile(ordered, level) for level in levels])
    useful_R = np.isfinite(bounds_RK).any(1)
    return np.array(levels)[useful_R], bounds_RK[useful_R]
