"""Systems as files that other programs open; the ending of the name tells the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rdkit import Chem

from isoform.core.data.writers import csv_text, write_atomically
from isoform.core.errors import UserError
from isoform.molecules.data.parsing import quiet
from isoform.molecules.systems.bonds import Undetermined, atoms_of, bonded
from isoform.molecules.systems.crystals import cif_of, poscar_of
from isoform.molecules.systems.molecule_files import xyz_of
from isoform.molecules.systems.system import System

WRITTEN = (".sdf", ".xyz", ".extxyz", ".cif", ".vasp", ".csv")
_ALONE = {
    "molecule": (".sdf", ".xyz"),
    "crystal": (".cif", ".vasp", ".csv"),
}
_FIXED_WIDTH = (
    9999.0  # Angstrom: what lies farther out has no place in the columns of a V2000 block
)


def write_systems(systems: Sequence[System], path: str | Path) -> None:
    """Writes systems in the format that the file's ending names, whole or not at all.

    .sdf holds bonds by the rule "determined", and of a molecule without such bonds its atoms alone, with the items
    `valid` and `reason`; .cif holds a data block a crystal; .vasp, or a file called POSCAR, one crystal; .csv the
    columns material_id and cif. Raises UserError where a format can't hold a kind of system, and for another ending.
    """
    suffix = (
        ".vasp" if Path(path).name.upper() in ("POSCAR", "CONTCAR") else Path(path).suffix.lower()
    )
    if suffix not in WRITTEN:
        raise UserError(
            f"{path}: a file of systems ends in {', '.join(WRITTEN)}, or is called POSCAR"
        )
    for number, one in enumerate(systems, 1):
        refuse_kind(path, suffix, one.kind, f"system {number} is")
    if suffix == ".vasp" and len(systems) != 1:
        raise UserError(
            f"{path}: a POSCAR holds one crystal, not {len(systems)}; use .cif or .extxyz"
        )
    write_atomically(path, _text(systems, suffix, path))


def refuse_kind(path: str | Path, suffix: str, kind: str, what: str) -> None:
    """Raises UserError where a format can't hold a kind of system ("molecule", "crystal"); `what` begins with it."""
    if any(suffix in endings for other, endings in _ALONE.items() if other != kind):
        better = ".extxyz or .cif" if kind == "crystal" else ".sdf or .extxyz"
        raise UserError(f"{path}: {what} a {kind}, which {suffix} can't hold; use {better}")


def _text(systems: Sequence[System], suffix: str, path: str | Path) -> str:
    if suffix == ".sdf":
        return "".join(map(sdf_record, systems))
    if suffix in (".xyz", ".extxyz"):
        return xyz_of(systems, extended=suffix == ".extxyz")
    if suffix == ".vasp":
        return poscar_of(systems[0])
    try:
        cifs = [cif_of(one) for one in systems]
    except ValueError as error:
        raise UserError(
            f"{path}: a crystal can't be written as CIF: {error}; use .extxyz"
        ) from None
    if suffix == ".cif":
        return "".join(cifs)
    names = [one.name for one in systems]
    return csv_text({"material_id": names, "cif": cifs})


def sdf_record(system: System) -> str:
    """A molecule as a record of an SD file, that RDKit reads as it is written."""
    items = {"valid": "1"}
    try:
        mol = bonded(system)
        pieces = len(Chem.GetMolFrags(mol))
        if pieces > 1:
            items = {"valid": "0", "reason": f"falls into {pieces} pieces"}
    except (ValueError, Undetermined) as error:
        mol = atoms_of(system).GetMol()
        valid = "" if isinstance(error, Undetermined) else "0"
        items = {"valid": valid, "reason": str(error)}
    return sdf_text(mol, system.name, items)


def sdf_text(mol: Chem.Mol, name: str, items: Mapping[str, str]) -> str:
    """A record of an SD file: a molecule with its name and items."""
    mol.SetProp("_Name", " ".join(name.split()))
    places = mol.GetConformer().GetPositions() if mol.GetNumConformers() else np.zeros(0)
    far = float(np.abs(places).max(initial=0.0))
    with quiet():
        block = Chem.MolToMolBlock(
            mol, kekulize=True, forceV3000=bool(mol.GetNumAtoms() > 999 or far > _FIXED_WIDTH)
        )
    return block + "".join(f">  <{key}>\n{value}\n\n" for key, value in items.items()) + "$$$$\n"
