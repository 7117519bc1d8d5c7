"""What one pass over a split adds up to: systems that came back, or that were generated, and their measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isoform.core.domain import MetricAccumulator
from isoform.molecules.adit.collate import systems_of
from isoform.molecules.adit.sampling.items import items_of
from isoform.molecules.generation.reconstruction import reconstruction_measures
from isoform.molecules.generation.score import Scores
from isoform.molecules.systems.system import System, Unread

if TYPE_CHECKING:
    from isoform.molecules.adit.task import AutoencoderTask, DenoiserTask

KINDS = ("molecule", "crystal")
OF_WHOLES = (  # how names of shares of systems begin: what is no system fails
    *("valid", "largest_valid", "connected", "molecule_stable", "posebusters"),  # of molecules
    *("structural", "compositional"),  # of crystals
)
OF_CELLS = ("loss_lengths", "loss_angles")  # losses of a system; the others are of its atoms


class Reconstructed(MetricAccumulator):
    """Every system beside what came back of it."""

    def __init__(self, task: AutoencoderTask, split: str) -> None:
        self.task, self.split = task, split
        self.found: dict[int, dict[str, Any]] = {}  # by number in the split

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        self.add_part(indices, outputs, range(len(indices)))

    def add_part(
        self, indices: Sequence[int], outputs: Mapping[str, np.ndarray], places: Sequence[int]
    ) -> None:
        """See MetricAccumulator.add_part; a row is of an atom, or of a system."""
        truth = [self.task.system(self.split, index) for index in indices]
        made = systems_of(_tensors(outputs), [one.name for one in truth])
        starts = outputs["offsets"][:-1]
        sizes = np.diff(outputs["offsets"])
        losses = {}  # [B, 2] a system's sum, and of how many
        for name, value in outputs.items():
            if name.startswith("loss_"):
                of_atoms = name not in OF_CELLS
                sums = np.add.reduceat(value, starts) if of_atoms else value
                losses[name] = np.stack([sums, sizes if of_atoms else np.ones(len(sizes))], 1)
        for b in places:
            own = {name: value[b] for name, value in losses.items()}
            self.found[indices[b]] = {"truth": truth[b], "made": made[b], **own}

    def metrics(self) -> dict[str, float]:
        """Task.metrics of the outputs."""
        return self.task.metrics(self.split, self.outputs())

    def outputs(self) -> dict[str, np.ndarray]:
        """{"truth", "made"} systems and each loss [N, 2], in the order of the split."""
        rows = [self.found[index] for index in sorted(self.found)]
        return {
            name: _array([row[name] for row in rows])
            if name in ("truth", "made")
            else np.array([row[name] for row in rows])
            for name in rows[0]
        }


def reconstruction_metrics(outputs: Mapping[str, np.ndarray], *, match: bool) -> dict[str, float]:
    """The loss, see reconstruction.py, and the parts of the loss; beside molecules, crystals' names begin so.

    match   pymatgen's matcher compares crystals too, which takes its time
    """
    parts = {
        name: float(value[:, 0].sum() / value[:, 1].sum())
        for name, value in outputs.items()
        if name.startswith("loss_")
    }
    pairs = zip(outputs["truth"].tolist(), outputs["made"].tolist(), strict=True)
    return {"loss": sum(parts.values()), **_back(pairs, match=match), **parts}


def back_metrics(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How a denoiser's autoencoder gives systems back, names beginning with "back_": no sample can be better."""
    pairs = zip(outputs["truth"].tolist(), outputs["back"].tolist(), strict=True)
    return {f"back_{name}": value for name, value in _back(pairs, match=False).items()}


def _back(pairs: Iterable[tuple[System, System]], *, match: bool) -> dict[str, float]:
    pairs, found = list(pairs), dict[str, float]()
    by_kind = {kind: [pair for pair in pairs if pair[0].kind == kind] for kind in KINDS}
    several = all(by_kind.values())
    for kind, own in by_kind.items():
        if own:
            truth, made = zip(*own, strict=True)
            prefix = "crystal_" if several and kind == "crystal" else ""
            measures = reconstruction_measures(made, truth, match=match)
            found |= _named({name: one.value for name, one in measures.items()}, prefix)
    return found


class Generated(MetricAccumulator):
    """Losses, and the systems that were generated; judged beside training data and shuffled atoms."""

    def __init__(self, task: DenoiserTask, split: str) -> None:
        self.task, self.split = task, split
        self.losses: dict[int, float] = {}
        self.made: dict[int, System | Unread] = {}
        self.back: dict[
            int, tuple[System, System]
        ] = {}  # truth, and what the autoencoder makes of it

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        self.add_part(indices, outputs, range(len(indices)))
        if "offsets" in outputs:
            asked = [index for index in indices if index in self.task.asked]
            names = [f"generated {index + 1}" for index in asked]
            self.made |= dict(zip(asked, items_of(_tensors(outputs), names), strict=True))

    def add_part(
        self, indices: Sequence[int], outputs: Mapping[str, np.ndarray], places: Sequence[int]
    ) -> None:
        """See MetricAccumulator.add_part; without what was generated, which is of no sample."""
        self.losses |= {indices[b]: float(outputs["loss"][b]) for b in places}
        if "offsets" in outputs:
            truth = [self.task.system(self.split, index) for index in indices]
            back = systems_of(_tensors(outputs, "back_"), [one.name for one in truth])
            self.back |= {indices[b]: (truth[b], back[b]) for b in places}

    def metrics(self) -> dict[str, float]:
        """Task.metrics of the outputs."""
        return self.task.metrics(self.split, self.outputs())

    def outputs(self) -> dict[str, np.ndarray]:
        """{"loss" [N]} in the order of the split; of what was generated, which is less, "made" and "kind".

        "truth" and "back": systems of the batches in which any was, and what the autoencoder gives back of them.
        """
        order, pairs = sorted(self.made), [self.back[index] for index in sorted(self.back)]
        return {
            "loss": np.array([self.losses[index] for index in sorted(self.losses)]),
            "made": _array([self.made[index] for index in order]),
            "kind": np.array([self.task.system(self.split, index).kind for index in order]),
            "truth": _array([truth for truth, _ in pairs]),
            "back": _array([back for _, back in pairs]),
        }


def metrics_of(scores: Mapping[str, Scores]) -> dict[str, float]:
    """The values of what was generated by name; crystals' names begin so.

    A number alone tells of no denominator: what came out as no system counts against the shares of OF_WHOLES.
    """
    found: dict[str, float] = {}
    for kind, score in scores.items():
        values = {
            name: one.of_answered() if name.startswith(OF_WHOLES) else one.value
            for name, one in score.rows["generated"].items()
        }
        found |= _named(values, "crystal_" if kind == "crystal" else "")
    return found


def _named(values: Mapping[str, float | None], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}{name.replace(' (', '_').rstrip(')')}": value
        for name, value in values.items()
        if value is not None
    }


def _tensors(outputs: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, torch.Tensor]:
    names = ("offsets", "numbers", "positions", "fractional", "lengths", "angles", "periodic")
    return {name: torch.from_numpy(outputs[f"{prefix}{name}"]) for name in names}


def _array(systems: Sequence[System | Unread]) -> np.ndarray:
    found = np.empty(len(systems), dtype=object)
    found[:] = systems
    return found
