"""Which loss a task trains with."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from isoform.core.errors import UserError
from isoform.core.supervised.config import LOSS_KINDS, LossConfig, resolve_loss_kind


def test_unset_it_is_the_tasks_own() -> None:
    asked = LossConfig()
    assert resolve_loss_kind(asked, "multiclass") == "ce"
    assert resolve_loss_kind(asked, "multilabel") == resolve_loss_kind(asked, "binary") == "bce"
    assert resolve_loss_kind(asked, "regression") == "mse"
    assert resolve_loss_kind(asked, "regression", default="l1") == "l1"
    assert resolve_loss_kind(asked, "multiclass", default="l1") == "ce", (
        "a default of numbers is none of classes"
    )


@pytest.mark.parametrize("task", LOSS_KINDS)
@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "ce", "bce"])
def test_a_loss_fits_or_is_refused(task: str, kind: str) -> None:
    if kind in LOSS_KINDS[task]:
        assert resolve_loss_kind(LossConfig(kind=kind), task, default="l1") == kind
    else:
        with pytest.raises(UserError, match=f"loss.kind = {kind} does not fit data.task = {task}"):
            resolve_loss_kind(LossConfig(kind=kind), task)


def test_numbers_are_not_smoothed() -> None:
    assert resolve_loss_kind(LossConfig(label_smoothing=0.1), "binary") == "bce"
    with pytest.raises(UserError, match="label_smoothing"):
        resolve_loss_kind(LossConfig(label_smoothing=0.1), "regression")
    with pytest.raises(ValidationError):
        LossConfig(kind="pinball")
