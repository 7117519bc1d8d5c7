"""What a source of molecules is read as: SMILES or graphs, names, labels and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class PackedGraphs:
    """Molecular graphs one behind the other; T atoms, U directed bonds, Fa and Fb features.

    atoms         int16 [T, Fa] raw OGB indices: atomic number - 1, chirality, degree, formal charge + 5, hydrogens,
                  radical electrons, hybridisation, aromatic, in ring (or a data set's own categories)
    bonds         int16 [U, Fb] raw indices: type, stereo, conjugated; each bond as i -> j, then as j -> i
    ends          int32 [U, 2] the two atoms, numbered within their molecule
    atom_offsets  int64 [n + 1] molecule m owns atoms atom_offsets[m] to atom_offsets[m + 1]
    bond_offsets  int64 [n + 1] the same for directed bonds
    """

    atoms: np.ndarray
    bonds: np.ndarray
    ends: np.ndarray
    atom_offsets: np.ndarray
    bond_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.atom_offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """[n] atoms of each molecule."""
        return np.diff(self.atom_offsets)

    def graph(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(atoms [N, Fa], bonds [E, Fb], ends [E, 2]) of one molecule."""
        a, b = self.atom_offsets[index : index + 2], self.bond_offsets[index : index + 2]
        return self.atoms[a[0] : a[1]], self.bonds[b[0] : b[1]], self.ends[b[0] : b[1]]


@dataclass(frozen=True, kw_only=True)
class Molecules:
    """A table of n molecules, as read, standardised and split, before any of them became a graph.

    smiles and names are as the source gives them ("line 7" where it has no names); `targets` holds NaN where a label is
    missing; `split` holds "train", "val", "test", or "" where the source leaves it open. A source of graphs without
    SMILES sets `graphs`; an SD file sets `blocks`, whose stereo chemistry SMILES may lack.
    """

    smiles: Sequence[str]
    names: Sequence[str]
    targets: np.ndarray  # float64 [n, K]
    target_names: Sequence[str]
    units: Sequence[str]  # "" where unknown
    bounds: np.ndarray | None = (
        None  # int8 [n, K], 1 or -1 where the truth is the label or more, or less; 0 exact
    )
    unlearned: Sequence[tuple[str, str]] = ()  # (column, why it is no target)
    split: np.ndarray | None = None
    weight: np.ndarray | None = None
    groups: Sequence[str] | None = None  # rows with the same one share a split; "" stands alone
    graphs: PackedGraphs | None = None
    blocks: Sequence[str] | None = None
    origin: str = ""
    licence: str = "unknown"
    sha256: str = ""
    skipped: Sequence[tuple[str, str]] = ()  # (name, why)
    findings: Sequence[str] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.names)
