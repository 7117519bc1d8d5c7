"""The models of a cross-validation as one: each has its own scales of targets and descriptors.

n molecules, F descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.ensemble import Adapted, answer_in, mean_arrays
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.descriptors import Normaliser
from isoform.molecules.nearest import from_text, to_text
from isoform.molecules.state import DescriptorState, MoleculesState

Model = TrainedModel[MoleculesApp, MoleculesState]


def join_folds(members: Sequence[Model]) -> tuple[MoleculesState, list[nn.Module]]:
    """The first's state with the training molecules of all, and every model fed and answering by it.

    Raises UserError where they learned something else.
    """
    first = members[0]
    for other in members[1:]:
        if _learned(other.state) != _learned(first.state):
            raise UserError(
                f"{other.folder} and {first.folder} learned from different data: predict with each by itself"
            )
    calibration = mean_arrays([member.state.calibration for member in members])
    changes = {"calibration": calibration or None, **_training(members)}
    descriptors = [one.state.descriptors for one in members if one.state.descriptors is not None]
    if descriptors:
        changes["descriptors"] = _carrier(descriptors)
    state = first.state.model_copy(update=changes)
    return state, [_adapted(member, state) for member in members]


def _learned(state: MoleculesState) -> tuple[object, ...]:
    """What folds of one data set have in common."""
    log = None if state.scaling is None else state.scaling.log
    return state.kind, state.names, state.units, log, state.data and state.data.sha256


def _training(members: Sequence[Model]) -> dict[str, object]:
    """The training molecules of all, each once, and the strictest floor of those that are like them."""
    floors = [m.state.familiar for m in members if m.state.familiar is not None]
    prints: dict[str, np.ndarray] = {}
    for member in members:
        texts, packed = member.state.training or (), member.state.fingerprints
        if packed is not None:
            prints |= dict(zip(texts, from_text(packed, len(texts)), strict=True))
    return {
        "training": tuple(prints) or None,
        "fingerprints": to_text(np.stack(list(prints.values()))) if prints else None,
        "familiar": max(floors, default=None),
    }


def _carrier(each: Sequence[DescriptorState]) -> DescriptorState:
    """A range that clips nothing which any fold tells apart, and leaves 0 to what is missing."""
    low, high = (np.array([getattr(one, end) for one in each]) for end in ("low", "high"))
    low, high = low.min(0), high.max(0)
    std = np.where(high > low, (high - low) / (Normaliser.LIMIT - 1), 1.0)
    carrier = Normaliser(low, high, low - std / 2, std)
    return DescriptorState.model_validate(carrier.to_json())


def _adapted(member: Model, asked: MoleculesState) -> nn.Module:
    """A model on descriptors, and with answers, as `asked` says."""
    own, wide = member.state.descriptors, asked.descriptors

    def before(batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if own is None or wide is None or "descriptors" not in batch:
            return batch
        given = batch["descriptors"]
        values = given.double().cpu().numpy() * np.array(wide.std) + np.array(wide.mean)
        values = np.where(given.cpu().numpy() == 0, np.nan, values)
        scaled = Normaliser.from_json(own.model_dump())(values)
        return {**batch, "descriptors": torch.from_numpy(scaled).to(given.device)}

    mine, theirs = member.state.scaling, asked.scaling
    if member.state.kind != "regression" or mine is None or theirs is None:
        return Adapted(member.model, before)
    return Adapted(member.model, before, answer_in(theirs.mean, theirs.std, mine.mean, mine.std))
