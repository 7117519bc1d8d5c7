"""How far metrics may be off by the chance of which samples there are: percentile bootstrap (Efron, Tibshirani 1993).

1,000 times as many samples as there are, drawn from them with replacement, are judged again; the interval holds the
middle 95 % of what comes out. A resample is how often each sample is in it, so that a metric is a weighted mean, or one
pass over scores that were sorted once: all resamples are worked on together, and the draws are the same on every run.
Beyond 20,000 samples there are fewer resamples, 200 at least.

A metric that sorts (roc_auc, average_precision, spearman) has an interval where its columns hold at most 40,000 scores
together; metrics of more, and of more than 30 classes each by itself, have none.

N samples, R resamples, K classes, labels or targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from isoform.core.supervised.decision import Decision, as_labels
from isoform.core.supervised.metrics import CALIBRATION_BINS, LEAST

LEVEL, RESAMPLES, SEED = 0.95, 1000, 0
FEWEST, FULL = 200, 20_000  # resamples at least; samples up to which there are all
MOST_SORTED = 40_000  # scores that are sorted
MOST_CLASSES = 30  # that are counted one by one
ROUNDING = 1e-12  # of equal numbers, by which their sums differ
_CHUNK = 1 << 19  # weights at a time: as many as a processor's cache holds

Statistic = Callable[[np.ndarray], np.ndarray]  # weights [R, N] -> [R], NaN where it can't be had
Interval = tuple[float, float]


def intervals(statistics: Mapping[str, Statistic], samples: int) -> dict[str, Interval]:
    """(low, high) of each statistic; none where fewer than two samples, or half of the resamples, have it.

    None either where all resamples have the same: of 18 samples that are all right none can be drawn that is wrong, but
    1 to 1 would say that there is none.
    """
    if samples < 2 or not statistics:
        return {}
    values: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weight_RN in draw(samples):
        for name, statistic in statistics.items():
            values[name].append(statistic(weight_RN))
    found = {}
    for name, parts in values.items():
        value_R = np.concatenate(parts)
        known = value_R[np.isfinite(value_R)]
        if 2 * len(known) >= len(value_R) and np.ptp(known) > ROUNDING * np.abs(known).max():
            low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = float(low), float(high)
    return found


def draw(samples: int) -> Iterator[np.ndarray]:
    """How often each sample is in each resample, float64 [R, N] a part of them at a time."""
    rng = np.random.default_rng(SEED)
    resamples = max(FEWEST, min(RESAMPLES, RESAMPLES * FULL // samples))
    size = max(1, _CHUNK // samples)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(0, samples, (count, samples), dtype=np.int32)
        drawn += samples * np.arange(count, dtype=np.int32)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * samples)
        yield counts.reshape(count, samples).astype(np.float64)


# Statistics -----------------------------------------------------------------------------------------------------------


def share(value_N: np.ndarray, among_N: np.ndarray | None = None) -> Statistic:
    """The mean of values, over those `among`."""
    among_N = np.ones(len(value_N), bool) if among_N is None else among_N
    return ratio(np.where(among_N, value_N, 0.0), among_N)


def ratio(top_N: np.ndarray, bottom_N: np.ndarray) -> Statistic:
    """One sum over another."""
    both_N2 = np.stack([top_N, bottom_N], 1).astype(np.float64)

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        top_R, bottom_R = (weight_RN @ both_N2).T
        return _divide(top_R, bottom_R)

    return statistic


def root(statistic: Statistic) -> Statistic:
    """Its square root."""
    return lambda weight_RN: np.sqrt(statistic(weight_RN))


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of those that there are."""

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where none is there
            return np.nanmean([one(weight_RN) for one in statistics], axis=0)

    return statistic


def f_measure(said_N: np.ndarray, true_N: np.ndarray, *, said_too: bool = False) -> Statistic:
    """2 hits / (said + true); NaN where nothing is true, with `said_too` only where nothing is said either."""
    table_N3 = np.stack([said_N & true_N, said_N, true_N], 1).astype(np.float64)

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        hits_R, said_R, true_R = (weight_RN @ table_N3).T
        least_R = said_R + true_R if said_too else true_R
        return np.where(least_R > 0, _divide(2 * hits_R, said_R + true_R), np.nan)

    return statistic


def explained(error_N: np.ndarray, target_N: np.ndarray) -> Statistic:
    """r2."""
    offset_N = target_N - target_N.mean()  # for the sake of rounding
    table_N4 = np.stack([np.ones_like(error_N), error_N**2, offset_N, offset_N**2], 1)

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        count_R, squares_R, sum_R, spread_R = (weight_RN @ table_N4).T
        return 1 - _divide(squares_R, spread_R - _divide(sum_R**2, count_R))

    return statistic


class Sorted:
    """Scores sorted once, and what the weights of each run of equal scores add up to."""

    def __init__(self, score_N: np.ndarray, positive_N: np.ndarray) -> None:
        self.order = np.argsort(-score_N, kind="stable")
        self.last = np.flatnonzero(np.append(np.diff(score_N[self.order]) != 0, True))
        self.positive_N = positive_N[self.order].astype(np.float64)
        self.alone = len(self.last) == len(score_N)  # no two scores are equal
        self.sums = _once(self._sums)

    def _sums(self, weight_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(positives, all) with at least each score that occurs, [R, distinct scores]."""
        ordered_RN = np.take(weight_RN, self.order, axis=1)
        all_RN = ordered_RN.cumsum(1)
        ordered_RN *= self.positive_N
        hits_RN = ordered_RN.cumsum(1)
        if self.alone:
            return hits_RN, all_RN
        return hits_RN[:, self.last], all_RN[:, self.last]

    def roc_auc(self, weight_RN: np.ndarray) -> np.ndarray:
        """The area below the ROC curve, by trapezes."""
        hits, every = self.sums(weight_RN)
        wrong = every - hits
        area_R = (hits[:, 1:] + hits[:, :-1]) * np.diff(wrong, axis=1)
        total_R = area_R.sum(1) / 2 + hits[:, 0] * wrong[:, 0] / 2
        return _divide(total_R, hits[:, -1] * wrong[:, -1])

    def average_precision(self, weight_RN: np.ndarray) -> np.ndarray:
        """Sum over thresholds of precision times the gain in recall."""
        hits, every = self.sums(weight_RN)
        precision = hits / np.maximum(every, 1)
        gained = np.diff(hits, axis=1)
        total_R = (precision[:, 1:] * gained).sum(1) + precision[:, 0] * hits[:, 0]
        missing = hits[:, -1] == every[:, -1]  # no negatives
        return np.where(missing, np.nan, _divide(total_R, hits[:, -1]))


def calibration_error(probability_NK: np.ndarray, target_N: np.ndarray) -> Statistic:
    """The expected calibration error in equal bins."""
    sure_N = probability_NK.max(1)
    right_N = probability_NK.argmax(1) == target_N
    place_N = np.minimum((sure_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap_NB = np.eye(CALIBRATION_BINS)[place_N] * (sure_N - right_N)[:, None]

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        return _divide(np.abs(weight_RN @ gap_NB).sum(1), weight_RN.sum(1))

    return statistic


def rank_correlation(a_N: np.ndarray, b_N: np.ndarray) -> Statistic:
    """Spearman's."""
    places = [np.unique(one, return_inverse=True) for one in (a_N, b_N)]

    def statistic(weight_RN: np.ndarray) -> np.ndarray:
        return np.array([_correlation(weight_N, places) for weight_N in weight_RN])

    return statistic


def _correlation(weight_N: np.ndarray, places: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    ranks = []
    for values, place_N in places:
        counts = np.bincount(place_N, weight_N, len(values))
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place_N])
    x_N, y_N = (rank_N - (weight_N @ rank_N) / weight_N.sum() for rank_N in ranks)
    norm = np.sqrt((weight_N @ (x_N * x_N)) * (weight_N @ (y_N * y_N)))
    return float(weight_N @ (x_N * y_N) / norm) if norm > 0 else 0.0


def _once(statistic: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Computed once for the same weights, as a target's own metric and a mean over targets ask for it."""
    last: list[Any] = [None, None]

    def cached(weight_RN: np.ndarray) -> Any:
        if last[0] is not weight_RN:
            last[:] = weight_RN, statistic(weight_RN)
        return last[1]

    return cached


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


# Tasks ----------------------------------------------------------------------------------------------------------------


def of_classes(
    probability_NK: np.ndarray, target_N: np.ndarray, decision: Decision
) -> dict[str, Statistic]:
    """Those of multiclass_metrics and decision_metrics; samples without a class (below 0) are left out."""
    known_N = target_N >= 0
    if not known_N.any():
        return {}
    if not known_N.all():
        found = of_classes(probability_NK[known_N], target_N[known_N], decision)
        return {name: _among(statistic, known_N) for name, statistic in found.items()}
    n, classes = probability_NK.shape
    guess_N, there = probability_NK.argmax(1), np.unique(target_N)
    mine_N = probability_NK[np.arange(n), target_N]
    found = {"top1": share(guess_N == target_N)}
    if classes > 5:
        found["top5"] = share(mine_N >= np.partition(probability_NK, -5, axis=1)[:, -5])
    if len(there) <= MOST_CLASSES:
        recalls = [share(guess_N == k, target_N == k) for k in there]
        found["balanced_accuracy"] = mean_of(recalls)
        used = np.union1d(there, guess_N)
        found["macro_f1"] = mean_of(
            [f_measure(guess_N == k, target_N == k, said_too=True) for k in used]
        )
    if len(there) > 1:
        columns = [1] if classes == 2 else there
        found |= _sorted([(probability_NK[:, k], target_N == k, known_N) for k in columns], ())
    found["calibration_error"] = calibration_error(probability_NK, target_N)
    found["loss"] = share(-np.log(np.maximum(mine_N, LEAST)))
    return found | of_decision(decision, "multiclass", probability_NK, target_N)


def of_labels(
    kind: str,
    probability_NK: np.ndarray,
    target_NK: np.ndarray,
    names: Sequence[str],
    decision: Decision,
) -> dict[str, Statistic]:
    """Those of multilabel_metrics, or of binary_target_metrics, and of decision_metrics."""
    known_NK = np.isfinite(target_NK)
    truth_NK = target_NK > 0.5
    right_NK = np.where(truth_NK, probability_NK, 1 - probability_NK)
    lost_NK = np.where(known_NK, -np.log(np.clip(right_NK, LEAST, 1.0)), 0.0)
    found = {"loss": _pooled(lost_NK, known_NK)}
    each = []
    for k, known_N in enumerate(known_NK.T):
        each.append((probability_NK[known_N, k], truth_NK[known_N, k], known_N))
    found |= _sorted(each, names if kind == "binary" else ())
    if kind == "multilabel":
        said_NK = probability_NK >= 0.5
        columns = zip(said_NK.T & known_NK.T, truth_NK.T & known_NK.T, strict=True)
        used = [(said, true) for said, true in columns if said.any() or true.any()]
        if used:
            found["macro_f1"] = mean_of([f_measure(*one, said_too=True) for one in used])
        exact_N = ((said_NK == truth_NK) | ~known_NK).all(1)
        found["exact_match"] = share(exact_N, known_NK.any(1))
    return found | of_decision(decision, kind, probability_NK, target_NK)


def of_decision(
    decision: Decision, kind: str, probability: np.ndarray, target: np.ndarray
) -> dict[str, Statistic]:
    """Those of decision_metrics."""
    if kind == "multiclass" and probability.shape[1] != 2:
        return {}
    score_NK, target_NK = as_labels(kind, probability, target)
    known_NK, said_NK = np.isfinite(target_NK), decision.yes(score_NK)
    each: dict[str, list[Statistic]] = {}
    for known_N, said_N, target_N in zip(known_NK.T, said_NK.T, target_NK.T, strict=True):
        truth_N = target_N > 0.5
        own = {
            "sensitivity": share(said_N, truth_N),
            "specificity": share(~said_N, known_N & ~truth_N),
            "precision": share(truth_N, known_N & said_N),
            "f1": f_measure(said_N & known_N, truth_N),
        }
        for name, statistic in own.items():
            each.setdefault(name, []).append(statistic)
    return {name: mean_of(statistics) for name, statistics in each.items()}


def of_numbers(
    prediction_NK: np.ndarray,
    target_NK: np.ndarray,
    names: Sequence[str],
    scale_K: Sequence[float],
    *,
    loss: str = "mse",
    ranks: bool = False,
) -> dict[str, Statistic]:
    """Those of regression_metrics."""
    known_NK = np.isfinite(target_NK)
    error_NK = np.where(known_NK, prediction_NK - target_NK, 0.0).astype(np.float64)
    scaled_NK = error_NK / np.asarray(scale_K, np.float64)
    lost_NK = np.abs(scaled_NK) if loss == "l1" else np.square(scaled_NK)
    each = []
    for k, known_N in enumerate(known_NK.T):
        each.append(
            _of_target(prediction_NK[:, k], target_NK[:, k], error_NK[:, k], known_N, ranks)
        )
    return {**_with_means(each, names), "loss": _pooled(lost_NK, known_NK)}


def _of_target(
    prediction_N: np.ndarray,
    target_N: np.ndarray,
    error_N: np.ndarray,
    known_N: np.ndarray,
    ranks: bool,
) -> dict[str, Statistic]:
    if not known_N.any():
        return {}
    own = {"mae": share(np.abs(error_N), known_N), "rmse": root(share(error_N**2, known_N))}
    true_N = target_N[known_N]
    if (true_N != true_N[0]).any():
        own["r2"] = _among(explained(error_N[known_N], true_N), known_N)
        if ranks and len(true_N) <= MOST_SORTED // 4:
            own["spearman"] = _among(rank_correlation(prediction_N[known_N], true_N), known_N)
    return own


def _among(statistic: Statistic, known_N: np.ndarray) -> Statistic:
    """A statistic of those samples alone that have a target."""
    if known_N.all():
        return statistic
    return lambda weight_RN: statistic(weight_RN[:, known_N])


def _pooled(value_NK: np.ndarray, known_NK: np.ndarray) -> Statistic:
    """The mean of all values that there are."""
    return ratio(np.where(known_NK, value_NK, 0.0).sum(1), known_NK.sum(1))


def _sorted(
    columns: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], names: Sequence[str]
) -> dict[str, Statistic]:
    """roc_auc and average_precision of (scores, positives, which samples these are of), means and with names each."""
    if sum(len(score_n) for score_n, _, _ in columns) > MOST_SORTED:
        return {}
    each: list[dict[str, Statistic]] = []
    for score_n, positive_n, known_N in columns:
        own: dict[str, Statistic] = {}
        if 0 < positive_n.sum() < len(positive_n):
            found = Sorted(score_n, positive_n)
            own["roc_auc"] = _among(found.roc_auc, known_N)
            own["average_precision"] = _among(found.average_precision, known_N)
        each.append(own)
    return _with_means(each, names)


def _with_means(
    each: Sequence[Mapping[str, Statistic]], names: Sequence[str]
) -> dict[str, Statistic]:
    """See metrics.mean_over_targets."""
    each = [{name: _once(one) for name, one in own.items()} for own in each]
    found: dict[str, Statistic] = {}
    for metric in dict.fromkeys(metric for own in each for metric in own):
        found[metric] = mean_of([own[metric] for own in each if metric in own])
    if len(each) > 1:
        for name, own in zip(names, each, strict=False):
            found |= {f"{metric} {name}": statistic for metric, statistic in own.items()}
    return found
