"""A trained molecules model on molecules from anywhere: one row a molecule, whatever the input is.

n molecules, K targets or classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.inputs import list_inputs
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.core.supervised.predictor import SupervisedPredictor
from isoform.core.supervised.rows import rows_of
from isoform.core.supervised.scaling import TargetScaling
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.buckets import batches
from isoform.molecules.data.collate import collate
from isoform.molecules.data.descriptors import Normaliser, compute
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import OGB_BONDS, build_store
from isoform.molecules.data.inputs import Named, expand_inputs
from isoform.molecules.data.parsing import canonical, parse
from isoform.molecules.data.standardise import Standardiser
from isoform.molecules.nearest import NearestMolecule
from isoform.molecules.state import MoleculesState

CHUNK = 1024  # molecules that are graphs in memory at one time


class Readable(NamedTuple):
    """A molecule that can be read: place among the inputs, canonical SMILES, and the text that becomes the graph."""

    place: int
    smiles: str
    text: str


class Batch(NamedTuple):
    """What the model reads, and the canonical SMILES of each molecule."""

    tensors: dict[str, Tensor]
    smiles: list[str]


class MoleculePredictor(SupervisedPredictor):
    """Predictions and features of one model.

    An input is a SMILES or InChI, an RDKit molecule, a Structure, or a file, folder or DataFrame of many molecules.
    Rows hold the file's own columns, input, smiles, prediction, ..., uncertainty, nearest, similarity, error; nearest
    is the training molecule most similar.
    The model's state may lack any row: then outputs are regression targets called by number, unscaled and without
    intervals. Raises UserError for a model that was trained on graphs that no SMILES becomes.
    """

    item = "molecule"

    def __init__(self, trained: TrainedModel[MoleculesApp, MoleculesState]) -> None:
        state = trained.state
        if state.kinds and len(state.kinds[0]) != len(OGB_BONDS):
            raise UserError(
                f"this model reads graphs whose bonds have {len(state.kinds[0])} features of the data set's own, and "
                "SMILES don't give them; judge it with eval"
            )
        self.config, self.model = trained.config, trained.model.eval()
        self.kind = state.kind or "regression"
        self.names = list(state.names or ())
        self.scaling = (
            TargetScaling(state.scaling.mean, state.scaling.std) if state.scaling else None
        )
        self.calibration = Calibration.of(state.calibration) if state.calibration else None
        self.normaliser = (
            Normaliser.from_json(state.descriptors.model_dump()) if state.descriptors else None
        )
        self.nearest = NearestMolecule(list(state.training or ()))
        self.clean = Standardiser(trained.config.data)

    def expand(self, inputs: Any) -> Sequence[Named]:
        """The molecules of all inputs; a file or DataFrame holds many, and is read as the run's own file was."""
        say = None if self.speaker is None else self.speaker.warn
        return expand_inputs(list_inputs(inputs), self.config.data, say)

    def cells_of(self, item: Named) -> Mapping[str, str]:
        """What stands in a molecule's row of its file."""
        return item.cells or {}

    def name_of(self, item: Named, number: int) -> str:
        """Where a molecule comes from, or its text."""
        return str(item)

    def describe_error(self, name: str, error: str) -> str:
        """The molecule and what is wrong with it."""
        return f"{name}: {error}"

    def batches(
        self, items: Sequence[Named], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Batch]]:
        """Molecules of like size together."""
        for start in range(0, len(items), CHUNK):
            readable = []
            for place in range(start, min(start + CHUNK, len(items))):
                found = self._read(place, items[place])
                if isinstance(found, str):
                    errors[place] = found
                else:
                    readable.append(found)
            yield from self._batches(readable, errors)

    def run(self, function: Any, batch: Batch) -> Tensor:
        """[n, K] or [n, D]."""
        output: Tensor = function(
            {name: value.to(self.device) for name, value in batch.tensors.items()}
        )
        return output

    def make_rows(self, output: np.ndarray, batch: Batch) -> list[dict[str, Any]]:
        """SMILES, prediction with its uncertainty, and the nearest training molecule."""
        rows = rows_of(
            self.kind, self._names(output.shape[1]), self._guess(output), self.calibration
        )
        return [
            {"smiles": smiles, **row, **self.nearest.find(smiles)}
            for smiles, row in zip(batch.smiles, rows, strict=True)
        ]

    def _read(self, place: int, one: Named) -> Readable | str:
        """The molecule, or why there is none."""
        if one.error:
            return one.error
        data = self.config.data
        mol = parse(one.smiles, one.block, data.max_atoms)
        if isinstance(mol, str):
            return mol
        smiles = canonical(self.clean(mol))
        if self.clean.steps or data.canonical:
            return Readable(place, smiles, smiles)
        return Readable(place, smiles, one.block or one.smiles)

    def _batches(
        self, readable: list[Readable], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Batch]]:
        data, t, gt = self.config.data, self.config.tokeniser, self.config.model.family == "gt"
        found = featurise_many(
            [one.text for one in readable],
            chirality=data.chirality,
            canonical=data.canonical,
            explicit_h=data.hydrogens,
            max_atoms=data.max_atoms,
        )
        for k, why in found.skipped:
            errors[readable[k].place] = why
        if not len(found.kept):
            return
        # The model knows a bond by its features, so kinds may be numbered otherwise than in training.
        hops = 1 if gt else self.config.score.hops
        store = build_store(found.graphs, hops=hops, laplacian=t.laplacian)
        for part in batches(store.sizes, self.config.eval.batch, None):
            chosen = [readable[k] for k in found.kept[part].tolist()]
            tensors = collate(store, part, hf_compat=t.hf_compat, compact=True, bonds=gt)
            if self.normaliser is not None:
                tensors["descriptors"] = self._descriptors(chosen, self.normaliser)
            yield [one.place for one in chosen], Batch(tensors, [one.smiles for one in chosen])

    def _descriptors(self, chosen: Sequence[Readable], normaliser: Normaliser) -> Tensor:
        texts = [
            one.smiles if "\n" in one.text else one.text for one in chosen
        ]  # of a mol block its SMILES
        return torch.from_numpy(normaliser(compute(texts)))

    def _names(self, outputs: int) -> list[str]:
        names = self.names or [str(k) for k in range(1, outputs + 1)]
        if len(names) != outputs:
            raise UserError(f"the model has {outputs} outputs and task.json names {len(names)}")
        return names

    def _guess(self, output_nK: np.ndarray) -> np.ndarray:
        if self.kind == "multiclass":
            return softmax(output_nK)
        if self.kind == "binary":
            return sigmoid(output_nK)
        return (
            output_nK
            if self.scaling is None
            else self.scaling.unscale(torch.from_numpy(output_nK)).numpy()
        )
