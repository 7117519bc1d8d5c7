"""Bonds from coordinates: a system as an RDKit molecule, by a rule that every table names.

determined  who is bonded by the sizes of atoms, bond orders and charges so that valences fit and the whole is neutral
            (RDKit's rdDetermineBonds; Kim & Kim 2015, doi:10.1002/bkcs.10334)
proximity   who is bonded by distance, all bonds single, as when RDKit reads a PDB file without bonds: what ADiT's
            published validity uses; far more lenient, since no bond order has to fit
lengths     bond orders by typical lengths of H, C, N, O and F, each pair of atoms by itself: what the published atom
            and molecule stability of QM9 use (Hoogeboom et al. 2022, arXiv:2203.17003, appendix)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds
from rdkit.Geometry import Point3D

from isoform.molecules.data.parsing import quiet
from isoform.molecules.systems.system import System

BondRule = Literal["determined", "proximity", "lengths"]
_MOST_TRIES = 20_000  # assignments of bond orders; QM9's molecules need a few
_MOST_WORK = 500_000  # tries times atoms: each try takes about 1 microsecond an atom
_LARGE = 400  # atoms above which orders aren't searched for
_MOST_ATOMS = 1_000  # of which all pairs are looked at
# Typical lengths in pm of single, double and triple bonds, and by how much one may be longer.
_LENGTHS = {
    (1, 1): (74,),
    (1, 6): (109,),
    (1, 7): (101,),
    (1, 8): (96,),
    (1, 9): (92,),
    (6, 6): (154, 134, 120),
    (6, 7): (147, 129, 116),
    (6, 8): (143, 120, 113),
    (6, 9): (135,),
    (7, 7): (145, 125, 110),
    (7, 8): (140, 121),
    (7, 9): (136,),
    (8, 8): (148, 121),
    (8, 9): (142,),
    (9, 9): (142,),
}
_MARGINS = (10, 5, 3)
_TYPES = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
_ERRORS = (ValueError, RuntimeError, KeyError, OverflowError)


class Undetermined(Exception):
    """A judge that gives no answer (too large, too many tries): neither valid nor invalid."""


def atoms_of(system: System) -> Chem.RWMol:
    """The atoms at their places, without bonds and without hydrogens to be added."""
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(system))
    for row, (number, place) in enumerate(
        zip(system.numbers.tolist(), system.positions, strict=True)
    ):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
        conformer.SetAtomPosition(row, Point3D(*map(float, place)))
    conformer.Set3D(True)
    mol.AddConformer(conformer, assignId=True)
    return mol


def pieces_of(system: System, rule: BondRule = "determined") -> list[np.ndarray]:
    """Rows of atoms of each connected piece, the largest first (the earlier of two of one size)."""
    found = Chem.GetMolFrags(connected(system, rule))
    return sorted((np.array(rows) for rows in found), key=lambda rows: (-len(rows), rows[0]))


def piece(system: System, rows: np.ndarray) -> System:
    """A molecule of some of a molecule's atoms."""
    return System(system.numbers[rows], system.positions[rows], name=system.name)


def bonded(system: System, rule: BondRule = "determined") -> Chem.Mol:
    """A sanitised molecule with every atom explicit, in the order of the system.

    Raises ValueError with the reason, as part of a sentence, where no bonds fit; Undetermined where the search was
    given up.
    """
    mol = connected(system, rule)
    with quiet():
        if rule == "determined" and len(system) > 1:
            if len(system) > _LARGE:
                raise Undetermined(f"has more than {_LARGE} atoms")
            tries = min(_MOST_TRIES, _MOST_WORK // len(system))
            try:
                rdDetermineBonds.DetermineBondOrders(
                    mol, charge=0, embedChiral=False, maxIterations=tries
                )
            except RuntimeError as error:
                raise Undetermined("too many ways to place its bonds") from error
            except _ERRORS as error:
                raise ValueError("no bond orders fit its atoms and a charge of 0") from error
        try:
            Chem.SanitizeMol(mol)
        except _ERRORS as error:
            raise ValueError(str(error).splitlines()[0]) from error
        if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) and rule != "proximity":
            raise ValueError("has unpaired electrons")
        Chem.AssignStereochemistryFrom3D(mol)
    return mol


def smiles_of(mol: Chem.Mol) -> str:
    """RDKit's canonical SMILES without explicit hydrogens, stereo centres as the coordinates have them."""
    with quiet():
        return str(Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False)))


def connected(system: System, rule: BondRule = "determined") -> Chem.Mol:
    """Atoms and bonds as the rule finds them, not sanitised; orders are single but by the rule "lengths".

    Raises ValueError where the rule can't hold the coordinates, Undetermined for elements that it doesn't know and for
    more than 1,000 atoms.
    """
    if len(system) > _MOST_ATOMS:
        raise Undetermined(f"has more than {_MOST_ATOMS:,} atoms")
    if rule == "lengths":
        return _by_lengths(system)
    with quiet():
        if rule == "proximity":
            block = Chem.MolToPDBBlock(atoms_of(system), flavor=2)
            mol = Chem.MolFromPDBBlock(block, sanitize=False, removeHs=False, proximityBonding=True)
            if mol is None or mol.GetNumAtoms() != len(system):
                raise ValueError("its coordinates are too large for a PDB file")
            for atom in mol.GetAtoms():
                atom.SetNoImplicit(False)
            return mol
        mol = atoms_of(system).GetMol()
        if len(system) > 1:
            rdDetermineBonds.DetermineConnectivity(mol)
        return mol


def _by_lengths(system: System) -> Chem.Mol:
    mol = atoms_of(system)
    unknown = set(system.numbers.tolist()) - {a for pair in _LENGTHS for a in pair}
    if unknown:
        symbol = Chem.GetPeriodicTable().GetElementSymbol(min(unknown))
        raise Undetermined(f"no typical lengths of bonds of {symbol}")
    gaps = 100 * np.linalg.norm(system.positions[:, None] - system.positions, axis=-1)
    for i, j in np.argwhere(np.triu(gaps < 154 + _MARGINS[0], 1)).tolist():
        a, b = sorted(map(int, system.numbers[[i, j]]))
        orders = zip(_LENGTHS[a, b], _MARGINS, strict=False)
        order = sum(gaps[i, j] < length + margin for length, margin in orders)
        if order:
            mol.AddBond(i, j, _TYPES[order - 1])
    return mol.GetMol()
