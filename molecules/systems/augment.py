"""Random rotations and translations of a system. Both leave a molecule and a crystal what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isoform.molecules.systems.system import System, wrap


def rotated(system: System, rotation: np.ndarray) -> System:
    """Positions and lattice turned by a rotation [3, 3] (x' = R x); fractional coordinates stay."""
    lattice = None if system.lattice is None else system.lattice @ rotation.T
    return replace(system, positions=system.positions @ rotation.T, lattice=lattice)


def translated(system: System, shift: np.ndarray) -> System:
    """A molecule moved by Angstrom [3]; a crystal by fractions of its lattice vectors, wrapped into the cell."""
    if system.lattice is None or system.fractional is None:
        return replace(system, positions=system.positions + shift)
    fractional = wrap(system.fractional + shift)
    return replace(system, fractional=fractional, positions=fractional @ system.lattice)


def centred(system: System) -> System:
    """A molecule with the mean of its atoms at the origin; a crystal as it is, since its origin is free."""
    if system.lattice is not None:
        return system
    return replace(system, positions=system.positions - system.positions.mean(0))


def posed(system: System) -> System:
    """A molecule turned so that its principal axes, the longest first, are x, y and z; a crystal as it is.

    Along x and y the atoms' third moment is positive, and z makes the axes right-handed: rotated copies become equal,
    but for molecules whose symmetry leaves a choice. Mirror images stay different.
    """
    if system.lattice is not None:
        return system
    apart = system.positions - system.positions.mean(0)
    _, axes = np.linalg.eigh(apart.T @ apart)
    x, y = axes[:, 2], axes[:, 1]
    x, y = (axis * (1.0 if ((apart @ axis) ** 3).sum() >= 0 else -1.0) for axis in (x, y))
    return rotated(system, np.stack([x, y, np.cross(x, y)]))


def augment(
    system: System,
    rng: np.random.Generator,
    *,
    rotate: bool = True,
    shift: float = 1.0,
) -> System:
    """A rotation, uniform over all, and a translation, drawn from `rng` alone.

    shift   standard deviation of a molecule's translation, Angstrom; above 0, a crystal's is uniform over its cell
    """
    if rotate:
        system = rotated(system, random_rotation(rng))
    if not shift:
        return system
    return translated(
        system, rng.normal(0.0, shift, 3) if system.lattice is None else rng.random(3)
    )


def random_rotation(random: np.random.Generator) -> np.ndarray:
    """[3, 3] uniform over rotations."""
    from scipy.spatial.transform import Rotation

    quaternion = random.normal(size=4)
    return Rotation.from_quat(quaternion).as_matrix()
