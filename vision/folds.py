"""The models of a cross-validation as one: each has channel statistics and target scales of its own training images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.ensemble import Adapted, answer_in, mean_arrays
from isoform.vision.config import VisionApp
from isoform.vision.state import VisionState


def join_folds(
    members: Sequence[TrainedModel[VisionApp, VisionState]],
) -> tuple[VisionState, list[nn.Module]]:
    """The first's state, and every model fed and answering by it.

    Raises UserError where they learned something else.
    """
    first = members[0]
    for other in members[1:]:
        if _learned(other.state) != _learned(first.state):
            raise UserError(
                f"{other.folder} and {first.folder} learned from different data: predict with each by itself"
            )
    calibration = mean_arrays([member.state.calibration for member in members])
    preprocessing = first.state.preprocessing.model_copy(update=_range_of_all(members))
    changes = {"calibration": calibration or None, "preprocessing": preprocessing}
    state = first.state.model_copy(update=changes)
    return state, [_adapted(member.model, member.state, state) for member in members]


def _learned(state: VisionState) -> tuple[object, ...]:
    """What folds of one data set have in common."""
    fitted = dict.fromkeys(("mean", "std", "lowest", "highest"), ())
    bare = state.preprocessing.model_copy(update=fitted)
    return state.kind, state.classes, bare, state.data and state.data.sha256


def _range_of_all(
    members: Sequence[TrainedModel[VisionApp, VisionState]],
) -> dict[str, tuple[float, ...]]:
    """Of the values of each channel in all that any of them was trained on; empty where one doesn't know."""
    each = [member.state.preprocessing for member in members]
    if not all(one.lowest for one in each):
        return {"lowest": (), "highest": ()}
    return {
        "lowest": tuple(map(min, *(one.lowest for one in each))),
        "highest": tuple(map(max, *(one.highest for one in each))),
    }


def _adapted(model: nn.Module, own: VisionState, asked: VisionState) -> nn.Module:
    """`model`, of the state `own`, on images normalised as `asked` says."""
    mine, theirs = own.preprocessing, asked.preprocessing
    mean, std, own_mean, own_std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (theirs.mean, theirs.std, mine.mean, mine.std)
    )
    factor, shift = (std / own_std).float(), ((mean - own_mean) / own_std).float()
    if own.kind != "regression":
        return Adapted(model, lambda x: x * factor.to(x.device) + shift.to(x.device))
    return Adapted(
        model,
        lambda x: x * factor.to(x.device) + shift.to(x.device),
        answer_in(asked.target_mean, asked.target_std, own.target_mean, own.target_std),
    )
