"""How good predictions are, for several labels an image and for numbers; for one class see core/supervised/metrics.py.

N samples, K labels or targets. Everything is plain numpy on whole splits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.core.supervised.metrics import average_precision, mean, roc_auc


def multilabel_metrics(probability_NK: np.ndarray, target_NK: np.ndarray) -> dict[str, float]:
    """average_precision and roc_auc (means over labels that have both kinds), macro_f1 and exact_match at 0.5, loss."""
    truth = target_NK > 0.5
    guess = probability_NK >= 0.5
    both = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    found = {"average_precision": mean([average_precision(probability_NK[:, k], truth[:, k]) for k in both])}
    if both:
        found["roc_auc"] = mean([roc_auc(probability_NK[:, k], truth[:, k]) for k in both])
    hits, wrong = (guess & truth).sum(0), (guess ^ truth).sum(0)
    used = hits + wrong > 0
    found["macro_f1"] = float((2 * hits[used] / (2 * hits[used] + wrong[used])).mean()) if used.any() else 0.0
    found["exact_match"] = float((guess == truth).all(1).mean())
    p = np.clip(probability_NK, 1e-12, 1 - 1e-12)
    found["loss"] = float(-np.where(truth, np.log(p), np.log(1 - p)).mean())
    return found


def regression_metrics(
    prediction_NK: np.ndarray, target_NK: np.ndarray, names: Sequence[str], scale_K: Sequence[float]
) -> dict[str, float]:
    """mae, rmse and r2 (means over the targets, in their own units), the same for each of several targets, and loss.

    loss is the mean squared error in units of `scale_K`, the targets' standard deviations in training.
    """
    error = prediction_NK.astype(np.float64) - target_NK
    mae, mse = np.abs(error).mean(0), np.square(error).mean(0)
    spread = np.square(target_NK - target_NK.mean(0, dtype=np.float64)).mean(0)
    r2 = np.where(spread > 0, 1 - mse / np.where(spread > 0, spread, 1), 0.0)
    found = {"mae": float(mae.mean()), "rmse": float(np.sqrt(mse).mean()), "r2": float(r2.mean())}
    if len(names) > 1:
        for k, name in enumerate(names):
            found |= {f"mae {name}": float(mae[k]), f"rmse {name}": float(np.sqrt(mse[k])), f"r2 {name}": float(r2[k])}
    found["loss"] = float((mse / np.square(scale_K)).mean())
    return found
