"""How good predictions of molecules are, by the labels that are there: a missing one counts for nothing.

N molecules, K targets, C classes. Everything is plain numpy on whole splits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from isoform.core.supervised.metrics import binary_metrics, mean, multiclass_metrics

LEAST = 1e-12  # a probability is never taken for less: a label thought impossible costs 27.6, not infinity


def score(
    kind: str, guess: np.ndarray, target: np.ndarray, names: Sequence[str], scale: Sequence[float]
) -> dict[str, float]:
    """The metrics of one split.

    kind    "regression": guess [N, K] in the targets' units, target [N, K] with NaN = missing, and loss is the mean
            absolute error over all labels in units of `scale`, the targets' standard deviations in training
            "binary": guess [N, K] probabilities, target [N, K] of 0, 1 and NaN
            "multiclass": guess [N, C] probabilities that sum to 1, target [N] class numbers, negative = missing
    names   of the targets; several of them get metrics each, as "mae NAME"

    mae, rmse, r2, spearman, roc_auc and average_precision are means over the targets; one that lacks what it takes (a
    label; for all but the first two, labels that differ) is left out, and so is the metric where no target has it.
    Without any label, what may be monitored is NaN.
    """
    if kind == "multiclass":
        there = target >= 0
        if not there.any():
            return {"top1": math.nan, "loss": math.nan}
        return multiclass_metrics(guess[there], target[there])
    guess, target = guess.astype(np.float64), target.astype(np.float64)
    one = _numbers if kind == "regression" else _labels
    each = []
    for k in range(target.shape[1]):
        there = np.isfinite(target[:, k])
        each.append(one(guess[there, k], target[there, k]) if there.any() else {})
    found = {}
    for metric in dict.fromkeys(metric for own in each for metric in own):
        found[metric] = mean([own[metric] for own in each if metric in own])
    if len(names) > 1:
        found |= {
            f"{metric} {name}": value for name, own in zip(names, each, strict=True) for metric, value in own.items()
        }
    there = np.isfinite(target)
    if not there.any():
        return {"mae": math.nan, "rmse": math.nan, "loss": math.nan} if kind == "regression" else {"loss": math.nan}
    if kind == "regression":
        found["loss"] = float((np.abs(guess - target) / np.asarray(scale, np.float64))[there].mean())
    else:
        found["loss"] = float(-np.log(np.maximum(np.where(target > 0.5, guess, 1 - guess), LEAST))[there].mean())
    return found


def _numbers(guess_N: np.ndarray, target_N: np.ndarray) -> dict[str, float]:
    error = guess_N - target_N
    mse = float(np.square(error).mean())
    found = {"mae": float(np.abs(error).mean()), "rmse": math.sqrt(mse)}
    spread = float(np.square(target_N - target_N.mean()).mean())
    if (target_N != target_N[0]).any() and spread > 0:
        found |= {"r2": 1 - mse / spread, "spearman": spearman(guess_N, target_N)}
    return found


def _labels(guess_N: np.ndarray, target_N: np.ndarray) -> dict[str, float]:
    return binary_metrics(guess_N, target_N > 0.5)


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Correlation of the ranks; equal values share their mean rank. 0 where all of one are equal: it ranks nothing."""
    if not (np.isfinite(a_N).all() and np.isfinite(b_N).all()):
        return math.nan
    x, y = _ranks(a_N), _ranks(b_N)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / norm if norm > 0 else 0.0


def _ranks(values_N: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
