"""A trained molecules model on molecules from anywhere: one row a molecule, whatever the input is.

n molecules, K targets or classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.digests import digests_of
from isoform.core.data.inputs import list_inputs
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.ensemble import spread_of
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.core.supervised.predictor import SupervisedPredictor, describe_seen_inputs
from isoform.core.supervised.rows import rows_of
from isoform.core.supervised.scaling import TargetScaling
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.buckets import batches
from isoform.molecules.data.collate import collate
from isoform.molecules.data.descriptors import Normaliser
from isoform.molecules.data.graphs import OGB_BONDS, build_store
from isoform.molecules.data.inputs import Named, expand_inputs
from isoform.molecules.data.screen import Screened, Wanted, screen
from isoform.molecules.familiar import word_of
from isoform.molecules.nearest import NearestMolecule, from_text
from isoform.molecules.state import MoleculesState


class Batch(NamedTuple):
    """What the model reads, and the canonical SMILES and the fingerprint of each molecule."""

    tensors: dict[str, Tensor]
    smiles: list[str]
    fingerprints: np.ndarray


class MoleculePredictor(SupervisedPredictor):
    """Predictions and features of one model.

    An input is a SMILES or InChI, an RDKit molecule, a Structure, or a file, folder or DataFrame of many molecules.
    Rows hold the file's own columns, input, smiles, prediction, ..., uncertainty, nearest, similarity, domain, error;
    nearest is the training molecule most similar, and domain says whether it is similar enough (familiar.py).
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
        self.config, self.state, self.model = trained.config, state, trained.model.eval()
        self.kind = state.kind or "regression"
        self.names = list(state.names or ())
        self.scaling = (
            TargetScaling.from_json(state.scaling.model_dump()) if state.scaling else None
        )
        self.calibration = Calibration.found_in(state.calibration)
        self.decision = Decision.of(trained.config.eval, state.calibration)
        self.normaliser = (
            Normaliser.from_json(state.descriptors.model_dump()) if state.descriptors else None
        )
        training = state.training or ()
        kept = from_text(state.fingerprints, len(training)) if state.fingerprints else None
        self.nearest = NearestMolecule(training, kept)
        self.familiar, self.seen = state.familiar, state.seen

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
        """Molecules of like size together, with their descriptors where the head reads them."""
        wanted = Wanted(self.config.data, self.normaliser is not None, fingerprints=True)
        return self._screened(items, errors, wanted)

    def feature_batches(
        self, items: Sequence[Named], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Batch]]:
        """The graphs alone: descriptors come in behind the features."""
        return self._screened(items, errors, Wanted(self.config.data))

    def run(self, function: Any, batch: Batch) -> Tensor:
        """[n, K] or [n, D]."""
        output: Tensor = function(
            {name: value.to(self.device) for name, value in batch.tensors.items()}
        )
        return output

    def make_rows(self, output: np.ndarray, batch: Batch) -> list[dict[str, Any]]:
        """SMILES, prediction with its uncertainty, and the nearest training molecule."""
        names, log = self._names(output.shape[1]), self.scaling.log if self.scaling else ()
        guess, apart = self.guess(output), self.spread()
        bounds, decide = self.calibration, self.decision
        rows = rows_of(self.kind, names, guess, bounds, log=log, spread=apart, decision=decide)
        nearest = self.nearest.find(batch.fingerprints)
        found = [
            {"smiles": smiles, **row, **near}
            for smiles, row, near in zip(batch.smiles, rows, nearest, strict=True)
        ]
        return [{**row, **word_of(row, self.familiar)} for row in found]

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """See draw_inputs.py."""
        from isoform.molecules.draw_inputs import page_of

        return page_of(self, rows)

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """How many of the molecules the model was trained on, by their canonical SMILES."""
        texts = [str(row["smiles"]) for row in rows if row.get("smiles") and not row.get("error")]
        if self.seen is None or not texts:
            return []
        known = int(np.isin(digests_of(texts), self.seen).sum())
        return [describe_seen_inputs(known, len(texts), "molecules")] if known else []

    def _screened(
        self, items: Sequence[Named], errors: dict[int, str], wanted: Wanted
    ) -> Iterator[tuple[list[int], Batch]]:
        errors |= {place: one.error for place, one in enumerate(items) if one.error}
        left = [place for place in range(len(items)) if place not in errors]
        texts = [(items[place].smiles, items[place].block) for place in left]
        start = 0
        for found in screen(texts, wanted):
            places = left[start : start + found.asked]
            start += found.asked
            errors |= {places[number]: why for number, why in found.skipped}
            for part, batch in self._batches(found, wanted):
                yield [places[number] for number in found.kept[part].tolist()], batch

    def _batches(self, found: Screened, wanted: Wanted) -> Iterator[tuple[list[int], Batch]]:
        """Batches, each with the molecules of `found` that are in it."""
        if not len(found.kept):
            return
        t, gt = self.config.tokeniser, self.config.model.family == "gt"
        # The model knows a bond by its features, so kinds may be numbered otherwise than in training.
        hops = 1 if gt else self.config.score.hops
        store = build_store(found.graphs, hops=hops, laplacian=t.laplacian)
        for part in batches(store.sizes, self.config.eval.batch, None):
            tensors = collate(store, part, hf_compat=t.hf_compat, compact=True, bonds=gt)
            if self.normaliser is not None and wanted.descriptors:
                values = self.normaliser(found.descriptors[part])
                tensors["descriptors"] = torch.from_numpy(values)
            smiles = [found.smiles[k] for k in part]
            yield part, Batch(tensors, smiles, found.fingerprints[part])

    def _names(self, outputs: int) -> list[str]:
        names = self.names or [str(k) for k in range(1, outputs + 1)]
        if len(names) != outputs:
            raise UserError(f"the model has {outputs} outputs and task.json names {len(names)}")
        return names

    def guess(self, output_nK: np.ndarray) -> np.ndarray:
        """Numbers in the targets' units, or probabilities."""
        if self.kind == "multiclass":
            return softmax(output_nK)
        if self.kind == "binary":
            return sigmoid(output_nK)
        return (
            output_nK
            if self.scaling is None
            else self.scaling.unscale(torch.from_numpy(output_nK)).numpy()
        )

    def spread(self) -> np.ndarray | None:
        """See SupervisedPredictor.spread; of logarithms where these are learned, as the intervals are."""
        learned = (lambda numbers: numbers) if self.scaling is None else self.scaling.learned
        return spread_of(self.model, lambda output: learned(self.guess(output)))
