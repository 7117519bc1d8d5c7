"""Baselines as a run stores them, and predicts with them: `isoform molecules predict RUN --with descriptor_boosting`.

RUN/baselines/NAME.json says what each target is predicted by, {"file": NAME.txt} of LightGBM's trees or
{"constant": [...]}; nothing in it is run, and the trees are checked before LightGBM reads them.

n molecules, K targets, C classes, F descriptors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.runs.boosters import read_booster
from isoform.core.runs.folder import RunFolder
from isoform.molecules.baselines import Booster, PerTarget
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.descriptors import NAMES, Normaliser
from isoform.molecules.predictor import MoleculePredictor
from isoform.molecules.state import MoleculesState


def read(folder: Path, name: str, state: MoleculesState) -> PerTarget:
    """A stored baseline of the run of `state`. Raises UserError where it is damaged or of other targets."""
    about = RunFolder(folder).read_json(f"{name}.json")
    try:
        kind, classes = str(about["kind"]), int(about["classes"])
        models = [_model(folder, one, kind, classes) for one in about["targets"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / name}.json: is damaged ({error}); train again") from error
    if kind != (state.kind or "regression") or classes != state.outputs:
        raise UserError(f"{folder / name}.json: is of other targets than task.json; train again")
    if len(models) != (1 if kind == "multiclass" else classes):
        raise UserError(
            f"{folder / name}.json: has {len(models)} targets of {classes}; train again"
        )
    return PerTarget(models, kind, classes)


def _model(folder: Path, told: dict[str, Any], kind: str, classes: int) -> Any:
    if "constant" in told:
        constant = np.array(told["constant"], np.float64)
        if constant.shape != (classes if kind == "multiclass" else 1,):
            raise ValueError("a constant of another size")
        return constant
    file = str(told["file"])
    if Path(file).name != file:
        raise ValueError("a file outside of its folder")
    return Booster(read_booster(folder / file, len(NAMES)), classes if kind == "multiclass" else 2)


class BaselinePredictor(MoleculePredictor):
    """Rows as those of the run's model, by a stored baseline, without its intervals and thresholds."""

    def __init__(
        self, trained: TrainedModel[MoleculesApp, MoleculesState], fitted: PerTarget
    ) -> None:
        super().__init__(trained)
        self.model, self.calibration = _OfDescriptors(fitted), None
        self.decision = replace(self.decision, threshold_K=None)
        raw = np.zeros(len(NAMES))
        self.normaliser = _AsTheyAre(raw, raw, raw, raw)  # trees know what is missing

    def guess(self, output_nK: np.ndarray) -> np.ndarray:
        """The outputs are numbers as they are learned, unscaled, and probabilities."""
        return output_nK if self.scaling is None else self.scaling.in_units(output_nK)

    def embed(self, inputs: Any) -> np.ndarray:
        """Raises UserError: trees have no features in front of a head."""
        raise UserError("a baseline has no features to embed with; leave --with out")


class _AsTheyAre(Normaliser):
    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values


class _OfDescriptors(nn.Module):
    """A baseline called as a model is, on the descriptors [n, F] of a batch."""

    def __init__(self, fitted: PerTarget) -> None:
        super().__init__()
        self.fitted = fitted
        self.device_mark = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """[n, K] numbers as targets are learned (of some their logarithm), or probabilities."""
        return torch.from_numpy(self.fitted(batch["descriptors"].cpu().numpy()))


__all__ = ["BaselinePredictor", "read"]
