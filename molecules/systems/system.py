"""One all-atom representation of molecules and crystals.

A molecule is elements and Cartesian coordinates; a crystal has a lattice too, and fractional coordinates in it. Lengths
are in Angstrom, angles in degrees, rows of a lattice are its vectors. N atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

MOST_NUMBER = 118  # oganesson


@dataclass(frozen=True)
class System:
    """A molecule, or the unit cell of a crystal; made by `molecule` or `crystal`, which keep its parts consistent.

    numbers     int16 [N] atomic numbers; isotopes are their element (deuterium is 1)
    positions   float64 [N, 3] Cartesian
    lattice     float64 [3, 3], or None of a molecule: systems are periodic in all three directions or in none
    fractional  float64 [N, 3] in [0, 1), or None; positions = fractional @ lattice
    spacegroup  1 to 230 where the source says it, else 0
    """

    numbers: np.ndarray
    positions: np.ndarray
    lattice: np.ndarray | None = None
    fractional: np.ndarray | None = None
    name: str = ""
    spacegroup: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def kind(self) -> str:
        """ "molecule" or "crystal"."""
        return "molecule" if self.lattice is None else "crystal"

    @property
    def pbc(self) -> tuple[bool, bool, bool]:
        """Periodic along each lattice vector or not, as ASE has it."""
        periodic = self.lattice is not None
        return periodic, periodic, periodic

    @property
    def volume(self) -> float:
        """Of the unit cell, cubic Angstrom; NaN of a molecule."""
        return float("nan") if self.lattice is None else abs(float(np.linalg.det(self.lattice)))

    def cell(self) -> np.ndarray:
        """[6] the lattice's lengths and angles (alpha, beta, gamma); zeros of a molecule."""
        return np.zeros(6) if self.lattice is None else cell_of(self.lattice)


class Unread(NamedTuple):
    """A record that is no system, and why; it keeps its place, so that every denominator counts it."""

    name: str
    reason: str


@dataclass(frozen=True)
class Records:
    """What a source holds, record by record, those that can't be read included; findings are said, a line each."""

    records: list[System | Unread]
    origin: str = ""
    sha256: str = ""
    findings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def systems(self) -> list[System]:
        """The records that could be read."""
        return [one for one in self.records if isinstance(one, System)]

    @property
    def unread(self) -> list[Unread]:
        """The records that could not."""
        return [one for one in self.records if isinstance(one, Unread)]


def molecule(numbers: np.ndarray, positions: np.ndarray, name: str = "") -> System:
    """A molecule. Raises ValueError, as part of a sentence, for what is none (see `_checked`)."""
    numbers, positions = _checked(numbers, positions)
    return System(numbers, positions, name=name)


def crystal(
    numbers: np.ndarray,
    fractional: np.ndarray,
    lattice: np.ndarray,
    name: str = "",
    spacegroup: int = 0,
) -> System:
    """A crystal; fractional coordinates are wrapped into [0, 1), so that -0.2 and 0.8 are one place.

    A flat lattice (volume 0) is one: generated cells may be flat, and are then counted as such. Raises ValueError for
    coordinates or lattices that aren't finite.
    """
    numbers, fractional = _checked(numbers, fractional)
    lattice = np.asarray(lattice, np.float64)
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all():
        raise ValueError("its lattice is not nine finite numbers")
    wrapped = wrap(fractional)
    return System(numbers, wrapped @ lattice, lattice, wrapped, name, spacegroup)


def wrap(fractional: np.ndarray) -> np.ndarray:
    """The same places in [0, 1); what rounds to 1 is 0."""
    wrapped = fractional % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)


def cell_of(lattice: np.ndarray) -> np.ndarray:
    """Lattices [..., 3, 3] as lengths a, b, c and angles alpha, beta, gamma [..., 6]; 90 where a length is 0."""
    lengths = np.linalg.norm(lattice, axis=-1)
    cosines = []
    for j, k in ((1, 2), (0, 2), (0, 1)):
        dot = (lattice[..., j, :] * lattice[..., k, :]).sum(-1)
        size = lengths[..., j] * lengths[..., k]
        cosines.append(np.divide(dot, size, out=np.zeros_like(dot), where=size > 0))
    angles = np.degrees(np.arccos(np.clip(np.stack(cosines, -1), -1.0, 1.0)))
    return np.concatenate([lengths, angles], -1)


def lattice_of(cell: np.ndarray) -> np.ndarray:
    """[6] lengths and angles as the lattice [3, 3] with a along x and b in the plane of x and y.

    Only cosines of angles count, so a negative angle gives the cell of its absolute value. Raises ValueError where
    three such angles close no cell.
    """
    a, b, c = cell[:3]
    alpha, beta, gamma = np.cos(np.radians(cell[3:]))
    height = 1 - alpha**2 - beta**2 - gamma**2 + 2 * alpha * beta * gamma
    sine = np.sqrt(max(1 - gamma**2, 0.0))
    if not height > 0 or not sine > 0:
        raise ValueError(f"angles {', '.join(f'{x:g}' for x in cell[3:])} close no cell")
    side = (alpha - beta * gamma) / sine
    rows = [[a, 0, 0], [b * gamma, b * sine, 0], [c * beta, c * side, c * np.sqrt(height) / sine]]
    return np.array(rows, np.float64)


def _checked(numbers: np.ndarray, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.asarray(numbers, np.int64)
    coordinates = np.asarray(coordinates, np.float64)
    if not len(numbers):
        raise ValueError("it has no atom")
    if coordinates.shape != (len(numbers), 3):
        raise ValueError(f"it has {len(numbers)} elements and {len(coordinates)} places")
    if (numbers < 1).any() or (numbers > MOST_NUMBER).any():
        wrong = numbers[(numbers < 1) | (numbers > MOST_NUMBER)][0]
        raise ValueError(f"{wrong} is no atomic number")
    if not np.isfinite(coordinates).all():
        raise ValueError("its coordinates are not finite numbers")
    return numbers.astype(np.int16), coordinates
