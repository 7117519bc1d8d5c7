"""How good predictions are, by the targets that are there: a missing one counts for nothing.

    multiclass_metrics     one class a sample, -1 = missing
    multilabel_metrics     several labels a sample, judged as a set too; NaN = missing
    binary_target_metrics  yes-or-no targets, each a question of its own; NaN = missing
    regression_metrics     numbers; NaN = missing
    describe_gaps          which classes or targets a split has no sample of, or of one kind alone

N samples, K classes, labels or targets. Everything is plain numpy on whole splits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from isoform.core.errors import join_names

CALIBRATION_BINS = 15
LEAST = 1e-12  # a probability is never taken for less: what is thought impossible costs 27.6, not infinity
NAMED = 8  # classes or targets in a line for a person


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """[N, K] probabilities that sum to 1 over K."""
    highest = logits_NK.max(1, keepdims=True)
    exp = np.exp(logits_NK.astype(np.float64) - highest)
    return exp / exp.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probability of each label by itself."""
    clipped = np.clip(logits.astype(np.float64), -700, 700)
    return 1 / (1 + np.exp(-clipped))


def multiclass_metrics(probability_NK: np.ndarray, target_N: np.ndarray) -> dict[str, float]:
    """top1, top5 (more than 5 classes), balanced_accuracy, macro_f1, roc_auc, average_precision, ..., loss.

    average_precision and roc_auc (where two classes occur) are means over the classes that occur, one against the rest;
    with two classes they are the second class's. balanced_accuracy is the mean over the classes that occur, macro_f1
    over those that occur or are guessed. loss is the mean negative log-likelihood. Samples without a class (below 0)
    are left out; where no sample has one, what may be monitored is NaN.
    """
    known_N = target_N >= 0
    if not known_N.any():
        return {"top1": math.nan, "loss": math.nan}
    if not known_N.all():
        probability_NK, target_N = probability_NK[known_N], target_N[known_N]
    n, classes = probability_NK.shape
    counts_KK = confusion(probability_NK.argmax(1), target_N, classes)
    recall, _, f1, _ = per_class(counts_KK)
    metrics = {"top1": top_k(probability_NK, target_N, 1)}
    if classes > 5:
        metrics["top5"] = top_k(probability_NK, target_N, 5)
    metrics["balanced_accuracy"] = float(np.nanmean(recall))
    metrics["macro_f1"] = float(np.nanmean(f1))
    if classes == 2:
        metrics |= binary_metrics(probability_NK[:, 1], target_N == 1)
    else:
        there = np.unique(target_N)
        if len(there) > 1:
            metrics["roc_auc"] = mean([roc_auc(probability_NK[:, k], target_N == k) for k in there])
        each = [average_precision(probability_NK[:, k], target_N == k) for k in there]
        metrics["average_precision"] = mean(each)
    metrics["calibration_error"] = calibration_error(probability_NK, target_N)
    true_class_N = probability_NK[np.arange(n), target_N]
    metrics["loss"] = float(-np.log(np.maximum(true_class_N, LEAST)).mean())
    return metrics


def multilabel_metrics(probability_NK: np.ndarray, target_NK: np.ndarray) -> dict[str, float]:
    """average_precision and roc_auc (means over labels that have both kinds), macro_f1 and exact_match at 0.5, loss.

    macro_f1 is the mean over the labels that occur or are guessed, exact_match the share of the samples with a known
    label whose known labels are all right. Without any label, what may be monitored is NaN; average_precision is too
    where no label has both kinds.
    """
    known = ~np.isnan(target_NK)
    if not known.any():
        return {"average_precision": math.nan, "loss": math.nan}
    truth = target_NK > 0.5  # False for NaN
    guess = probability_NK >= 0.5
    each = []
    for k in range(truth.shape[1]):
        there = known[:, k]
        each.append(binary_metrics(probability_NK[there, k], truth[there, k]))
    both = [own for own in each if own]
    metrics = {"average_precision": mean([own["average_precision"] for own in both])}
    if both:
        metrics["roc_auc"] = mean([own["roc_auc"] for own in both])
    hits_K = (guess & truth & known).sum(0)
    wrong_K = ((guess ^ truth) & known).sum(0)
    used = hits_K + wrong_K > 0
    twice_K = 2 * hits_K[used]
    f1_K = twice_K / (twice_K + wrong_K[used])
    metrics["macro_f1"] = float(f1_K.mean()) if used.any() else 0.0
    right_N = ((guess == truth) | ~known).all(1)
    metrics["exact_match"] = float(right_N[known.any(1)].mean())
    p = np.clip(probability_NK, LEAST, 1 - LEAST)
    log_p = np.where(truth, np.log(p), np.log(1 - p))
    metrics["loss"] = float(-log_p[known].mean())
    return metrics


def binary_target_metrics(
    probability_NK: np.ndarray, target_NK: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """roc_auc and average_precision, means over the targets that have both kinds and each target's own; loss.

    One target's own are not repeated. loss is the mean negative log-likelihood of all labels that are there, NaN where
    there is none.
    """
    probability_NK = probability_NK.astype(np.float64)
    target_NK = target_NK.astype(np.float64)
    known = np.isfinite(target_NK)
    if not known.any():
        return {"loss": math.nan}
    each = []
    for k in range(target_NK.shape[1]):
        there = known[:, k]
        each.append(binary_metrics(probability_NK[there, k], target_NK[there, k] > 0.5))
    true_class = np.where(target_NK > 0.5, probability_NK, 1 - probability_NK)
    log_p = np.log(np.maximum(true_class, LEAST))
    loss = float(-log_p[known].mean())
    return {**mean_over_targets(each, names), "loss": loss}


def regression_metrics(
    prediction_NK: np.ndarray,
    target_NK: np.ndarray,
    names: Sequence[str],
    scale_K: Sequence[float],
    *,
    loss: Literal["mse", "l1"] = "mse",
    ranks: bool = False,
) -> dict[str, float]:
    """mae, rmse, r2 and with `ranks` spearman: means over the targets, in their own units, and each target's own; loss.

    One target's own are not repeated. A target without labels is in no mean; r2 and spearman take labels that differ.
    loss is the mean squared ("mse") or absolute ("l1") error of all labels that are there, in units of `scale_K`, the
    targets' standard deviations in training. Without any label, what may be monitored is NaN.
    """
    prediction_NK = prediction_NK.astype(np.float64)
    target_NK = target_NK.astype(np.float64)
    known = np.isfinite(target_NK)
    if not known.any():
        return {"mae": math.nan, "rmse": math.nan, "loss": math.nan}
    each = []
    for k in range(target_NK.shape[1]):
        there = known[:, k]
        each.append(_number_metrics(prediction_NK[there, k], target_NK[there, k], ranks))
    metrics = mean_over_targets(each, names)
    error_NK = np.where(known, prediction_NK - target_NK, 0.0)
    spread_K = np.asarray(scale_K, np.float64)
    if loss == "l1":
        scaled_NK = np.abs(error_NK) / spread_K
        metrics["loss"] = float(scaled_NK[known].mean())
    else:
        scaled_K = np.square(error_NK).mean(0) / np.square(spread_K)
        ratio = known.size / known.sum()  # exactly 1 where nothing is missing
        metrics["loss"] = float(scaled_K.mean() * ratio)
    return metrics


def _number_metrics(
    prediction_N: np.ndarray, target_N: np.ndarray, ranks: bool
) -> dict[str, float]:
    if not len(target_N):
        return {}
    error = prediction_N - target_N
    mae = float(np.abs(error).mean())
    mse = float(np.square(error).mean())
    metrics = {"mae": mae, "rmse": math.sqrt(mse)}
    offset = target_N - target_N.mean()
    spread = float(np.square(offset).mean())
    if (target_N != target_N[0]).any() and spread > 0:
        metrics["r2"] = 1 - mse / spread
        if ranks:
            metrics["spearman"] = spearman(prediction_N, target_N)
    return metrics


def mean_over_targets(
    each: Sequence[Mapping[str, float]], names: Sequence[str]
) -> dict[str, float]:
    """The mean of every metric over the targets that have it, and where there are several, "METRIC NAME" of each."""
    metrics: dict[str, float] = {}
    for metric in dict.fromkeys(metric for own in each for metric in own):
        metrics[metric] = mean([own[metric] for own in each if metric in own])
    if len(each) > 1:
        for name, own in zip(names, each, strict=True):
            metrics |= {f"{metric} {name}": value for metric, value in own.items()}
    return metrics


def describe_unscored(target: np.ndarray, names: Sequence[str], split: str) -> str | None:
    """Which classes or targets a split has no sample of, as a sentence; None where every one has some.

    target    [N] classes, -1 = missing, or [N, K] labels or numbers, NaN = missing
    """
    if target.ndim == 1:
        what, counts = "classes", np.bincount(target[target >= 0], minlength=len(names))
    else:
        what, counts = "targets", np.isfinite(target).sum(0)
    return describe_absent(counts, names, split, what)


def describe_absent(
    counts: Sequence[int] | np.ndarray, names: Sequence[str], split: str, what: str
) -> str | None:
    """Which classes, targets or variates a split has no sample of, from how many it has; None where it has of each."""
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    if not absent:
        return None
    return (
        f"warning: {split} holds {len(names) - len(absent)} of {len(names)} {what}, and its metrics run over these; "
        f"no sample of {join_names(absent, NAMED)}"
    )


def describe_gaps(
    target: np.ndarray, names: Sequence[str], split: str, *, yes_no: bool
) -> list[str]:
    """`describe_unscored`, and with `yes_no` (labels [N, K], 0 and 1) `describe_one_sided`, as far as they say."""
    found = [describe_unscored(target, names, split)]
    if yes_no:
        found.append(describe_one_sided(target, names, split))
    return [line for line in found if line]


def describe_one_sided(target_NK: np.ndarray, names: Sequence[str], split: str) -> str | None:
    """Which labels are all no or all yes in a split, as a sentence: metrics that rank can't be had. None for none.

    target_NK   1 yes, 0 no, NaN = missing; labels without any sample are `describe_unscored`'s
    """
    known = np.isfinite(target_NK)
    positives = ((target_NK > 0.5) & known).sum(0)
    parts, count = [], 0
    for kind, absent in (("positive", positives == 0), ("negative", positives == known.sum(0))):
        without = [names[k] for k in np.flatnonzero(absent & known.any(0)).tolist()]
        count += len(without)
        if without and len(names) > 1:
            parts.append(f"no {kind} of {join_names(without, NAMED)}")
        elif without:
            parts.append(f"no {kind}")
    if not parts:
        return None
    place = {"val": "validation"}.get(split, split)
    there = "roc_auc and average_precision are means over the others"
    if count == len(names):
        there = "neither roc_auc nor average_precision can be given"
    return f"{place} has {' and '.join(parts)}: {there}"


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Correlation of the ranks; equal values share their mean rank. 0 where all of one are equal: it ranks nothing."""
    if not (np.isfinite(a_N).all() and np.isfinite(b_N).all()):
        return math.nan
    x, y = mean_ranks(a_N), mean_ranks(b_N)
    x -= x.mean()
    y -= y.mean()
    norm = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    if norm == 0:
        return 0.0
    return float((x * y).sum()) / norm


def mean_ranks(values_N: np.ndarray) -> np.ndarray:
    """Ranks from 1 in ascending order; equal values share the mean of theirs."""
    _, place, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[place]


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
    above = scores_NK > mine
    tied = (scores_NK == mine) & earlier
    ahead = above.sum(1) + tied.sum(1)
    return float((ahead < k).mean())


def confusion(guess_N: np.ndarray, target_N: np.ndarray, classes: int) -> np.ndarray:
    """[K, K] counts: row the true class, column the guessed one."""
    return np.bincount(target_N * classes + guess_N, minlength=classes**2).reshape(classes, classes)


def per_class(confusion_KK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(recall, precision, F1, number of samples) of each class.

    Recall is NaN for a class without samples, precision for one never guessed, F1 for one that is neither.
    """
    hits = np.diag(confusion_KK)
    true, guessed = confusion_KK.sum(1), confusion_KK.sum(0)
    with np.errstate(invalid="ignore"):
        return hits / true, hits / guessed, 2 * hits / (true + guessed), true


def roc_auc(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties half: the Mann-Whitney statistic."""
    rank_N = mean_ranks(score_N)
    positives = int(positive_N.sum())
    wins = rank_N[positive_N].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(positive_N) - positives)))


def average_precision(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Sum over thresholds of precision times the gain in recall; samples of equal score enter together."""
    order = np.argsort(-score_N, kind="stable")
    changes = np.flatnonzero(np.diff(score_N[order]))
    last = np.append(changes, len(order) - 1)  # where a run of equal scores ends
    hits = np.cumsum(positive_N[order])[last]
    precision = hits / (last + 1)
    gained = np.diff(hits, prepend=0)
    return float((precision * gained).sum() / hits[-1])


def reliability(
    sure_N: np.ndarray, right_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share that is right, number) of probabilities in equal bins; NaN where a bin is empty."""
    place = np.minimum((sure_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(place, sure_N, CALIBRATION_BINS) / counts
        return sure, np.bincount(place, right_N, CALIBRATION_BINS) / counts, counts


def calibration(
    probability_NK: np.ndarray, target_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean confidence, accuracy, number of samples) in equal bins of the guess's probability; NaN if empty."""
    return reliability(probability_NK.max(1), probability_NK.argmax(1) == target_N)


def calibration_error(probability_NK: np.ndarray, target_N: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): mean distance of confidence and accuracy over the samples' bins."""
    return mean_distance(*calibration(probability_NK, target_N))


def mean_distance(confidence: np.ndarray, accuracy: np.ndarray, counts: np.ndarray) -> float:
    """The expected calibration error of bins, as `reliability` gives them."""
    used = counts > 0
    distance = np.abs(confidence - accuracy)[used]
    return float((distance * counts[used]).sum() / counts.sum())


def mean(values: Sequence[float]) -> float:
    """Of values that there are; NaN where there is none."""
    return float(np.mean(values)) if len(values) else math.nan
