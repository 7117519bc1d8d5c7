"""train.monitor: the validation metric that chooses the best checkpoint, among those that a task has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError

_RANKED = ("roc_auc", "average_precision")
_LESS = ("rmse", "mae", "mse", "mase", "smape", "loss")  # is better

# What one model predicts -> what may choose its checkpoint; the first is the one where nobody asks.
MONITORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "multiclass": ("top1", "balanced_accuracy", "roc_auc", "average_precision", "loss"),
        "multihead": ("top1", "balanced_accuracy", "loss"),
        "multilabel": ("average_precision", "roc_auc", "loss"),
        "binary": ("roc_auc", "average_precision", "loss"),
        "parts": ("miou", "accuracy", "loss"),
        "shapes": (
            "instance_miou official",
            "instance_miou strict",
            "class_miou official",
            "class_miou strict",
            "accuracy",
            "loss",
        ),
        "regression": ("rmse", "mae", "loss"),
        "forecasts": ("mse", "mae", "mase", "smape"),
    }
)


def resolve_monitor(
    asked: str | None,
    kind: str,
    val: np.ndarray | None = None,
    *,
    default: str | None = None,
) -> tuple[str, str]:
    """(metric, "max" or "min" is better): the one asked for, or where nobody asks `default`, else the kind's first.

    val   validation's targets, [N] classes, -1 = missing, or [N, K] labels or numbers, NaN = missing

    Where nobody asks and there is nothing to rank, it is the loss. Raises UserError for a metric that the kind lacks,
    and for one that ranks where there is nothing to rank.
    """
    name = asked or default or MONITORS[kind][0]
    offered = MONITORS[kind]
    if name not in offered:
        raise UserError(
            f"train.monitor = {name} is no metric of {kind}{suggest(name, offered)}; there are {', '.join(offered)}"
        )
    if name in _RANKED and val is not None and len(val) and not has_both_kinds(val):
        if not asked:
            return "loss", "min"
        raise UserError(
            f"train.monitor = {asked} ranks samples of two kinds, and validation has one kind alone; set it to loss, "
            "or change the split"
        )
    return name, "min" if name in _LESS else "max"


def has_both_kinds(target: np.ndarray) -> bool:
    """Whether two classes occur in [N] classes, -1 = missing, or a label of [N, K], NaN = missing, is yes and no."""
    if target.ndim == 1:
        return len(np.unique(target[target >= 0])) > 1
    known = np.isfinite(target)
    positives = ((target > 0.5) & known).sum(0)
    return bool(((positives > 0) & (positives < known.sum(0))).any())
