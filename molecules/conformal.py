"""Conformal calibration: intervals and sets of classes that hold the truth as often as they say, whatever the model.

Split conformal prediction (Vovk et al. 2005) on the best checkpoint's validation outputs. Of n validation molecules
with a label, the bound of a level q is the ceil((n + 1) q)-th smallest score: of a regression the absolute residual, of
classes 1 minus the probability of the true one. If validation and what comes are exchangeable, the truth lies within
with probability at least q; other chemistry than the training's is not exchangeable with it.

n molecules, K targets, C classes, R levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)  # of regression
SET_LEVELS: tuple[float, ...] = (0.9,)  # of classes
SHOWN = 0.9  # the level of predictions and metrics


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` learned, of regression, binary labels or classes; see `arrays` of it there."""

    levels: tuple[float, ...]
    radius_RK: np.ndarray | None = None  # of regression, in the targets' units
    label_RK: np.ndarray | None = None  # of binary labels
    class_R: np.ndarray | None = None  # of classes

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        """From what `calibrate` gave: MoleculesState.calibration."""
        found = {name: arrays[name] for name in ("radius_RK", "label_RK", "class_R") if name in arrays}
        return cls(tuple(float(level) for level in arrays["levels"]), **found)

    def bound(self, level: float = SHOWN) -> np.ndarray | None:
        """[K] radii or scores of that level (NaN where a target has none), [1] of classes; None where it is unknown."""
        if level not in self.levels:
            return None
        found = next(a for a in (self.radius_RK, self.label_RK, self.class_R) if a is not None)
        return np.atleast_1d(found[self.levels.index(level)])

    def sets(self, guess: np.ndarray, level: float = SHOWN) -> np.ndarray | None:
        """Which classes belong to each set: [n, C] of classes, [n, K, 2] of labels' 0 and 1; None for regression.

        Never empty: the most probable class always belongs. All belong where a label has no bound.
        """
        bound = self.bound(level)
        if bound is None or self.radius_RK is not None:
            return None
        p = guess if self.class_R is not None else np.stack([1 - guess, guess], -1)
        bound = np.nan_to_num(bound, nan=1.0)
        fits = 1 - p <= (bound if self.class_R is not None else bound[:, None])
        return np.asarray(fits | (p == p.max(-1, keepdims=True)))

    def coverage(self, guess: np.ndarray, target: np.ndarray, level: float = SHOWN) -> dict[str, float]:
        """{"coverage 0.9": share of known labels within, and "width 0.9" of one target's interval, or "set size 0.9"}.

        Arguments as Task.guess and MoleculeData.targets give them. Empty where nothing can be said.
        """
        bound = self.bound(level)
        if bound is None:
            return {}
        sets = self.sets(guess, level)
        if sets is None:
            known = np.isfinite(target) & np.isfinite(bound)
            if not known.any():
                return {}
            inside = (np.abs(target - guess) <= bound)[known].mean()
            width = {f"width {level:g}": 2 * float(bound[0])} if len(bound) == 1 else {}
            return {f"coverage {level:g}": float(inside), **width}
        known = target >= 0  # False for NaN
        if not known.any():
            return {}
        truth = np.where(known, target, 0).astype(np.int64)
        inside = np.take_along_axis(sets, truth[..., None], -1)[..., 0][known].mean()
        return {f"coverage {level:g}": float(inside), f"set size {level:g}": float(sets.sum(-1)[known].mean())}


def calibrate(kind: str, guess: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a `Calibration`: "levels" [R] and what bounds hold of them.

    kind    regression ("radius_RK"), binary ("label_RK") or multiclass ("class_R")
    guess   [n, K] predictions in the targets' units, or probabilities [n, K] or [n, C]
    target  [n, K], NaN = missing; of multiclass [n] class numbers, -1 = missing

    A target with too few labels for a level has NaN there; a level that no target has is left out. Empty without any.
    """
    if kind == "multiclass":
        known = target >= 0
        scores = [1 - guess[known, target[known]].astype(np.float64)]
        name, levels = "class_R", SET_LEVELS
    else:
        guess = guess.astype(np.float64)
        name, levels = ("radius_RK", LEVELS) if kind == "regression" else ("label_RK", SET_LEVELS)
        miss = np.abs(target - guess) if kind == "regression" else np.where(target > 0.5, 1 - guess, guess)
        miss[~np.isfinite(target)] = np.nan
        scores = [column[np.isfinite(column)] for column in miss.T]
    bounds = np.array([[_ranked(np.sort(score), level) for score in scores] for level in levels])
    there = np.isfinite(bounds).any(1)
    if not there.any():
        return {}
    bounds = bounds[there]
    return {"levels": np.array(levels)[there], name: bounds[:, 0] if kind == "multiclass" else bounds}


def _ranked(ordered: np.ndarray | Sequence[float], level: float) -> float:
    rank = math.ceil((len(ordered) + 1) * level - 1e-9)  # 1e-9: 0.9 * 10 must not become 10 by rounding
    return float(ordered[rank - 1]) if rank <= len(ordered) else math.nan
