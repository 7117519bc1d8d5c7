"""How good parts of points are: intersection over union, by both conventions for a part that nobody sees.

N points, P parts, S clouds.
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


CONVENTIONS = ("official", "strict")


def shape_metrics(
    guesses: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    shapes: Sequence[str],
    parts_of: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """ShapeNetPart's metrics over S clouds, each of one of `shapes` with parts of its own.

    instance mIoU     mean over clouds of the mean IoU over the parts of its shape
    class mIoU        mean over shapes of the mean over their clouds
    miou SHAPE        that mean, by the official convention

    "official" counts a part that is neither there nor guessed as 1 (Yi et al. 2016, and all who compare with them);
    "strict" leaves it out. A point whose target is below 0 has no part and counts nothing, and a cloud of such alone is
    left out; NaN where no cloud remains.
    """
    each_S2 = cloud_mious(guesses, targets, shapes, parts_of)
    known = np.isfinite(each_S2[:, 0])
    names = np.array(shapes, dtype=object)
    there = [shape for shape in parts_of if (names[known] == shape).any()]
    by_shape = {shape: each_S2[known & (names == shape)].mean(0) for shape in there}
    found = {}
    for k, convention in enumerate(CONVENTIONS):
        means = [value[k] for value in by_shape.values()]
        found[f"instance_miou {convention}"] = _mean(each_S2[known, k])
        found[f"class_miou {convention}"] = _mean(np.array(means))
    return found | {f"miou {shape}": float(value[0]) for shape, value in by_shape.items()}


def cloud_mious(
    guesses: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    shapes: Sequence[str],
    parts_of: Mapping[str, Sequence[int]],
) -> np.ndarray:
    """float64 [S, 2]: the mean IoU of each cloud by both of CONVENTIONS, NaN where no point has a part."""
    found = np.full((len(shapes), 2), np.nan)
    for row, (guess, target, shape) in enumerate(zip(guesses, targets, shapes, strict=True)):
        known = target >= 0
        if known.any():
            each = np.array([_iou(guess[known] == k, target[known] == k) for k in parts_of[shape]])
            found[row] = np.where(np.isnan(each), 1, each).mean(), np.nanmean(each)
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _iou(guessed: np.ndarray, true: np.ndarray) -> float:
    either = int((guessed | true).sum())
    return float((guessed & true).sum() / either) if either else math.nan
