"""Which crystals are one structure, by pymatgen's StructureMatcher, and rates of matching.

The matcher compares primitive cells, scaled to one volume, so another choice of cell or another number of atoms in it
changes nothing. It can't tell a chiral structure from its mirror image, and matching isn't transitive: groups are those
around the first member of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.systems.crystals import structure_of
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.system import System

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Tolerances(NamedTuple):
    """ltol: of lengths, as a part; stol: of places, in units of (volume / atom)^(1/3); angle_tol: degrees."""

    name: str
    ltol: float
    stol: float
    angle_tol: float

    def __str__(self) -> str:
        return (
            f"{self.name}: StructureMatcher(ltol={self.ltol}, stol={self.stol}, "
            f"angle_tol={self.angle_tol:g}); mirror images count as one"
        )


FLAT = 0.1  # cubic Angstrom; a cell below it is compared with nothing
LOOSE = Tolerances("loose", 0.3, 0.5, 10.0)  # of CDVAE, ADiT and most published figures
STRICT = Tolerances("strict", 0.2, 0.3, 5.0)  # pymatgen's own default


class Matcher:
    """pymatgen's matcher, on cells reduced once a system. Raises UserError where pymatgen is absent."""

    def __init__(self, tolerances: Tolerances) -> None:
        with materials("matching crystals"):
            from pymatgen.analysis.structure_matcher import StructureMatcher
        _, ltol, stol, angle_tol = tolerances
        self.tolerances = tolerances
        # Cells are reduced by `prepare`.
        self._matcher = StructureMatcher(ltol, stol, angle_tol, primitive_cell=False, scale=True)

    def prepare(self, system: System) -> Structure | None:
        """Its reduced primitive cell; None where there is none, as in a flat cell."""
        if not FLAT <= system.volume < np.inf:
            return None
        structure = structure_of(system)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return structure.get_reduced_structure().get_primitive_structure()
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            return None

    def distance(self, one: Structure | None, other: Structure | None) -> float | None:
        """Root mean square distance of matched atoms in units of (volume / atom)^(1/3); None where they don't match."""
        if one is None or other is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = self._matcher.get_rms_dist(one, other)
        return None if found is None else float(found[0])


def groups(systems: Sequence[System], tolerances: Tolerances = LOOSE) -> list[list[int]]:
    """Rows of systems that are one structure, groups in the order of their first members, which all others match.

    Systems that can't be compared are in none.
    """
    matcher = Matcher(tolerances)
    made = [matcher.prepare(one) for one in systems]
    out: list[list[int]] = []
    by_formula: dict[str, list[list[int]]] = {}
    for row, structure in enumerate(made):
        if structure is None:
            continue
        alike = by_formula.setdefault(structure.composition.reduced_formula, [])
        for group in alike:
            if matcher.distance(made[group[0]], structure) is not None:
                group.append(row)
                break
        else:
            alike.append([row])
            out.append(alike[-1])
    return out


def novel(
    generated: Sequence[System], training: Sequence[System], tolerances: Tolerances = LOOSE
) -> list[bool | None]:
    """Whether each generated system matches none of the training systems; None where it can't be compared."""
    return [
        None if found is None else not found for found in _matches(generated, training, tolerances)
    ]


def repeated(
    train: Sequence[System], test: Sequence[System], tolerances: Tolerances = LOOSE
) -> Measure:
    """The share of test crystals that a training crystal matches: duplicates between splits."""
    return measure(
        None if found is None else bool(found) for found in _matches(test, train, tolerances)
    )


def same_index(
    made: Sequence[System], truth: Sequence[System], tolerances: Tolerances = LOOSE
) -> tuple[Measure, Measure]:
    """(match rate, RMSE of the matched) where system i is meant to be truth i; what can't be compared doesn't match."""
    matcher = Matcher(tolerances)
    found = [
        matcher.distance(matcher.prepare(one), matcher.prepare(other))
        for one, other in zip(made, truth, strict=True)
    ]
    return measure(one is not None for one in found), measure(found)


def to_reference(
    generated: Sequence[System], reference: Sequence[System], tolerances: Tolerances = LOOSE
) -> tuple[Measure, Measure]:
    """(METRe, cRMSE): every reference structure against every generated one (Martirossyan et al. 2025).

    METRe is the share of reference structures that some generated one matches; cRMSE is the mean of the smallest
    distance to each, stol where there is none. The order of neither list matters, and no reference is left out.
    """
    found = [distances or [] for distances in _matches(reference, generated, tolerances)]
    nearest = [min(distances, default=tolerances.stol) for distances in found]
    return measure(bool(distances) for distances in found), measure(nearest)


def _matches(
    systems: Sequence[System], others: Sequence[System], tolerances: Tolerances
) -> list[list[float] | None]:
    """Distances of each system to those others that match it; None where it can't be compared."""
    matcher = Matcher(tolerances)
    by_formula: dict[str, list[Structure]] = {}
    for one in others:
        structure = matcher.prepare(one)
        if structure is not None:
            by_formula.setdefault(structure.composition.reduced_formula, []).append(structure)
    out: list[list[float] | None] = []
    for one in systems:
        structure = matcher.prepare(one)
        if structure is None:
            out.append(None)
            continue
        alike = by_formula.get(structure.composition.reduced_formula, [])
        distances = [matcher.distance(structure, other) for other in alike]
        out.append([distance for distance in distances if distance is not None])
    return out
