"""SD files by RDKit, .xyz and .extxyz by ASE, record by record.

Rules, each counted and said where it was used:
  isotopes        D, T and marked isotopes are their element
  flat records    of an SD file (a drawing, not a geometry) are refused
  hydrogens       stay where they are written; where RDKit would add some, that is said, and none is added
  extxyz          with a Lattice and no pbc is periodic; with pbc "F F F" a molecule, its box dropped; periodic along
                  one or two directions it is refused
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rdkit import Chem

from isoform.core.data.text import lines_of
from isoform.molecules.data.parsing import quiet, too_many_rings
from isoform.molecules.data.sdf import records_of
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.notes import Notes
from isoform.molecules.systems.system import System, Unread, crystal, molecule

if TYPE_CHECKING:
    from ase import Atoms

_HEAVY_HYDROGEN = re.compile(r"^([^\S\n]*)[DT](?=\s)", re.MULTILINE)
_KEYS = re.compile(r"\b(Lattice|Properties)\s*=", re.IGNORECASE)
_COLUMNS = re.compile(r":[a-z]:[\s+0_]*([\d_]+)", re.IGNORECASE)
MOST_COLUMNS = 100  # of one property of an atom
_DIGITS = 12  # of a number of atoms
_FLAT = "is flat: a drawing without a geometry"


def read_sdf(text: str, notes: Notes) -> list[System | Unread]:
    """Every record of an SD file, or a mol block alone."""
    return [
        _of_block(block, f"record {number}", cut, notes)
        for number, (block, _, cut) in enumerate(records_of(lines_of(text)), 1)
    ]


def _of_block(block: str, place: str, cut: bool, notes: Notes) -> System | Unread:
    name = block.partition("\n")[0].strip() or place
    if cut:
        return Unread(name, "is too long to be a molecule")
    if wrong := too_many_rings(block):
        return Unread(name, wrong)
    with quiet():
        try:
            mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        except (ValueError, RuntimeError) as error:
            return Unread(name, f"can't be read ({error})")
    if mol is None:
        return Unread(name, "is no mol block that can be read")
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    positions = mol.GetConformer().GetPositions() if mol.GetNumConformers() else None
    if positions is None or (len(numbers) > 3 and not positions[:, 2].any() and _is_drawing(mol)):
        return Unread(name, _FLAT)
    try:
        made = molecule(numbers, positions, name)
    except ValueError as error:
        return Unread(name, str(error))
    notes.note("isotopes, read as their element", any(a.GetIsotope() for a in mol.GetAtoms()))
    notes.note("hydrogens that are not written, and not added", _lacks_hydrogens(mol))
    return made


def _is_drawing(mol: Chem.Mol) -> bool:
    return not mol.GetConformer().Is3D()


def _lacks_hydrogens(mol: Chem.Mol) -> bool:
    mol.UpdatePropertyCache(strict=False)
    return any(atom.GetNumImplicitHs() for atom in mol.GetAtoms())


def read_xyz(text: str, notes: Notes) -> list[System | Unread]:
    """Every frame of a .xyz or .extxyz. Raises UserError where ASE is absent."""
    return [_of_frame(frame, f"frame {k}", notes) for k, frame in enumerate(frames_of(text), 1)]


def frames_of(text: str) -> Iterator[str]:
    """The frames: a number of atoms, a comment, as many lines. What begins with no number is one frame to the end."""
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        try:
            size = int(lines[place])
        except ValueError:
            size = len(lines)
        yield "\n".join(lines[place : place + size + 2]) + "\n"
        place += max(size, 0) + 2


def _of_frame(frame: str, place: str, notes: Notes) -> System | Unread:
    with materials("reading a .xyz"):
        import ase.io
    count, comment, *rows = f"{frame}\n\n".splitlines()
    if wrong := _impossible(count.strip(), comment, sum(map(bool, rows))):
        return Unread(place, wrong)
    body, heavy = _HEAVY_HYDROGEN.subn(r"\1H", frame)
    kind = "extxyz" if _KEYS.search(comment) else "xyz"
    try:
        atoms = ase.io.read(io.StringIO(body), format=kind)
    except Exception as error:  # noqa: BLE001 (ASE raises whatever its parsers meet)
        return Unread(place, f"can't be read ({_short(error)})")
    assert not isinstance(atoms, list)
    name = str(atoms.info.get("name") or place)
    made = _of_atoms(atoms, name, notes)
    notes.note("deuterium or tritium, read as hydrogen", bool(heavy) and isinstance(made, System))
    return made


def _impossible(count: str, comment: str, rows: int) -> str:
    """Why a frame can't be what it says, "" where it can: ASE makes room for all of it first."""
    if count.isdecimal() and len(count) > _DIGITS:
        return "promises more atoms than lines follow"
    if count.isdecimal() and int(count) > rows:
        return f"promises {int(count):,} atoms, and {rows:,} lines follow"
    widths = [found.replace("_", "") or "0" for found in _COLUMNS.findall(comment)]
    if any(len(width) > 3 or int(width) > MOST_COLUMNS for width in widths):
        return f"has a property of more than {MOST_COLUMNS} columns"
    return ""


def _of_atoms(atoms: Atoms, name: str, notes: Notes) -> System | Unread:
    periodic = atoms.pbc.tolist()
    if any(periodic) and not all(periodic):
        return Unread(name, "is periodic along some directions alone, as a surface is")
    try:
        if not any(periodic):
            made = molecule(atoms.numbers, atoms.positions, name)
            notes.note("a box that is not periodic, dropped", bool(atoms.cell.array.any()))
            return made
        if atoms.cell.rank < 3:
            return Unread(name, "is periodic, but its lattice has no volume")
        inside = atoms.cell.scaled_positions(atoms.positions)
        number = str(atoms.info.get("spacegroup", ""))
        group = int(number) if number.isdigit() else 0
        made = crystal(atoms.numbers, inside, atoms.cell.array, name, group)
    except ValueError as error:
        return Unread(name, str(error))
    notes.note(
        "coordinates outside of the cell, wrapped into it",
        bool(((inside < -1e-9) | (inside > 1 + 1e-9)).any()),
    )
    return made


def xyz_of(systems: Sequence[System], *, extended: bool) -> str:
    """Frames of a .extxyz, crystals with Lattice and pbc, or of a plain .xyz, whose comment is the name."""
    return "".join(xyz_frame(one, one.name, extended=extended) for one in systems)


def xyz_frame(
    system: System | None,
    name: str,
    items: Mapping[str, str | int] | None = None,
    *,
    extended: bool,
) -> str:
    """A frame; without a system one of no atom. A .extxyz keeps `items`, a plain .xyz has no place for them."""
    with materials("writing a .xyz"):
        import ase
        import ase.io
    atoms = ase.Atoms()
    if system is not None:
        atoms = ase.Atoms(
            numbers=system.numbers,
            positions=system.positions,
            cell=system.lattice,
            pbc=system.pbc,
        )
    text = io.StringIO()
    if extended:
        atoms.info.update({"name": name, **(items or {})})
        ase.io.write(text, atoms, format="extxyz")
    else:
        ase.io.write(text, atoms, format="xyz", comment=" ".join(name.split()), fmt="%20.10f")
    return text.getvalue()


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
