"""How well an autoencoder gives back what it was given, atom by atom in the order of the input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.molecules.generation.matching import LOOSE, Tolerances, same_index
from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.system import System


def reconstruction_measures(
    made: Sequence[System],
    truth: Sequence[System],
    tolerances: Tolerances = LOOSE,
    *,
    match: bool = True,
) -> dict[str, Measure]:
    """Of pairs of systems with as many atoms, all molecules or all crystals. Raises ValueError for other pairs.

    types            share of atoms whose element is right
    rmsd             mean over molecules, Angstrom, after the best rotation and translation; atoms keep their order
    displacement     mean over crystals of the root mean square distance to the nearest image, Angstrom in the true
                     cell, after the mean shift is taken away
    lengths, angles  mean absolute error of the cell, Angstrom and degrees
    matched, rmse    by pymatgen's matcher, see matching.py; not without `match`, for it takes its time
    """
    for one, other in zip(made, truth, strict=True):
        if len(one) != len(other) or one.kind != other.kind:
            raise ValueError(f"{len(one)} atoms of a {one.kind} for {len(other)} of a {other.kind}")
    types = [
        bool(a == b)
        for one, other in zip(made, truth, strict=True)
        for a, b in zip(one.numbers, other.numbers, strict=True)
    ]
    out = {"types": measure(types)}
    if not truth or truth[0].lattice is None:
        pairs = zip(made, truth, strict=True)
        return out | {"rmsd": measure(rmsd(one.positions, other.positions) for one, other in pairs)}
    gaps = [
        np.abs(one.cell() - other.cell()).reshape(2, 3).mean(1)
        for one, other in zip(made, truth, strict=True)
    ]
    out |= {
        "displacement": measure(
            displacement(one, other) for one, other in zip(made, truth, strict=True)
        ),
        "lengths": measure(gap[0] for gap in gaps),
        "angles": measure(gap[1] for gap in gaps),
    }
    if not match:
        return out
    matched, rmse = same_index(made, truth, tolerances)
    return out | {
        f"matched ({tolerances.name})": matched,
        f"rmse ({tolerances.name})": rmse,
    }


def rmsd(made: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square distance of points [N, 3] after the best proper rotation (Kabsch 1976) and translation."""
    a = made - made.mean(0)
    b = truth - truth.mean(0)
    u, scale, v = np.linalg.svd(a.T @ b)
    if (
        np.linalg.det(u) * np.linalg.det(v) < 0
    ):  # the best orthogonal map is a reflection: the next best
        scale[-1] = -scale[-1]
    squared = (a**2).sum() + (b**2).sum() - 2 * scale.sum()
    return float(np.sqrt(max(squared, 0.0) / len(a)))


def superposed(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Points [N, 3] after the proper rotation and translation that lay them best on `truth`, as `rmsd` measures it."""
    a = made - made.mean(0)
    u, _, v = np.linalg.svd(a.T @ (truth - truth.mean(0)))
    u[:, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(v))
    return a @ u @ v + truth.mean(0)


def displacement(made: System, truth: System) -> float | None:
    """Of a crystal's atoms, Angstrom; see `reconstruction_measures`. None where the true cell is flat."""
    with materials("distances in a crystal"):
        from ase.geometry import find_mic
    assert made.fractional is not None and truth.fractional is not None
    assert truth.lattice is not None
    if not truth.volume > 0:
        return None
    gap = made.fractional - truth.fractional
    gap -= np.round(gap)
    # The mean shift on a circle: places differ by whole cells, so each gap is measured from the first atom's.
    around = gap - gap[0]
    around -= np.round(around)
    around -= around.mean(0)
    _, distances = find_mic(around @ truth.lattice, truth.lattice, pbc=True)
    return float(np.sqrt((distances**2).mean()))
