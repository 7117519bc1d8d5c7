"""How good a guess is, by the task: the metrics are those of isoform.core.supervised.

N samples, K classes, labels or targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.core.supervised.metrics import (
    multiclass_metrics,
    multilabel_metrics,
    regression_metrics,
)
from isoform.vision.heads import heads_metrics


def score(
    kind: str,
    guess_NK: np.ndarray,
    target: np.ndarray,
    names: Sequence[str],
    scale_K: Sequence[float],
) -> dict[str, float]:
    """Metrics of probabilities, or of numbers in the targets' own units.

    target   [N] classes, -1 = missing, or [N, K] labels or numbers, NaN = missing
    names    of the targets
    scale_K  the targets' deviations in training, in which the loss is measured
    """
    if kind == "multiclass":
        return multiclass_metrics(guess_NK, target)
    if kind == "multihead":
        return heads_metrics(guess_NK, target, names)
    if kind == "multilabel":
        return multilabel_metrics(guess_NK, target)
    return regression_metrics(guess_NK, target, names, scale_K)
