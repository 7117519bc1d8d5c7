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


def augment(system: System, seed: tuple[int, int, int], spread: float = 1.0) -> System:
    """One rotation, uniform over all, and one translation: a function of seed = (seed, epoch, index) alone.

    spread   standard deviation of a molecule's translation, Angstrom; a crystal's is uniform over its cell
    """
    random = np.random.default_rng(seed)
    turned = rotated(system, random_rotation(random))
    if system.lattice is None:
        return translated(turned, random.normal(0.0, spread, 3))
    return translated(turned, random.random(3))


def random_rotation(random: np.random.Generator) -> np.ndarray:
    """[3, 3] uniform over rotations."""
    from scipy.spatial.transform import Rotation

    quaternion = random.normal(size=4)
    return Rotation.from_quat(quaternion).as_matrix()
