"""Generated crystals judged by themselves: are atoms apart, and does the composition balance charges?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoform.molecules.generation.matching import FLAT, LOOSE, Tolerances, groups, novel
from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.system import Records, System

MOST_ATOMS = 1_000  # of which all pairs are looked at
NEAREST = 0.5  # Angstrom: what is nearer collides (Xie et al. 2022, arXiv:2110.06197)
_MOST_STATES = 1_000_000  # combinations of oxidation states: some seconds
OXIDATION_STATES = "smact14"  # the set of states; the published figures' SMACT had no other


@dataclass(frozen=True)
class Judged:
    """One crystal; None where a judge gave no answer. `distance` is the smallest, NaN in a flat cell."""

    distance: float
    structural: bool | None
    compositional: bool | None

    @property
    def reason(self) -> str:
        """Why it isn't valid, or why that isn't known; empty where it is."""
        said = []
        if self.structural is None:
            said.append("its cell is too extreme to be reduced")
        elif not self.structural:
            near = f"atoms are {self.distance:.2f} Angstrom apart"
            said.append(near if np.isfinite(self.distance) else "its cell has no volume")
        if self.compositional is None:
            said.append("whether its charges balance is not known")
        elif not self.compositional:
            said.append("its charges don't balance")
        return "; ".join(said)

    @property
    def valid(self) -> bool | None:
        """Both; False as soon as one is."""
        answers = (self.structural, self.compositional)
        return False if False in answers else None if None in answers else True


def judge(system: System) -> Judged:
    """A crystal; never raises for what a model made. Raises UserError where ASE or SMACT is absent."""
    if not FLAT <= system.volume < np.inf:
        return Judged(float("nan"), False, balanced(system))
    distance = smallest_distance(system)
    structural = None if distance is None else distance >= NEAREST
    return Judged(float("nan") if distance is None else distance, structural, balanced(system))


def smallest_distance(system: System) -> float | None:
    """The smallest distance between two atoms or an atom and its own periodic images, Angstrom.

    The cell is reduced first (Minkowski), so that in a skewed one the nearest image is found, though it isn't among the
    26 cells around. None where a cell is too extreme to be reduced or holds more than MOST_ATOMS atoms, all pairs of
    which would be looked at. Raises UserError where ASE is absent.
    """
    with materials("distances in a crystal"):
        from ase.geometry import find_mic, minkowski_reduce
    assert system.lattice is not None
    if len(system) > MOST_ATOMS:
        return None
    try:
        reduced, _ = minkowski_reduce(system.lattice)
        first, second = np.triu_indices(len(system), 1)
        images = np.linalg.norm(reduced, axis=1).min()
        if not len(first):
            return float(images)
        gaps = system.positions[first] - system.positions[second]
        _, distances = find_mic(gaps, reduced, pbc=True)
    except (RuntimeError, ValueError, np.linalg.LinAlgError):
        return None
    return float(min(images, distances.min()))


def balanced(system: System) -> bool | None:
    """SMACT's charge balance with Pauling's test; a single element, and metals alone, pass.

    None where SMACT knows no oxidation state or electronegativity of an element (helium, promethium), and where so
    many elements have so many states that trying all would take minutes.
    """
    with materials("the validity of a composition"):
        import smact
        from pymatgen.core import Composition, Element
        from smact.screening import smact_validity
    numbers, counts = np.unique(system.numbers, return_counts=True)
    elements = [Element.from_Z(int(number)) for number in numbers]
    composition = Composition(dict(zip(elements, counts.tolist(), strict=True)))
    try:
        known = [smact.Element(element.symbol) for element in elements]
        states = math.prod(len(one.oxidation_states_smact14 or [0]) for one in known)
        if states > _MOST_STATES and not all(one.symbol in smact.metals for one in known):
            return None
        valid = bool(
            smact_validity(
                composition,
                use_pauling_test=True,
                include_alloys=True,
                oxidation_states_set=OXIDATION_STATES,
            )
        )
    except (NameError, KeyError, TypeError, ValueError):
        return None
    unknown = any(not one.oxidation_states_smact14 or one.pauling_eneg is None for one in known)
    return None if unknown else valid


def crystal_measures(
    records: Records, training: Sequence[System], tolerances: Tolerances = LOOSE
) -> dict[str, Measure]:
    """Every measure of some generated crystals.

    valid is structural and compositional. unique and novel are shares of those that the matcher can compare (a volume,
    and atoms apart), whether their composition balances or not; valid_unique_novel is over all that could be read.
    """
    systems, generated = records.systems, len(records)
    judged = [judge(one) for one in systems]
    out = {
        "valid": measure((one.valid for one in judged), generated),
        "structural": measure((one.structural for one in judged), generated),
        "compositional": measure((one.compositional for one in judged), generated),
    }
    # What collides is compared with nothing: the matcher would be slow, and say nothing.
    apart = [row for row, one in enumerate(judged) if one.structural]
    kept = [systems[row] for row in apart]
    firsts = {apart[group[0]] for group in groups(kept, tolerances)}
    new = dict(zip(apart, novel(kept, training, tolerances), strict=True))
    rows = range(len(systems))
    unique = [None if new.get(row) is None else row in firsts for row in rows]
    out[f"unique ({tolerances.name})"] = measure(unique, generated)
    out[f"novel ({tolerances.name})"] = measure((new.get(row) for row in rows), generated)
    out[f"valid_unique_novel ({tolerances.name})"] = measure(
        (
            None if one.valid is None else bool(one.valid and row in firsts and new.get(row))
            for row, one in enumerate(judged)
        ),
        generated,
    )
    return out
