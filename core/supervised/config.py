"""The tables `loss` and `eval` of an app with labels, and which losses fit which task.

No torch here: configs stay fast to read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from isoform.core.config.schema import EvalConfig, Table
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


_RULE = re.compile(
    r"youden|f1|sensitivity@specificity=(0?\.\d+|1\.?0*)|specificity@sensitivity=(0?\.\d+|1\.?0*)"
)


def _known_threshold(value: float | str) -> float | str:
    if isinstance(value, str):
        if not _RULE.fullmatch(value):
            raise ValueError(
                f'"{value}" is neither a number nor a rule; the rules are youden, f1, sensitivity@specificity=0.9 and '
                "specificity@sensitivity=0.9 (or another share)"
            )
    elif not 0 < value < 1:
        raise ValueError(f"{value:g} is no threshold; it lies between 0 and 1")
    return value


class LabelledEval(EvalConfig):
    """Evaluation of an app with labels, and how probabilities become an answer; see decision.py."""

    threshold: Annotated[float | str, AfterValidator(_known_threshold)] = Field(
        0.5,
        description="probability from which on a label, or of two classes the second, is the answer, or the rule that "
        "chooses it on validation: youden, f1, sensitivity@specificity=0.9 (the most sensitivity at that specificity), "
        "specificity@sensitivity=0.9",
    )
    min_probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description='a prediction whose top probability is lower says "undecided"; predict takes another by '
        "--min-probability",
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
