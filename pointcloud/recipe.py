"""train.recipe = "official": how Point-MAE's own code trains, oddities included, so that its results can be compared.

All runs        the learning rate moves between epochs alone and one epoch late: the first two epochs are run at
                train.warmup_lr, and the cosine counts from the run's start (train.schedule = "cosine_late").
Classes, and    the loop ends one epoch late: train.epochs + 1 of them, over train.epochs of which the rate falls.
pretraining
Parts           the rate has fallen after 100 epochs whatever train.epochs is; the optimiser steps twice along each
                gradient, which is clipped for the second step alone (train.updates = 2); points are drawn with
                replacement, one draw a cloud, and an evaluation judges such a draw instead of all points.

What isn't followed: the official code chooses its checkpoint on the test split, and isoform on validation.
"""

from __future__ import annotations

from typing import Any

from isoform.core.errors import UserError
from isoform.pointcloud.config import PointcloudApp

PART_EPOCHS = 100.0  # of the cosine of part segmentation
LATE = "cosine_late"


def follow_recipe(config: PointcloudApp) -> tuple[PointcloudApp, list[str]]:
    """The app with what its recipe stands for, and lines that say so; unchanged where that was done already.

    Raises UserError where there is no official recipe: for scans, and without a number of epochs and a cosine.
    """
    train = config.train
    if train.recipe != "official" or train.schedule == LATE:
        return config, []
    if config.model.kind == "segment" and not config.has_parts:
        raise UserError('train.recipe = "official": there is none for scans; leave it out')
    if not isinstance(train.epochs, int) or train.schedule != "cosine":
        raise UserError(
            f'train.recipe = "official" is for a number of epochs and a cosine, and train.epochs = {train.epochs}, '
            f"train.schedule = {train.schedule}; set them, or leave the recipe out"
        )
    changes: dict[str, Any] = {"schedule": LATE}
    if config.has_parts:
        changes |= {"schedule_epochs": PART_EPOCHS, "updates": 2}
    else:
        changes |= {"schedule_epochs": float(train.epochs), "epochs": train.epochs + 1}
    named = ", ".join(f"train.{key} = {value}" for key, value in changes.items())
    changed = config.model_copy(update={"train": train.model_copy(update=changes)})
    return changed, [f"the official recipe: {named}"]
