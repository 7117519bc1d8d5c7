"""Small molecules and crystals that tests of systems share, built here."""

from __future__ import annotations

import numpy as np
from rdkit import Chem
from rdkit.Chem import AllChem

from isoform.molecules.systems.system import System, crystal, molecule


def relaxed(smiles: str, name: str = "") -> System:
    """A molecule with hydrogens in a relaxed conformation."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(mol)
    return molecule(
        np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        mol.GetConformer().GetPositions(),
        name or smiles,
    )


def salt(a: float = 5.64, numbers: tuple[int, int] = (11, 17)) -> System:
    """Rock salt's conventional cell: 8 atoms."""
    corner = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    places = np.concatenate([corner, corner + np.array([0.5, 0, 0])])
    return crystal(np.repeat(numbers, 4), places, a * np.eye(3), "salt", 225)


def triclinic(scale: float = 1.0) -> System:
    """Five atoms of three elements without any symmetry."""
    places = np.random.default_rng(3).random((5, 3))
    lattice = scale * np.array([[5.1, 0.2, 0.1], [-0.7, 6.3, 0.4], [0.9, 1.1, 7.2]])
    return crystal(np.array([3, 8, 8, 22, 22]), places, lattice, "triclinic")


def repeated_cell(system: System, times: tuple[int, int, int]) -> System:
    """The same crystal in a larger cell."""
    assert system.fractional is not None and system.lattice is not None
    cells = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 3)
    places = (system.fractional + cells[:, None]) / np.array(times)
    return crystal(
        np.tile(system.numbers, len(cells)),
        places.reshape(-1, 3),
        system.lattice * np.array(times)[:, None],
        system.name,
    )


def cif(sites: str, *, head: str = "", cell: str = "", columns: str = "") -> str:
    """A CIF whose parts a test replaces; sites are lines of label, symbol, x, y, z, and what `columns` adds."""
    cell = cell or (
        "_cell_length_a 4.1\n_cell_length_b 5.3\n_cell_length_c 6.7\n"
        "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
    )
    return (
        f"data_one\n{head}{cell}loop_\n_atom_site_label\n_atom_site_type_symbol\n"
        f"_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n{columns}{sites}\n"
    )
