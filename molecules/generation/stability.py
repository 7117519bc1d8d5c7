"""Atom and molecule stability: does every atom have a valence that its element and charge allow?

Two conventions, side by side. Strict: bonds count as in a Kekule structure, and what is allowed is what RDKit accepts
without unpaired electrons, charge by charge. Legacy: an aromatic bond counts as one, as it did where 1.5 was written
into a table of integers; the allowed valences have that mistake in them, so that a carbon with three single bonds
passes. Published figures of models with bonds are of the legacy kind.
"""

from __future__ import annotations

from functools import cache

from rdkit import Chem

from isoform.molecules.data.parsing import quiet

Valences = dict[tuple[int, int], frozenset[int]]  # (atomic number, charge) -> allowed

_MOST = 8
_CHARGES = range(-2, 3)
_HEAVIEST = 86
# What showed the legacy tables which valences aromatic atoms have.
_AROMATIC = """
c1ccccc1 c1ccncc1 c1cc[nH]c1 c1ccoc1 c1ccsc1 c1ccc2ccccc2c1 c1ccc2[nH]ccc2c1 c1cnc[nH]1 Cn1cccc1 c1cc[nH+]cc1
c1ccc2c(c1)cco2 [O-][n+]1ccccc1 c1ccpcc1 c1ncncn1 b1ccccc1
"""


@cache
def strict_valences() -> Valences:
    """What RDKit accepts of a lone atom with as many hydrogens, without unpaired electrons."""
    table = Chem.GetPeriodicTable()
    allowed: dict[tuple[int, int], set[int]] = {}
    with quiet():
        for number in range(1, _HEAVIEST + 1):
            for charge in _CHARGES:
                for valence in range(2 if number == 1 else _MOST + 1):
                    text = f"[{table.GetElementSymbol(number)}H{valence}{charge:+d}]"
                    mol = Chem.MolFromSmiles(text)
                    if mol is not None and not mol.GetAtomWithIdx(0).GetNumRadicalElectrons():
                        allowed.setdefault((number, charge), set()).add(valence)
    return {key: frozenset(found) for key, found in allowed.items()}


@cache
def legacy_valences() -> Valences:
    """The strict ones, and those that aromatic atoms have when their aromatic bonds count as one."""
    allowed = {key: set(found) for key, found in strict_valences().items()}
    for smiles in _AROMATIC.split():
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        for atom in mol.GetAtoms():
            if atom.GetIsAromatic():
                key = (atom.GetAtomicNum(), atom.GetFormalCharge())
                allowed.setdefault(key, set()).add(
                    atom.GetDegree()
                )  # none of them is doubly bonded outwards
    return {key: frozenset(found) for key, found in allowed.items()}


def stable_atoms(mol: Chem.Mol, *, legacy: bool = False) -> list[bool]:
    """Which atoms of a molecule with explicit hydrogens are stable; it needn't be sanitised.

    Strict: aromatic atoms of a ring that has no Kekule structure are not.
    """
    allowed = legacy_valences() if legacy else strict_valences()
    counted = Chem.Mol(mol)
    if not legacy:
        with quiet():
            try:
                counted.UpdatePropertyCache(strict=False)
                Chem.Kekulize(counted, clearAromaticFlags=True)
            except (ValueError, RuntimeError):  # the latter for over 127 bonds of an atom
                pass  # those bonds stay aromatic, and their atoms' valences no whole numbers of bonds
    return [_is_stable(atom, allowed, legacy) for atom in counted.GetAtoms()]


def _is_stable(atom: Chem.Atom, allowed: Valences, legacy: bool) -> bool:
    bonds = list(atom.GetBonds())
    if not legacy and any(bond.GetIsAromatic() for bond in bonds):
        return False
    orders = [1.0 if bond.GetIsAromatic() else bond.GetBondTypeAsDouble() for bond in bonds]
    valence = int(sum(orders)) + atom.GetNumExplicitHs()
    return valence in allowed.get((atom.GetAtomicNum(), atom.GetFormalCharge()), ())
