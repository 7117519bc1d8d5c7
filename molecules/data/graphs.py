"""Packed graphs joined and cut, and what the encodings of Graphormer need of them, worked out once for a data set.

n molecules, T atoms, U directed bonds, S pairs (the sum of all N * N), P hops, K kinds of bonds, Fa and Fb features.

A path is kept as the kinds of its bonds, one byte a hop: molecules have few kinds (OGB tells 60 apart), while the
features themselves would take 30 bytes a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isoform.core.errors import UserError
from isoform.molecules.data.paths import UNREACHABLE, shortest_paths
from isoform.molecules.data.records import PackedGraphs

HOPS = 5  # Graphormer's multi_hop_max_dist
COLUMN = 512  # ids of one feature column in Microsoft's tables
MOST_VALUE = COLUMN - 3  # of a feature: ids of the last column must stay within the table
MOST_DEGREE = COLUMN - 2  # the table of degrees has 512 rows, 0 is padding
OGB_BONDS = (5, 6, 2)  # categories of bond type, stereo and conjugation
_FAR = 255  # an unreachable pair where distances are bytes
_PAIRS = 2**18  # of a chunk: its arrays stay within a processor's cache


@dataclass(frozen=True)
class GraphStore:
    """Graphs with their encodings; arrays may be memory-mapped, and are for reading only.

    graphs        the molecules
    kinds         int16 [K + 1, Fb]: the features of a bond of kind k; row 0 is no bond
    codes         uint8 or int16 [U] the kind of every bond
    degree        int16 [T] neighbours in the graph (Graphormer's in- and out-degree are the same)
    distance_codes
                  uint8 or int16 [S] distance ids, molecule after molecule, row-major; in bytes, 255 is unreachable
    path_kinds    uint8 or int16 [S, P] kinds of the first P bonds on the way from row to column, 0 where it is shorter
    pair_offsets  int64 [n + 1] molecule m owns pairs pair_offsets[m] to pair_offsets[m + 1]
    laplacian     float32 [T, k] Laplacian eigenvectors; k = 0 without
    """

    graphs: PackedGraphs
    kinds: np.ndarray
    codes: np.ndarray
    degree: np.ndarray
    distance_codes: np.ndarray
    path_kinds: np.ndarray
    pair_offsets: np.ndarray
    laplacian: np.ndarray

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def hops(self) -> int:
        """P."""
        return self.path_kinds.shape[1]

    @cached_property
    def sizes(self) -> np.ndarray:
        """[n] atoms of each molecule."""
        return self.graphs.sizes

    def distance_ids(self, pairs: np.ndarray) -> np.ndarray:
        """int16, of any pairs: rows of Graphormer's table of distances, bonds + 1; 511 = unreachable (510 + 1)."""
        return self._distance_id_of_code.take(self.distance_codes.take(pairs))

    @cached_property
    def _distance_id_of_code(self) -> np.ndarray:
        ids = np.arange(COLUMN, dtype=np.int16)
        if self.distance_codes.dtype == np.uint8:
            ids[_FAR] = UNREACHABLE + 1
        return ids

    @cached_property
    def kind_bond_ids(self) -> np.ndarray:
        """int16 [K + 1, Fb] by kind: rows of Microsoft's table of bond features, 3 + 512 * column + value; 0: none."""
        return bond_ids(self.kinds)


def bond_ids(kinds: np.ndarray) -> np.ndarray:
    """Kinds [K + 1, Fb] -> int16 ids of the same shape: 3 + 512 * column + value, and 0 in row 0."""
    ids = kinds + (3 + COLUMN * np.arange(kinds.shape[1], dtype=np.int16))
    ids[0] = 0
    return ids.astype(np.int16)


def build_store(
    graphs: PackedGraphs, *, hops: int = HOPS, kinds: np.ndarray | None = None, laplacian: int = 0
) -> GraphStore:
    """Works out degrees, distances and paths of all molecules.

    kinds      of a store whose codes this one is to share (that of the training data); OGB's 60 where the bonds fit
               them, else those that occur
    laplacian  number of Laplacian eigenvectors

    Raises UserError for features that have no row in Microsoft's tables, and for a bond of none of the `kinds`.
    """
    check(graphs)
    kinds = kinds_of(graphs.bonds) if kinds is None else kinds
    codes = _codes(graphs.bonds, kinds)
    sizes = graphs.sizes
    pair_offsets = offsets_of(sizes.astype(np.int64) ** 2)
    small = (
        sizes.max(initial=0) < _FAR
    )  # a way has fewer bonds than its molecule atoms, and 1 is added
    distance_codes = np.empty(pair_offsets[-1], np.uint8 if small else np.int16)
    path_kinds = np.empty((pair_offsets[-1], hops), codes.dtype)
    degree = np.empty(len(graphs.atoms), np.int16)
    for members in _chunks(sizes):
        dense, real = _dense(graphs, codes, members)
        found = shortest_paths(dense, hops)
        apart = found.distance + 1
        if small:
            apart[apart > UNREACHABLE] = _FAR
        both = real[:, :, None] & real[:, None, :]
        at = ranges(pair_offsets[members], sizes[members] ** 2)
        distance_codes[at] = apart[both]
        path_kinds[at] = found.codes[both]
        degree[ranges(graphs.atom_offsets[members], sizes[members])] = (dense > 0).sum(-1)[real]
    if degree.max(initial=0) > MOST_DEGREE:
        raise UserError(
            f"molecule {_owner(graphs.atom_offsets, int(degree.argmax()))}: an atom has {degree.max()} neighbours, "
            f"more than {MOST_DEGREE}; leave it out with a smaller data.max_atoms"
        )
    if laplacian:
        from isoform.molecules.data.laplacian import eigenvectors

        vectors = eigenvectors(graphs, laplacian)
    else:
        vectors = np.zeros((len(graphs.atoms), 0), np.float32)
    return GraphStore(
        graphs, kinds, codes, degree, distance_codes, path_kinds, pair_offsets, vectors
    )


def kinds_of(bonds: np.ndarray) -> np.ndarray:
    """int16 [K + 1, Fb]: OGB's 60 kinds where bonds [U, Fb] fit them, else the ones that occur; row 0 is no bond."""
    if bonds.shape[1] == len(OGB_BONDS) and (bonds < OGB_BONDS).all():
        found = np.indices(OGB_BONDS, np.int16).reshape(len(OGB_BONDS), -1).T
    else:
        found = np.unique(bonds, axis=0)
    return np.concatenate([np.zeros((1, bonds.shape[1]), np.int16), found.astype(np.int16)])


def _codes(bonds: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """[U] the kind of every bond; uint8 where that is enough."""
    if len(kinds) > np.iinfo(np.int16).max:
        raise UserError(
            f"the bonds have {len(kinds) - 1} sets of features, more than 32,766: bin some"
        )
    if bonds.shape[1] != kinds.shape[1]:
        raise UserError(
            f"the bonds have {bonds.shape[1]} features where the model knows {kinds.shape[1]}"
        )
    radix = np.concatenate([kinds, bonds]).max(0, initial=0).astype(np.int64) + 1
    known, wanted = _number(kinds[1:], radix), _number(bonds, radix)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    if len(bonds) and (len(known) == 0 or (known[order[place]] != wanted).any()):
        odd = bonds[known[order[place]] != wanted][0] if len(known) else bonds[0]
        raise UserError(f"a bond has the features {odd.tolist()}, which the model has never seen")
    dtype = np.uint8 if len(kinds) <= 256 else np.int16
    return (order[place] + 1).astype(dtype) if len(bonds) else np.zeros(0, dtype)


def _number(rows: np.ndarray, radix: np.ndarray) -> np.ndarray:
    """One integer a row, different for different rows of values below `radix`."""
    number = np.zeros(len(rows), np.int64)
    for column, base in enumerate(radix.tolist()):
        number = number * base + rows[:, column]
    return number


def check(graphs: PackedGraphs) -> None:
    """Raises UserError where the values of a feature are no categories of Microsoft's tables, or a bond has no end."""
    parts = (
        ("atom", graphs.atoms, graphs.atom_offsets),
        ("bond", graphs.bonds, graphs.bond_offsets),
    )
    for name, features, offsets in parts:
        wrong = (features < 0) | (features > MOST_VALUE)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"molecule {_owner(offsets, int(row))}: {name} feature {column} is {features[row, column]}; features "
                f"are categories from 0 to {MOST_VALUE}, so bin larger ones"
            )
    if (graphs.sizes < 1).any():
        raise UserError(f"molecule {int((graphs.sizes < 1).argmax())} has no atoms; leave it out")
    size = np.repeat(graphs.sizes, np.diff(graphs.bond_offsets))
    loose = (graphs.ends < 0).any(1) | (graphs.ends >= size[:, None]).any(1)
    if loose.any():
        row = int(loose.argmax())
        owner, ends = _owner(graphs.bond_offsets, row), graphs.ends[row].tolist()
        raise UserError(f"molecule {owner}: a bond joins atoms {ends} where there are {size[row]}")


def _owner(offsets: np.ndarray, row: int) -> int:
    return int(np.searchsorted(offsets, row, side="right")) - 1


def concatenate(parts: Sequence[PackedGraphs]) -> PackedGraphs:
    """Several packed graphs as one, in their order; at least one part."""
    return PackedGraphs(
        np.concatenate([part.atoms for part in parts]),
        np.concatenate([part.bonds for part in parts]),
        np.concatenate([part.ends for part in parts]),
        _chained([part.atom_offsets for part in parts]),
        _chained([part.bond_offsets for part in parts]),
    )


def select(graphs: PackedGraphs, rows: np.ndarray) -> PackedGraphs:
    """The graphs with those numbers, in that order."""
    rows = np.asarray(rows, np.int64)
    n_atoms, n_bonds = graphs.sizes[rows], np.diff(graphs.bond_offsets)[rows]
    atoms, bonds = (
        ranges(graphs.atom_offsets[rows], n_atoms),
        ranges(graphs.bond_offsets[rows], n_bonds),
    )
    return PackedGraphs(
        graphs.atoms[atoms],
        graphs.bonds[bonds],
        graphs.ends[bonds],
        offsets_of(n_atoms),
        offsets_of(n_bonds),
    )


def pack(graphs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> PackedGraphs:
    """(atoms [N, Fa], bonds [E, Fb], ends [E, 2]) of every molecule -> packed; at least one molecule."""
    atoms, bonds, ends = (np.concatenate([graph[part] for graph in graphs]) for part in range(3))
    return PackedGraphs(
        atoms.astype(np.int16),
        bonds.astype(np.int16),
        ends.astype(np.int32),
        offsets_of([len(graph[0]) for graph in graphs]),
        offsets_of([len(graph[1]) for graph in graphs]),
    )


def offsets_of(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of the counted things begins and the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: start, start + 1, ... (length of them) for every start, one after the other."""
    lengths = np.asarray(lengths, np.int64)
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _chained(offsets: Sequence[np.ndarray]) -> np.ndarray:
    return offsets_of(np.concatenate([np.diff(part) for part in offsets]))


def _chunks(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Molecules of about one size, some _PAIRS pairs together (one molecule at least)."""
    order = np.argsort(sizes, kind="stable")
    ascending, start = sizes[order], 0
    while start < len(order):
        largest = ascending[start] + ascending[start] // 8
        alike = int(np.searchsorted(ascending, largest, side="right"))
        stop = min(alike, start + max(1, int(_PAIRS // largest**2)))
        yield order[start:stop]
        start = stop


def _dense(
    graphs: PackedGraphs, codes: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the bonds [B, N, N] (of several between two atoms the last), and which atoms are real [B, N]."""
    sizes, n_bonds = graphs.sizes[members], np.diff(graphs.bond_offsets)[members]
    n = int(sizes.max())
    dense = np.zeros((len(members), n, n), codes.dtype)
    bonds = ranges(graphs.bond_offsets[members], n_bonds)
    begin, end = graphs.ends[bonds].T
    dense[np.repeat(np.arange(len(members)), n_bonds), begin, end] = codes[bonds]
    return dense, np.arange(n) < sizes[:, None]
