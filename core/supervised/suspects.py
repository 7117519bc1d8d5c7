"""Labels that a model finds improbable: candidates for a second look, of samples that it wasn't trained on.

The rule: a label is suspected where another one is more probable, whatever threshold answers go by, and the less
probable the given label is, the earlier it comes (the ranking by self-confidence of Northcutt et al. 2021, "Confident
learning").

N samples, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

RULE = "another label is more probable than the given one; the least probable labels come first"


def suspect_classes(
    classes: Sequence[str], guess_NK: np.ndarray, target_N: np.ndarray
) -> list[dict[str, Any]]:
    """Of probabilities of classes, and classes of which -1 is unknown: a row a suspected sample, in their order."""
    answer_N = guess_NK.argmax(1)
    return [
        _row(i, classes[target_N[i]], guess_NK[i, target_N[i]], classes[answer_N[i]], guess_NK[i, answer_N[i]])
        for i in np.flatnonzero((target_N >= 0) & (answer_N != target_N)).tolist()
    ]  # fmt: skip


def suspect_labels(
    names: Sequence[str], guess_NK: np.ndarray, target_NK: np.ndarray
) -> list[dict[str, Any]]:
    """Of probabilities of labels, and labels in {0, 1} of which NaN is unknown: a row a suspected label."""
    true_NK, said_NK = target_NK > 0.5, guess_NK >= 0.5
    rows = []
    for i, k in np.argwhere(~np.isnan(target_NK) & (true_NK != said_NK)).tolist():
        of_given = guess_NK[i, k] if true_NK[i, k] else 1 - guess_NK[i, k]
        given, other = ("yes", "no") if true_NK[i, k] else ("no", "yes")
        row = _row(i, given, of_given, other, 1 - of_given)
        rows.append({"sample": i, "label": names[k], **row})
    return rows


def _row(
    sample: int, given: str, of_given: float, suggested: str, of_suggested: float
) -> dict[str, Any]:
    return {
        "sample": sample,
        "given": given,
        "p(given)": round(float(of_given), 6),
        "suggested": suggested,
        "p(suggested)": round(float(of_suggested), 6),
    }


def rank(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The least probable labels first."""
    return sorted(rows, key=lambda row: float(row["p(given)"]))
