"""How good a guess is, by the task: the metrics are those of isoform.core.supervised.

N molecules, K targets or classes.
"""

from __future__ import annotations

import numpy as np

from isoform.core.supervised.metrics import (
    binary_target_metrics,
    multiclass_metrics,
    regression_metrics,
)
from isoform.molecules.data.dataset import MoleculeData


def score(data: MoleculeData, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Metrics of predictions [N, K] in the targets' units, or of probabilities; a missing label counts for nothing.

    Where targets are learned as their logarithm (data.transform), "loss" is of that, and mae, rmse and r2 stand there
    a second time, called "rmse_learned".
    """
    if data.kind == "multiclass":
        return multiclass_metrics(guess, target)
    if data.kind == "binary":
        return binary_target_metrics(guess, target, data.names)
    scaling = data.scaling
    found = regression_metrics(guess, target, data.names, scaling.std, loss="l1", ranks=True)
    if any(scaling.log):
        learned = regression_metrics(
            scaling.learned(guess), scaling.learned(target), data.names, scaling.std, loss="l1"
        )
        found |= {
            f"{name}_learned": learned[name] for name in ("mae", "rmse", "r2") if name in learned
        }
        found["loss"] = learned["loss"]
    return found
