"""A trained model on molecules and crystals from outside: what its autoencoder gives back of them, and embeddings.

n systems, T atoms of all of them, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch

from isoform.core.data.inputs import list_inputs
from isoform.core.domain import Predictor, TrainedModel
from isoform.core.errors import UserError
from isoform.core.ops.ragged import mean_by_sample
from isoform.molecules.adit.collate import batch_of, systems_of
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.model import Adit, Autoencoder
from isoform.molecules.adit.outputs import distance
from isoform.molecules.state import MoleculesState
from isoform.molecules.systems.augment import centred
from isoform.molecules.systems.read import read_systems
from isoform.molecules.systems.system import System, Unread


class SystemsPredictor(Predictor):
    """An input is a System, or a file of molecules or crystals (systems/read.py).

    Rows say how a system comes back from its latents: input, kind, atoms, right (atoms whose element is right),
    distance (Angstrom, see outputs.distance), error. Features are the mean over atoms of the encoder's states.
    """

    def __init__(self, trained: TrainedModel[AditApp, MoleculesState]) -> None:
        model = trained.model.eval()
        if not isinstance(model, Autoencoder | Adit):
            raise UserError(
                "this run holds a denoiser alone, which reads latents, not systems; name a run with its autoencoder"
            )
        self.config = trained.config
        self.autoencoder = model.autoencoder if isinstance(model, Adit) else model

    def expand(self, inputs: Any) -> Sequence[System | Unread]:
        """The records of every file, and systems as they are."""
        found: list[System | Unread] = []
        for one in list_inputs(inputs):
            if isinstance(one, System | Unread):
                found.append(one)
            else:
                found += read_systems(str(one), "the input").records
        return found

    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """See Predictor.predict."""
        items = self.expand(inputs)
        rows: list[dict[str, Any]] = []
        for number, one in enumerate(items, 1):
            named = one.name or str(number)
            empty = {"kind": None, "atoms": None, "right": None, "distance": None}
            rows.append({"input": named, **empty, "error": self._wrong(one)})
        for places, systems in self._batches(items):
            batch = batch_of(systems)
            _, decoded = self.autoencoder(batch)
            made = {**decoded.structures(batch["offsets"]), "periodic": batch["periodic"]}
            back = systems_of(made, [one.name for one in systems])
            for place, truth, one in zip(places, systems, back, strict=True):
                rows[place] |= {
                    "kind": truth.kind,
                    "atoms": len(truth),
                    "right": int((truth.numbers == one.numbers).sum()),
                    "distance": distance(truth, one),
                }
        return rows

    def embed(self, inputs: Any) -> np.ndarray:
        """float32 [n, D]; NaN of what can't be read. Raises UserError where nothing can."""
        items = self.expand(inputs)
        found = np.full((len(items), self.config.encoder.dim), np.nan, np.float32)
        for places, systems in self._batches(items):
            tokens = self.autoencoder.encoder(self.autoencoder.tokeniser(batch_of(systems)))
            found[places] = mean_by_sample(tokens.x, tokens.offsets).numpy()
        if not np.isfinite(found).any():
            raise UserError(f"none of {len(items)} inputs can be read: {self._wrong(items[0])}")
        return found

    def _wrong(self, one: System | Unread) -> str:
        if isinstance(one, Unread):
            return one.reason
        known = self.config.model.elements
        heaviest = int(one.numbers.max())
        return "" if heaviest < known else f"element {heaviest} is beyond the model's {known - 1}"

    def _batches(
        self, items: Sequence[System | Unread]
    ) -> Iterator[tuple[list[int], list[System]]]:
        """(places, centred systems) of those that can be read, a batch at a time, like sizes together."""
        good = [place for place, one in enumerate(items) if not self._wrong(one)]
        good.sort(key=lambda place: len(cast(System, items[place])))
        size = self.config.eval.batch
        parts = [good[start : start + size] for start in range(0, len(good), size)]
        with torch.no_grad():
            for places in self.track(parts, "reading systems"):
                yield places, [centred(cast(System, items[place])) for place in places]
