"""From probabilities to an answer: from which probability on it is yes, and below which nothing is said.

A threshold is a number, or a rule by which it is chosen on validation (eval.threshold):

    youden                       the largest sum of sensitivity and specificity (Youden 1950)
    f1                           the largest F1
    sensitivity@specificity=0.9  the largest sensitivity among thresholds of that specificity or more
    specificity@sensitivity=0.9  the other way round

It is put in the middle between two scores of validation, so that rounding decides nothing; of equally good ones it is
the one nearest to 1/2. Of two classes it is the second one's probability that it bounds, of labels each has its own.

N samples, K labels; of two classes K is 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isoform.core.errors import UserError, join_names
from isoform.core.supervised.config import LabelledEval
from isoform.core.supervised.monitors import has_both_kinds

THRESHOLD = "threshold_K"  # among the arrays of calibration.npz
UNDECIDED = "undecided"  # the prediction where the top probability is below eval.min_probability
LIKELIER = 0.5  # the threshold that nobody chose: yes where it is the likelier answer
_TOLD = 8  # labels in a line for a person


@dataclass(frozen=True, eq=False)
class Decision:
    """How probabilities become an answer.

    threshold_K      from which on a label, or of two classes the second, is the answer; None: the likelier one is
    min_probability  the least top probability of an answer that is given at all
    """

    threshold_K: np.ndarray | None = None
    min_probability: float = 0.0

    @classmethod
    def of(cls, settings: LabelledEval, arrays: Mapping[str, np.ndarray] | None = None) -> Decision:
        """By a run's settings and what validation taught it (RunState.calibration)."""
        threshold = (arrays or {}).get(THRESHOLD)
        if not isinstance(settings.threshold, str) and settings.threshold != LIKELIER:
            threshold = np.array([settings.threshold])
        return cls(threshold, settings.min_probability)

    def facts(self) -> dict[str, object]:
        """JSON that a consumer of the bare model needs: what isn't as it is by default."""
        found: dict[str, object] = {}
        if self.threshold_K is not None:
            found["threshold"] = self.threshold_K.tolist()
        if self.min_probability:
            found["min_probability"] = self.min_probability
        return found

    def yes(self, probability_NK: np.ndarray) -> np.ndarray:
        """bool [N, K] which labels are said."""
        return probability_NK >= (LIKELIER if self.threshold_K is None else self.threshold_K)

    def classes(self, probability_NC: np.ndarray) -> np.ndarray:
        """int [N] which class is said."""
        if self.threshold_K is None:
            return probability_NC.argmax(1)
        return (probability_NC[:, 1] >= self.threshold_K[0]).astype(np.int64)

    def is_open(self, top: float | np.ndarray) -> np.ndarray:
        """Where the top probability is too low for an answer."""
        return np.asarray(top < self.min_probability)


def takes_threshold(kind: str, names: Sequence[str]) -> bool:
    """Whether there are two classes, or labels, which a threshold can part."""
    return kind in ("binary", "multilabel") or (kind == "multiclass" and len(names) == 2)


def check_threshold(
    settings: LabelledEval, kind: str, names: Sequence[str], val: np.ndarray
) -> None:
    """Raises UserError for a threshold where there is nothing that it could decide, or nothing to choose it on.

    val   validation's targets, [N] classes or [N, K] labels
    """
    asked = settings.threshold
    if asked == LIKELIER:
        return
    if not takes_threshold(kind, names):
        has = "predicts numbers" if kind == "regression" else f"has {len(names)} classes"
        raise UserError(
            f"eval.threshold = {asked} parts two classes, or labels from what lacks them, and this app {has}; leave it "
            "out"
        )
    if isinstance(asked, str) and not has_both_kinds(val):
        has = "has samples of one kind alone" if len(val) else "there is none"
        raise UserError(
            f"eval.threshold = {asked} is chosen on validation, and {has}; set a number, or change the split"
        )


def as_labels(
    kind: str, probability: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, targets) [N, K] of labels, NaN = missing; of two classes the second is the label."""
    if kind != "multiclass":
        return probability, target
    return probability[:, 1:2], np.where(target < 0, np.nan, target == 1)[:, None]


def learn_thresholds(
    settings: LabelledEval, kind: str, probability: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """{"threshold_K": [K]} where a rule is to choose on validation, each label's on its own samples; else nothing.

    1/2 for a label that is not both yes and no.
    """
    if not isinstance(settings.threshold, str):
        return {}
    found = []
    for score_N, target_N in zip(
        *(one.T for one in as_labels(kind, probability, target)), strict=True
    ):
        known = np.isfinite(target_N)
        found.append(choose(settings.threshold, score_N[known], target_N[known] > 0.5))
    return {THRESHOLD: np.array(found)}


def choose(rule: str, score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The threshold of one label by a rule; see the module's text. 1/2 where there is one kind alone."""
    if not 0 < positive_N.sum() < len(positive_N):
        return LIKELIER
    order = np.argsort(-score_N, kind="stable")
    ordered = score_N[order].astype(np.float64)
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # of each run of equal scores
    hits = np.append(0, np.cumsum(positive_N[order])[last])  # with the first so many accepted
    accepted = np.append(0, last + 1)
    highest = max(1.0, ordered[0] + 1e-6)  # what accepts nothing lies above a certain yes
    levels = np.concatenate([[highest], ordered[last], [0.0]])
    middle = (levels[:-1] + levels[1:]) / 2
    sensitivity = hits / positive_N.sum()
    specificity = 1 - (accepted - hits) / (~positive_N).sum()
    worth = _worth(rule, sensitivity, specificity, 2 * hits / (accepted + positive_N.sum()))
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    return float(middle[best[np.abs(middle[best] - LIKELIER).argmin()]])


def _worth(
    rule: str, sensitivity: np.ndarray, specificity: np.ndarray, f1: np.ndarray
) -> np.ndarray:
    if rule == "youden":
        return sensitivity + specificity
    if rule == "f1":
        return f1
    wanted, bounded, least = re.split("[@=]", rule)
    values = {"sensitivity": sensitivity, "specificity": specificity}
    held = values[bounded] >= float(least) - 1e-12
    # Of those that are equally good by what is wanted, the one with the most of the other.
    return np.where(held, values[wanted] + 1e-6 * values[bounded], -1.0)


def decision_metrics(
    decision: Decision, kind: str, probability: np.ndarray, target: np.ndarray
) -> dict[str, float]:
    """sensitivity, specificity, precision and f1 of what is said, means over the labels that have them.

    A label without positives has no sensitivity and no f1, one without negatives no specificity, one that is never
    said no precision; several classes and numbers have none.
    """
    if kind == "regression" or (kind == "multiclass" and probability.shape[1] != 2):
        return {}
    score_NK, target_NK = as_labels(kind, probability, target)
    known = np.isfinite(target_NK)
    truth, said = (target_NK > 0.5) & known, decision.yes(score_NK) & known
    hits, positives, claims = (truth & said).sum(0), truth.sum(0), said.sum(0)
    negatives = known.sum(0) - positives
    shares = {
        "sensitivity": (hits, positives),
        "specificity": (negatives - (claims - hits), negatives),
        "precision": (hits, claims),
        "f1": (2 * hits, np.where(positives > 0, positives + claims, 0)),
    }
    found = {}
    for name, (top, bottom) in shares.items():
        there = bottom > 0
        if there.any():
            found[name] = float((top[there] / bottom[there]).mean())
    return found


def describe_thresholds(
    decision: Decision, rule: float | str, names: Sequence[str], kind: str
) -> list[str]:
    """The thresholds that a rule chose on validation, as a sentence; nothing where none was to be chosen."""
    if not isinstance(rule, str):
        return []
    if decision.threshold_K is None:
        return [f"eval.threshold = {rule} was never chosen, as the run didn't end: 0.5 decides"]
    labels = names[1:2] if kind == "multiclass" else names
    each = [
        f"{value:.4g} of {name}" for name, value in zip(labels, decision.threshold_K, strict=True)
    ]
    return [f"threshold chosen on validation by {rule}: {join_names(each, _TOLD)}"]
