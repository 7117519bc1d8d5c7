"""How good a guess is, by the task: the metrics are those of isoform.core.supervised.

N molecules, K targets or classes.
"""

from __future__ import annotations

import numpy as np

from isoform.core.supervised import bootstrap
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import (
    binary_target_metrics,
    multiclass_metrics,
    regression_metrics,
)
from isoform.molecules.data.dataset import MoleculeData

LEARNED = ("mae", "rmse", "r2")  # given a second time where a target's logarithm is learned


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
        again = [name for name in LEARNED if name in learned]
        found |= {f"{name}_learned": learned[name] for name in again}
        found["loss"] = learned["loss"]
    return found


def intervals_of_score(
    data: MoleculeData, guess: np.ndarray, target: np.ndarray, decision: Decision
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of what `score` and decision_metrics give; see core/supervised/bootstrap.py."""
    names, scaling = data.names, data.scaling
    if data.kind == "multiclass":
        found = bootstrap.of_classes(guess, target, decision)
    elif data.kind == "binary":
        found = bootstrap.of_labels(data.kind, guess, target, names, decision)
    else:
        found = bootstrap.of_numbers(guess, target, names, scaling.std, loss="l1", ranks=True)
        if any(scaling.log):
            as_learned = (scaling.learned(guess), scaling.learned(target), names, scaling.std)
            learned = bootstrap.of_numbers(*as_learned, loss="l1")
            again = [name for name in LEARNED if name in learned]
            found |= {f"{name}_learned": learned[name] for name in again}
            found["loss"] = learned["loss"]
    return bootstrap.intervals(found, len(target))
