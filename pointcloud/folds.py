"""The models of a cross-validation as one; a cloud's frame is its own, so that they read and answer alike."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.ensemble import mean_arrays
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.state import PointcloudState


def join_folds(
    members: Sequence[TrainedModel[PointcloudApp, PointcloudState]],
) -> tuple[PointcloudState, list[nn.Module]]:
    """The first's state and every model. Raises UserError where they learned something else."""
    first = members[0]
    if first.config.data.ways is not None:
        raise UserError(
            f"{first.folder.parent}: few-shot episodes learn different classes; name one of them, such as "
            f"{first.folder}"
        )
    for other in members[1:]:
        if _learned(other.state) != _learned(first.state):
            raise UserError(
                f"{other.folder} and {first.folder} learned from different data: predict with each by itself"
            )
    calibration = mean_arrays([member.state.calibration for member in members])
    state = first.state.model_copy(update={"calibration": calibration or None})
    return state, [member.model for member in members]


def _learned(state: PointcloudState) -> tuple[object, ...]:
    """What folds of one data set have in common."""
    return state.classes, state.data and state.data.sha256
