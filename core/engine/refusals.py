"""What a training refuses before its first step, and `check` therefore too."""

from __future__ import annotations

from collections.abc import Callable

import torch

from isoform.core.baselines import chosen
from isoform.core.domain import Task
from isoform.core.errors import UserError


def refuse_unready(task: Task) -> None:
    """Raises UserError where nothing is there to be trained on, or settings are still open or name what isn't there."""
    epochs = task.config.train.epochs
    if not isinstance(epochs, int):
        raise UserError(f"train.epochs = {epochs!r} was not settled; give a number")
    chosen(task.baselines(), task.config.eval)  # a name that isn't offered
    if not task.sizes().get("train"):
        raise UserError("there is no training sample; look at the data with `isoform check`")


def refusal_of(make: Callable[[], Task]) -> str | None:
    """With which sentence a training of the task would end before its first step; its model is built without memory."""
    try:
        task = make()
        refuse_unready(task)
        with torch.device("meta"):
            task.build()
    except UserError as error:
        return str(error)
    return None
