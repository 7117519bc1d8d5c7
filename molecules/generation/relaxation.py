"""Crystals relaxed by CHGNet (Deng et al. 2023, doi:10.1038/s42256-023-00716-3), whose wheel brings its weights.

A machine-learned potential in the place of DFT, and the hull of a few reference crystals in the place of the Materials
Project's: a proxy that ranks, not the S.U.N. rate that is published.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoform.molecules.generation.crystals import judge
from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.generation.reconstruction import displacement
from isoform.molecules.systems.crystals import of_structure, structure_of
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.system import Records, System

FORCE = 0.1  # eV / Angstrom: the largest that is left
STEPS = 200
NEAR_HULL = (
    0.1  # eV / atom, as MatterGen counts stable (Zeni et al. 2025, doi:10.1038/s41586-025-08628-5)
)
RULES = (
    f"CHGNet 0.3.0, relaxed until no force is above {FORCE} eV/Angstrom or after {STEPS} steps, cell and atoms; hull "
    "of the reference crystals of the same elements, relaxed alike: a proxy, not DFT S.U.N.",
)


@dataclass(frozen=True)
class Relaxed:
    """A crystal after its relaxation; energies in eV / atom."""

    system: System
    energy: float
    before: float

    @property
    def settled(self) -> bool:
        """Whether its energy is one that a crystal can have."""
        return bool(np.isfinite(self.energy) and abs(self.energy) < 50)


class Relaxer:
    """CHGNet and its optimiser. Raises UserError where chgnet is absent."""

    def __init__(self) -> None:
        with materials("--stability chgnet", "stability"):
            from chgnet.model import CHGNet, StructOptimizer
        with redirect_stdout(io.StringIO()):
            model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
            self._optimiser = StructOptimizer(model=model, use_device="cpu")

    def relax(self, system: System) -> Relaxed | None:
        """None where atoms collide or the potential gives no answer, as for elements that it doesn't know."""
        if not judge(system).structural:
            return None
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                found: dict[str, Any] = self._optimiser.relax(
                    structure_of(system), fmax=FORCE, steps=STEPS, verbose=False
                )
            except (ValueError, RuntimeError, KeyError, IndexError, ArithmeticError):
                return None
        settled = of_structure(found["final_structure"], system.name)
        energies = [float(one) / len(system) for one in found["trajectory"].energies]
        if not isinstance(settled, System):
            return None
        made = Relaxed(settled, energies[-1], energies[0])
        return made if made.settled else None


def stability_measures(
    records: Records,
    reference: Sequence[System],
    relaxer: Relaxer,
    track: Any = lambda parts, doing: parts,
) -> dict[str, Measure]:
    """Of generated crystals; undetermined is what could not be relaxed, or lies over no hull of the reference.

    relaxed_rmsd    Angstrom between a crystal and what it relaxes to, after the mean shift is taken away
    energy_change   eV / atom, negative
    above_hull      eV / atom; below 0 it is lower than what the reference's crystals can become
    near_hull       share of at most NEAR_HULL
    """
    found = [relaxer.relax(one) for one in track(records.systems, "relaxing")]
    elements = [set(one.numbers.tolist()) for one in records.systems]
    needed = [
        one for one in reference if any(set(one.numbers.tolist()) <= some for some in elements)
    ]
    hull = [made for one in track(needed, "relaxing the reference") if (made := relaxer.relax(one))]
    above = [None if one is None else above_hull(one, hull) for one in found]
    generated = len(records)
    return {
        "relaxed_rmsd": measure(
            (
                None if made is None else displacement(one, made.system)
                for one, made in zip(records.systems, found, strict=True)
            ),
            generated,
        ),
        "energy_change": measure(
            (None if one is None else one.energy - one.before for one in found), generated
        ),
        "above_hull": measure(above, generated),
        "near_hull": measure(
            (None if one is None else one <= NEAR_HULL for one in above), generated
        ),
    }


def above_hull(one: Relaxed, hull: Iterable[Relaxed]) -> float | None:
    """Energy above the lower hull of others, eV / atom; None where these lack one of its elements by itself."""
    with materials("the energy above the hull"):
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    composition = structure_of(one.system).composition
    entries = []
    for other in hull:
        made = structure_of(other.system).composition
        if set(made.elements) <= set(composition.elements):
            entries.append(PDEntry(made, other.energy * len(other.system)))
    alone = {entry.composition.elements[0] for entry in entries if entry.is_element}
    if alone != set(composition.elements):
        return None
    lowest = PhaseDiagram(entries).get_hull_energy_per_atom(composition)
    return one.energy - float(lowest)
