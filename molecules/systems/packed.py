"""Many systems as a few arrays, one behind the other: what training holds of a data set. n systems, T atoms in all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from isoform.molecules.systems.system import System


@dataclass(frozen=True)
class Systems:
    """Ragged: system i owns atoms offsets[i] to offsets[i + 1], and nothing is padded.

    numbers     int16 [T]
    positions   float32 [T, 3] Angstrom; float32 keeps them to 1e-6 of their size
    fractional  float32 [T, 3], zeros of molecules
    lattices    float32 [n, 3, 3], zeros of molecules
    periodic    bool [n]
    spacegroups int16 [n], 0 where unknown
    offsets     int64 [n + 1]
    names       n texts
    """

    numbers: np.ndarray
    positions: np.ndarray
    fractional: np.ndarray
    lattices: np.ndarray
    periodic: np.ndarray
    spacegroups: np.ndarray
    offsets: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.periodic)

    @property
    def sizes(self) -> np.ndarray:
        """[n] atoms of each."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> System:
        """One system, in float64. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        atoms = slice(*self.offsets[index : index + 2])
        periodic = bool(self.periodic[index])
        return System(
            self.numbers[atoms],
            self.positions[atoms].astype(np.float64),
            self.lattices[index].astype(np.float64) if periodic else None,
            self.fractional[atoms].astype(np.float64) if periodic else None,
            self.names[index],
            int(self.spacegroups[index]),
        )

    def take(self, rows: np.ndarray) -> Systems:
        """The systems of some rows, in their order."""
        rows = np.asarray(rows, np.int64)
        sizes = self.sizes[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        atoms = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], sizes)
        return Systems(
            self.numbers[atoms],
            self.positions[atoms],
            self.fractional[atoms],
            self.lattices[rows],
            self.periodic[rows],
            self.spacegroups[rows],
            offsets,
            [self.names[row] for row in rows],
        )


class Chosen(Sequence[System]):
    """Some of many systems, in the order of their rows; each is made when it is asked for."""

    def __init__(self, systems: Systems, rows: np.ndarray) -> None:
        self.systems, self.rows = systems, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> System: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> System | Chosen:
        if isinstance(index, slice):
            return Chosen(self.systems, self.rows[index])
        return self.systems[int(self.rows[index])]


def pack(systems: Iterable[System]) -> Systems:
    """Systems one behind the other."""
    systems = list(systems)
    flat = np.zeros((3, 3), np.float32)
    none = np.zeros((0, 3), np.float32)
    sizes = [len(one) for one in systems]
    places = [
        np.zeros_like(one.positions) if one.fractional is None else one.fractional
        for one in systems
    ]
    cells = [flat if one.lattice is None else one.lattice for one in systems]
    return Systems(
        np.concatenate([np.zeros(0, np.int16), *(one.numbers for one in systems)]),
        np.concatenate([none, *(one.positions for one in systems)]).astype(np.float32),
        np.concatenate([none, *places]).astype(np.float32),
        np.array(cells, np.float32).reshape(-1, 3, 3),
        np.array([one.lattice is not None for one in systems], bool),
        np.array([one.spacegroup for one in systems], np.int16),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        [one.name for one in systems],
    )


def join(parts: Sequence[Systems]) -> Systems:
    """Several packed sets, one behind the other."""
    sizes = np.concatenate([np.zeros(0, np.int64), *(one.sizes for one in parts)])
    return Systems(
        np.concatenate([one.numbers for one in parts]),
        np.concatenate([one.positions for one in parts]),
        np.concatenate([one.fractional for one in parts]),
        np.concatenate([one.lattices for one in parts]),
        np.concatenate([one.periodic for one in parts]),
        np.concatenate([one.spacegroups for one in parts]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        [name for one in parts for name in one.names],
    )
