"""How good scores of classes and of yes-or-no labels are: what several domains share.

N samples, K classes. Everything is plain numpy on whole splits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CALIBRATION_BINS = 15


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """[N, K] probabilities that sum to 1 over K."""
    shifted = logits_NK.astype(np.float64) - logits_NK.max(1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probability of each label by itself."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))


def multiclass_metrics(probability_NK: np.ndarray, target_N: np.ndarray) -> dict[str, float]:
    """top1, top5 (more than 5 classes), balanced_accuracy, macro_f1, average_precision, calibration_error, loss.

    average_precision is the mean over the classes that occur, one against the rest; with two classes it is the second
    class's, and roc_auc is given too. loss is the mean negative log-likelihood.
    """
    n, classes = probability_NK.shape
    recall, _, f1 = per_class(confusion(probability_NK.argmax(1), target_N, classes))[:3]
    found = {"top1": top_k(probability_NK, target_N, 1)}
    if classes > 5:
        found["top5"] = top_k(probability_NK, target_N, 5)
    found["balanced_accuracy"] = float(np.nanmean(recall))
    found["macro_f1"] = float(np.nanmean(f1))
    if classes == 2:
        found |= binary_metrics(probability_NK[:, 1], target_N == 1)
    else:
        found["average_precision"] = mean(
            [average_precision(probability_NK[:, k], target_N == k) for k in np.unique(target_N)]
        )
    found["calibration_error"] = calibration_error(probability_NK, target_N)
    found["loss"] = float(-np.log(np.maximum(probability_NK[np.arange(n), target_N], 1e-12)).mean())
    return found


def binary_metrics(score_N: np.ndarray, positive_N: np.ndarray) -> dict[str, float]:
    """roc_auc and average_precision; nothing where one of the two kinds is missing."""
    if not 0 < positive_N.sum() < len(positive_N):
        return {}
    return {
        "roc_auc": roc_auc(score_N, positive_N),
        "average_precision": average_precision(score_N, positive_N),
    }


def top_k(scores_NK: np.ndarray, target_N: np.ndarray, k: int) -> float:
    """Share of samples whose target is among the k highest scores; of equal scores the lower index counts first."""
    mine = scores_NK[np.arange(len(target_N)), target_N][:, None]
    earlier = np.arange(scores_NK.shape[1]) < target_N[:, None]
    ahead = (scores_NK > mine).sum(1) + ((scores_NK == mine) & earlier).sum(1)
    return float((ahead < k).mean())


def confusion(guess_N: np.ndarray, target_N: np.ndarray, classes: int) -> np.ndarray:
    """[K, K] counts: row the true class, column the guessed one."""
    return np.bincount(target_N * classes + guess_N, minlength=classes**2).reshape(classes, classes)


def per_class(confusion_KK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(recall, precision, F1, number of samples) of each class.

    Recall is NaN for a class without samples, precision for one never guessed, F1 for one that is neither.
    """
    hits, true, guessed = np.diag(confusion_KK), confusion_KK.sum(1), confusion_KK.sum(0)
    with np.errstate(invalid="ignore"):
        return hits / true, hits / guessed, 2 * hits / (true + guessed), true


def roc_auc(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties half: the Mann-Whitney statistic."""
    _, place, counts = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_N = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(positive_N.sum())
    wins = rank_N[positive_N].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(positive_N) - positives)))


def average_precision(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Sum over thresholds of precision times the gain in recall; samples of equal score enter together."""
    order = np.argsort(-score_N, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)  # where a run of equal scores ends
    hits = np.cumsum(positive_N[order])[last]
    precision = hits / (last + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / hits[-1])


def reliability(sure_N: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share that is right, number) of probabilities in equal bins; NaN where a bin is empty."""
    place = np.minimum((sure_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(place, sure_N, CALIBRATION_BINS) / counts
        return sure, np.bincount(place, right_N, CALIBRATION_BINS) / counts, counts


def calibration(probability_NK: np.ndarray, target_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean confidence, accuracy, number of samples) in equal bins of the guess's probability; NaN if empty."""
    return reliability(probability_NK.max(1), probability_NK.argmax(1) == target_N)


def calibration_error(probability_NK: np.ndarray, target_N: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): mean distance of confidence and accuracy over the samples' bins."""
    confidence, accuracy, counts = calibration(probability_NK, target_N)
    used = counts > 0
    return float((np.abs(confidence - accuracy)[used] * counts[used]).sum() / counts.sum())


def mean(values: Sequence[float]) -> float:
    """Of values that there are; 0 where there is none."""
    return float(np.mean(values)) if len(values) else 0.0
