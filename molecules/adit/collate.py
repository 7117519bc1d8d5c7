"""Systems -> a batch: random changes of each, then all one behind the other.

B systems, T atoms of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isoform.molecules.adit.config import SystemAugmentConfig
from isoform.molecules.adit.tokeniser import Batch
from isoform.molecules.systems.augment import augment, posed
from isoform.molecules.systems.augment import centred as without_shift
from isoform.molecules.systems.system import System, lattice_of, wrap

TOLD = ("numbers", "positions", "fractional")  # what an autoencoder may be told wrongly


@dataclass(frozen=True)
class Sample:
    """A system as it should come back, and as the autoencoder is told it; `index`: its number in its split.

    generate   one of its size and labels is to be generated, to be judged
    """

    truth: System
    told: System
    index: int
    generate: bool = False


def make_sample(
    system: System, index: int, config: SystemAugmentConfig, rng: np.random.Generator | None
) -> Sample:
    """A molecule is centred, and posed where the app poses; then random changes are drawn from `rng`, if given."""
    system = without_shift(system)
    if config.pose == "principal":
        system = posed(system)
    if rng is None:
        return Sample(system, system, index)
    system = augment(system, rng, rotate=config.rotate, shift=config.shift)
    return Sample(system, corrupted(system, config, rng), index)


def corrupted(system: System, config: SystemAugmentConfig, rng: np.random.Generator) -> System:
    """Some atoms without their element, some elsewhere: what a denoising autoencoder (Vincent et al. 2008) is told."""
    if not config.hidden and not (config.moved and config.distance):
        return system
    n = len(system)
    numbers = np.where(rng.random(n) < config.hidden, 0, system.numbers)
    moved = rng.normal(0.0, config.distance, (n, 3)) * (rng.random((n, 1)) < config.moved)
    fractional = system.fractional
    if (
        fractional is not None
        and system.lattice is not None
        and abs(np.linalg.det(system.lattice)) > 0
    ):
        fractional = wrap(fractional + moved @ np.linalg.inv(system.lattice))
    return System(numbers, system.positions + moved, system.lattice, fractional, system.name)


def collate(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """See tokeniser.Batch; beside it "index" and "generate" [B] and, where they differ, "told_numbers" and so on."""
    truth = [one.truth for one in samples]
    batch = batch_of(truth)
    batch["index"] = torch.tensor([one.index for one in samples])
    batch["generate"] = torch.tensor([one.generate for one in samples])
    if any(one.told is not one.truth for one in samples):
        told = batch_of([one.told for one in samples])
        batch |= {f"told_{name}": told[name] for name in TOLD}
    return batch


def batch_of(systems: Sequence[System]) -> dict[str, Tensor]:
    """Systems as the model reads them; see tokeniser.Batch."""
    sizes = [len(one) for one in systems]
    cells = np.stack([one.cell() for one in systems]).astype(np.float32)
    fractional = [
        np.zeros_like(one.positions) if one.fractional is None else one.fractional
        for one in systems
    ]
    return {
        "offsets": torch.from_numpy(np.cumsum([0, *sizes])),
        "numbers": torch.from_numpy(
            np.concatenate([one.numbers for one in systems]).astype(np.int64)
        ),
        "positions": _floats(np.concatenate([one.positions for one in systems])),
        "fractional": _floats(np.concatenate(fractional)),
        "lengths": torch.from_numpy(cells[:, :3].copy()),
        "angles": torch.from_numpy(cells[:, 3:].copy()),
        "periodic": torch.tensor([one.lattice is not None for one in systems]),
        "spacegroups": torch.tensor([one.spacegroup for one in systems]),
    }


def as_told(batch: Batch) -> Batch:
    """What the autoencoder reads of a batch."""
    return {**batch, **{name: batch[f"told_{name}"] for name in TOLD if f"told_{name}" in batch}}


def systems_of(structures: Batch, names: Sequence[str]) -> list[System]:
    """The systems that a decoder made (head.Decoded.structures, and "periodic"), each as it is, sound or not.

    A crystal's places follow from fractional coordinates and lattice. A lattice whose angles close no cell is flat, all
    zeros.
    """
    found = {name: value.detach().cpu().double().numpy() for name, value in structures.items()}
    ends = found["offsets"].astype(np.int64)
    systems = []
    for b, name in enumerate(names):
        atoms = slice(ends[b], ends[b + 1])
        numbers = found["numbers"][atoms].astype(np.int16)
        if not found["periodic"][b]:
            systems.append(System(numbers, found["positions"][atoms], name=name))
            continue
        lattice = _lattice(np.concatenate([found["lengths"][b], found["angles"][b]]))
        fractional = wrap(found["fractional"][atoms])
        systems.append(System(numbers, fractional @ lattice, lattice, fractional, name))
    return systems


def _lattice(cell: np.ndarray) -> np.ndarray:
    try:
        return lattice_of(cell)
    except ValueError:
        return np.zeros((3, 3))


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
