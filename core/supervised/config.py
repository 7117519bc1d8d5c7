"""The table `loss` of an app with labels, and which losses fit which task. No torch here: configs stay fast to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from isoform.core.config.schema import Table
from isoform.core.errors import UserError

# Task -> the losses that fit its targets; the first is the one where nobody asks (a domain may say otherwise).
LOSS_KINDS: Mapping[str, tuple[str, ...]] = {
    "regression": ("mse", "l1", "huber"),
    "binary": ("bce",),
    "multilabel": ("bce",),
    "multiclass": ("ce", "bce"),
    "multihead": ("ce", "bce"),
}


class LossConfig(Table):
    """What training minimises; missing targets count for nothing. A domain adds its own keys."""

    kind: Literal["mse", "l1", "huber", "ce", "bce"] | None = Field(
        None,
        description="of scaled numbers mse, l1 or huber (bend at 1); of labels bce; of classes ce (cross-entropy) or "
        "bce (each class against the rest); chosen by data.task if unset",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each target that is spread evenly over the classes, or over yes and no",
    )


def resolve_loss_kind(loss: LossConfig, task: str, *, default: str | None = None) -> str:
    """The loss of a task: loss.kind, or where it is unset `default` if that fits the task, else the task's first.

    task    regression, binary, multilabel, multiclass or multihead

    Raises UserError for a loss or a smoothing that does not fit the task.
    """
    fitting = LOSS_KINDS[task]
    if loss.label_smoothing and task == "regression":
        raise UserError(
            "loss.label_smoothing spreads classes and labels, and data.task = regression has neither"
        )
    if loss.kind is None:
        return default if default in fitting else fitting[0]
    if loss.kind not in fitting:
        raise UserError(
            f"loss.kind = {loss.kind} does not fit data.task = {task}; set it to {' or '.join(fitting)}"
        )
    return loss.kind
