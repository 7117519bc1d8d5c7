"""Graphs as torch-geometric holds them -> PackedGraphs. n molecules, T atoms, U directed bonds."""

from __future__ import annotations

import numpy as np

from isoform.core.errors import UserError
from isoform.molecules.data.records import PackedGraphs


def pack(
    x: np.ndarray,
    ends_2U: np.ndarray,
    attributes: np.ndarray | None,
    atom_offsets: np.ndarray,
    bond_offsets: np.ndarray,
    where: str,
) -> PackedGraphs:
    """x [T, Fa] and attributes [U, Fb] (zeros if None) of whole numbers, ends [2, U] numbered within each molecule.

    Bonds are put as i -> j, then j -> i. One-hot columns become the number of their one; both directions of a bond must
    be there, with the same attributes. Raises UserError for anything else.
    """
    atoms = categories(x, where, "x")
    if attributes is None:
        attributes = np.zeros((ends_2U.shape[1], 1), np.int16)
    bonds = categories(attributes, where, "edge_attr")
    n, molecule = len(atom_offsets) - 1, np.repeat(np.arange(len(bond_offsets) - 1), np.diff(bond_offsets))
    sizes = np.diff(atom_offsets)
    begin, end = np.asarray(ends_2U, np.int64)
    if len(molecule) != len(begin) or len(bonds) != len(begin) or len(atoms) != atom_offsets[-1]:
        raise UserError(f"{where}: its graphs don't fit together; make it anew")
    if len(begin) and (min(begin.min(), end.min()) < 0 or (np.maximum(begin, end) >= sizes[molecule]).any()):
        raise UserError(f"{where}: a bond ends at an atom that its molecule hasn't got")
    loops = begin == end
    if loops.any():
        raise UserError(f"{where}: graph {molecule[loops][0]} has a bond from an atom to itself")
    # Sorted by molecule, lower end, upper end and direction, the two directions of a bond stand side by side.
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    order = np.lexsort((begin > end, high, low, molecule))
    pairs = np.stack([molecule[order], low[order], high[order], begin[order] > end[order]], 1)
    if len(pairs) % 2:
        raise UserError(f"{where}: a bond goes one way only; molecules need both directions")
    there, back = pairs[0::2], pairs[1::2]
    wrong = (there[:, :3] != back[:, :3]).any(1) | there[:, 3].astype(bool) | ~back[:, 3].astype(bool)
    if wrong.any():
        raise UserError(
            f"{where}: graph {there[wrong][0, 0]} has a bond that goes one way only, or twice; molecules need "
            "both directions"
        )
    bonds = bonds[order]
    if (bonds[0::2] != bonds[1::2]).any():
        raise UserError(f"{where}: the two directions of a bond have different features")
    ends = np.stack([begin[order], end[order]], 1).astype(np.int32)
    if n and not sizes.all():
        raise UserError(f"{where}: graph {int(np.flatnonzero(sizes == 0)[0])} has no atom")
    return PackedGraphs(atoms, bonds, ends, atom_offsets.astype(np.int64), bond_offsets.astype(np.int64))


def categories(values: np.ndarray, where: str, name: str) -> np.ndarray:
    """int16 [rows, columns] of features that are categories. Raises UserError for measured ones and large numbers."""
    values = np.asarray(values)
    values = values[:, None] if values.ndim == 1 else values.reshape(len(values), -1)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise UserError(f"{where}: {name} holds measured features; only categories (whole numbers) are known")
        if values.shape[1] > 1 and len(values) and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all():
            values = values.argmax(1)[:, None]
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.int16).max):
        raise UserError(f"{where}: {name} holds {values.min():g} to {values.max():g}; categories are 0 to 32,767")
    return values.astype(np.int16)
