"""Properties by which generated systems are laid beside the training set's, as distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rdkit import Chem

from isoform.molecules.generation.crystals import smallest_distance
from isoform.molecules.generation.molecules import bond_lengths
from isoform.molecules.systems.bonds import Undetermined, connected
from isoform.molecules.systems.system import System

MOST = 2_000  # systems of a group that are measured
_PERIODIC = Chem.GetPeriodicTable()
_DALTON = 1.66053906660  # grams a cubic centimetre, of one dalton a cubic Angstrom (CODATA 2018)


@dataclass(frozen=True)
class Property:
    """A distribution: numbers, or shares of names.

    name    with its unit
    whole   its values are whole numbers
    most    names that are shown
    """

    name: str
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    whole: bool = False
    shares: dict[str, float] = field(default_factory=dict)
    most: int = 12


def properties_of(kind: str, systems: Sequence[System]) -> list[Property]:
    """Of molecules, or of crystals, in a fixed order; what a system doesn't have (a bond, a volume) is left out."""
    common = [
        Property("atoms", _values(len, systems), whole=True),
        Property("element, share of atoms", shares=_elements(systems)),
    ]
    return [*common, *(_molecules(systems) if kind == "molecule" else _crystals(systems))]


def _molecules(systems: Sequence[System]) -> list[Property]:
    mols = [mol for mol in map(_bonds, systems) if mol is not None]
    lengths = [value for values in bond_lengths(mols).values() for value in values]
    pieces = [len(Chem.GetMolFrags(mol)) for mol in mols]
    rings = [mol.GetNumBonds() - mol.GetNumAtoms() + n for mol, n in zip(mols, pieces, strict=True)]
    return [
        Property("molecular weight (Da)", _values(weight, systems)),
        Property("independent rings", np.array(rings, float), whole=True),
        Property("connected pieces", np.array(pieces, float), whole=True),
        Property("length of bonds (Å)", np.array(lengths, float)),
    ]


def _crystals(systems: Sequence[System]) -> list[Property]:
    kinds = [len(np.unique(one.numbers)) for one in systems]
    solid = [one for one in systems if np.isfinite(one.volume) and one.volume > 0]
    return [
        Property("elements in a crystal", np.array(kinds, float), whole=True),
        Property("volume an atom (Å³)", _values(lambda one: one.volume / len(one), solid)),
        Property("density (g/cm³)", _values(lambda one: _DALTON * weight(one) / one.volume, solid)),
        Property("smallest distance (Å)", _values(smallest_distance, solid)),
    ]


def weight(system: System) -> float:
    """The sum of its atoms' standard weights, dalton."""
    return float(sum(_PERIODIC.GetAtomicWeight(int(number)) for number in system.numbers))


def _bonds(system: System) -> Chem.Mol | None:
    """Who is bonded, by the sizes of atoms alone."""
    try:
        return connected(system)
    except (ValueError, RuntimeError, Undetermined):
        return None


def _elements(systems: Sequence[System]) -> dict[str, float]:
    numbers = Counter(int(number) for one in systems for number in one.numbers)
    total = numbers.total()
    return {_PERIODIC.GetElementSymbol(number): often / total for number, often in numbers.items()}


def _values(
    of: Callable[[System], float | None],
    systems: Iterable[System],
) -> np.ndarray:
    found = np.array([value for value in map(of, systems) if value is not None], np.float64)
    return found[np.isfinite(found)]
