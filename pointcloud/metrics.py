"""How good parts of points are: intersection over union, by both conventions for a part that nobody sees.

N points, P parts, S shapes (clouds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from isoform.core.supervised.metrics import confusion


def part_metrics(
    guess_N: np.ndarray, target_N: np.ndarray, parts: Sequence[str]
) -> dict[str, float]:
    """mIoU, accuracy and the IoU of each part over points of which -1 has no label and counts nothing.

    A part that is neither there nor guessed has no IoU and is left out of the mean, "miou"; `iou NAME` says which
    those are. NaN where no point has a label.
    """
    counts = part_counts(guess_N, target_N, len(parts))
    return metrics_of_counts(counts, parts)


def part_counts(guess_N: np.ndarray, target_N: np.ndarray, parts: int) -> np.ndarray:
    """int64 [P, P] points by true and by guessed part; sums over clouds, so that scenes add up."""
    known = target_N >= 0
    return confusion(guess_N[known], target_N[known], parts)


def metrics_of_counts(counts_PP: np.ndarray, parts: Sequence[str]) -> dict[str, float]:
    """The same from counts."""
    each = iou_of_counts(counts_PP)
    points = counts_PP.sum()
    found = {
        "miou": float(np.nanmean(each)) if np.isfinite(each).any() else math.nan,
        "accuracy": float(np.trace(counts_PP) / points) if points else math.nan,
    }
    named = zip(parts, each, strict=True)
    return found | {f"iou {name}": float(value) for name, value in named if math.isfinite(value)}


def iou_of_counts(counts_PP: np.ndarray) -> np.ndarray:
    """[P], NaN for a part that is neither there nor guessed."""
    both = np.diag(counts_PP).astype(np.float64)
    either = counts_PP.sum(0) + counts_PP.sum(1) - both
    return np.where(either > 0, both / np.where(either > 0, either, 1), np.nan)


def shape_metrics(
    guesses: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    shapes: Sequence[str],
    parts_of: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """ShapeNetPart's metrics over S clouds, each of one of `shapes` with parts of its own.

    instance mIoU     mean over clouds of the mean IoU over the parts of its shape
    class mIoU        mean over shapes of the mean over their clouds

    "official" counts a part that is neither there nor guessed as 1 (Yi et al. 2016, and all who compare with them);
    "strict" leaves it out, and a cloud in which no part is left out of it.
    """
    official, strict = [], []
    for guess, target, shape in zip(guesses, targets, shapes, strict=True):
        own = list(parts_of[shape])
        each = np.array([_iou(guess == part, target == part) for part in own])
        official.append(float(np.where(np.isnan(each), 1, each).mean()))
        strict.append(float(np.nanmean(each)) if np.isfinite(each).any() else math.nan)
    found = {}
    for name, values in (("official", official), ("strict", strict)):
        by_shape = [
            np.nanmean([value for value, s in zip(values, shapes, strict=True) if s == shape])
            for shape in dict.fromkeys(shapes)
        ]
        found[f"instance_miou {name}"] = float(np.nanmean(values)) if values else math.nan
        found[f"class_miou {name}"] = float(np.nanmean(by_shape)) if values else math.nan
    return found


def _iou(guessed: np.ndarray, true: np.ndarray) -> float:
    either = int((guessed | true).sum())
    return float((guessed & true).sum() / either) if either else math.nan
