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
    sizes = np.diff(atom_offsets)
    molecule = np.repeat(np.arange(len(bond_offsets) - 1), np.diff(bond_offsets))
    begin, end = np.asarray(ends_2U, np.int64)
    _check_ends(begin, end, molecule, sizes, len(atoms), len(bonds), where)
    order = _paired(begin, end, molecule, where)
    bonds = bonds[order]
    if (bonds[0::2] != bonds[1::2]).any():
        raise UserError(f"{where}: the two directions of a bond have different features")
    ends = np.stack([begin[order], end[order]], 1).astype(np.int32)
    if len(sizes) and not sizes.all():
        raise UserError(f"{where}: graph {int(np.flatnonzero(sizes == 0)[0])} has no atom")
    return PackedGraphs(
        atoms, bonds, ends, atom_offsets.astype(np.int64), bond_offsets.astype(np.int64)
    )


def _check_ends(
    begin: np.ndarray,
    end: np.ndarray,
    molecule: np.ndarray,
    sizes: np.ndarray,
    atoms: int,
    bonds: int,
    where: str,
) -> None:
    """Raises UserError for bonds to atoms that aren't there, and from an atom to itself."""
    if len(molecule) != len(begin) or bonds != len(begin) or atoms != sizes.sum():
        raise UserError(f"{where}: its graphs don't fit together; make it anew")
    if len(begin):
        below = min(begin.min(), end.min()) < 0
        beyond = np.maximum(begin, end) >= sizes[molecule]
        if below or beyond.any():
            raise UserError(f"{where}: a bond ends at an atom that its molecule hasn't got")
    loops = begin == end
    if loops.any():
        raise UserError(f"{where}: graph {molecule[loops][0]} has a bond from an atom to itself")


def _paired(begin: np.ndarray, end: np.ndarray, molecule: np.ndarray, where: str) -> np.ndarray:
    """The order in which the two directions of a bond stand side by side. Raises UserError where one is missing."""
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    backward = begin > end
    order = np.lexsort((backward, high, low, molecule))
    if len(order) % 2:
        raise UserError(f"{where}: a bond goes one way only; molecules need both directions")
    bond = np.stack([molecule, low, high], 1)[order]
    wrong = (bond[0::2] != bond[1::2]).any(1)
    wrong |= backward[order][0::2]
    wrong |= ~backward[order][1::2]
    if wrong.any():
        raise UserError(
            f"{where}: graph {bond[0::2][wrong][0, 0]} has a bond that goes one way only, or twice; molecules need "
            "both directions"
        )
    return order


def categories(values: np.ndarray, where: str, name: str) -> np.ndarray:
    """int16 [rows, columns] of features that are categories. Raises UserError for measured ones and large numbers."""
    values = np.asarray(values)
    values = values[:, None] if values.ndim == 1 else values.reshape(len(values), -1)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise UserError(
                f"{where}: {name} holds measured features; only categories (whole numbers) are known"
            )
        if (
            values.shape[1] > 1
            and len(values)
            and np.isin(values, (0, 1)).all()
            and (values.sum(1) == 1).all()
        ):
            values = values.argmax(1)[:, None]
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.int16).max):
        raise UserError(
            f"{where}: {name} holds {values.min():g} to {values.max():g}; categories are 0 to 32,767"
        )
    return values.astype(np.int16)
