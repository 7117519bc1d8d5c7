"""CIF and POSCAR by pymatgen, block by block, so that a bad block costs itself alone.

Rules, each counted and said where it was used:
  data blocks       each with atoms is a system, also where two have one name; blocks without atoms are passed over
  symmetry          the operations that the file lists are applied, whatever its label says; without a list the label's.
                    Space group 1 is taken for unknown, since programs that list every atom write it
  disorder          a site that is partly occupied, or by several elements, is refused: no order is made up
  isotopes          D and T are hydrogen
  negative angles   are their absolute value: only their cosines make a cell
  coordinates       are wrapped into the cell
  selective dynamics and velocities of a POSCAR are dropped; one that doesn't name its elements is refused
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.notes import Notes
from isoform.molecules.systems.system import MOST_NUMBER, System, Unread, crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure

_ATOMS = re.compile(r"^[^\S\n]*_atom_site_(fract|cartn)_x\b", re.IGNORECASE | re.MULTILINE)
_SITE = re.compile(r"^[^\S\n]*_atom_site_label\b", re.IGNORECASE | re.MULTILINE)
_ANGLE = re.compile(r"^([^\S\n]*_cell_angle_(?:alpha|beta|gamma)\s+)-(?=[\d.])", re.I | re.M)
_NUMBER = re.compile(
    r"^[^\S\n]*_(?:symmetry_Int_Tables_number|space_group_IT_number)\s+(\d+)", re.I | re.M
)
MOST_SITES = 6_000  # times operations of symmetry: pymatgen compares each with those before
_ANY = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    Warning,  # pymatgen raises one
)


def read_cif(text: str, notes: Notes) -> list[System | Unread]:
    """Every data block with atoms. Raises UserError where pymatgen is absent."""
    return [read_block(name, block, notes) for name, block in blocks_of(text)]


def blocks_of(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every data block that has atoms; a line in a text field (between ;) begins none."""
    name, lines, quoted = "", list[str](), False
    for line in [*text.splitlines(), "data_"]:
        if line.startswith(";"):
            quoted = not quoted
        begins = not quoted and line.lstrip()[:5].lower() == "data_"
        if begins:
            block = "\n".join(lines) + "\n"
            if _ATOMS.search(block) or _SITE.search(block):
                yield name, block
            name, lines = line.strip()[5:], []
        # pymatgen would take such a line in a text field for a block of its own.
        lines.append("" if quoted and line.lstrip()[:5].lower() == "data_" else line)
    if quoted:  # the field never ends, so the last block was not told
        yield name, ""


def read_block(name: str, block: str, notes: Notes) -> System | Unread:
    """One data block."""
    with materials("reading a CIF"):
        from pymatgen.io.cif import CifBlock, CifParser
    # Without empty lines: pymatgen looks for a name at each of them, over all that follow.
    filled = "\n".join(line for line in block.split("\n") if line.strip()) + "\n"
    text, negative = _ANGLE.subn(r"\1", filled)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what counts is checked below
            parser = CifParser.from_str(text, occupancy_tolerance=1.0, check_cif=False)
            sites, heavy, outside = _listed(parser)
            listed: dict[str, Any] = next(iter(parser.as_dict().values()), {})
            operations = len(parser.get_symops(CifBlock(listed, [], name)))
            if sites * operations > MOST_SITES:
                return Unread(
                    name,
                    f"has {sites:,} sites and {operations:,} operations of symmetry, whose product is more than "
                    f"{MOST_SITES:,}",
                )
            structures = parser.parse_structures(primitive=False, on_error="raise")
    except _ANY as error:
        return Unread(name, _reason(error))
    number = _NUMBER.search(text)
    read = of_structure(structures[0], name, int(number[1]) if number else 0)
    if isinstance(read, System):
        notes.note("a negative angle of the cell, read as its absolute value", bool(negative))
        notes.note("sites multiplied by the symmetry that the file lists", len(read) > sites)
        notes.note("deuterium or tritium, read as hydrogen", heavy)
        notes.note("coordinates outside of the cell, wrapped into it", outside)
    return read


def read_poscar(text: str, name: str, notes: Notes) -> System | Unread:
    """A POSCAR or CONTCAR."""
    with materials("reading a POSCAR"):
        from pymatgen.core.structure import StructureError
        from pymatgen.io.vasp.inputs import Poscar
    text = "\n".join(text.splitlines())  # by pymatgen's rule, which knows more ends of a line
    if _counted(text) > text.count("\n") + 1:  # pymatgen would make a list of so many first
        return Unread(name, "counts more atoms than it has lines")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            poscar = Poscar.from_str(text)
    except (*_ANY, StructureError) as error:
        return Unread(name, _reason(error))
    if any("cannot be determined" in str(one.message) for one in said):
        return Unread(
            name, "doesn't name its elements; write them above their numbers, as VASP 5 does"
        )
    read = of_structure(poscar.structure, name)
    if isinstance(read, System):
        places = poscar.structure.frac_coords
        outside = bool(((places < 0) | (places >= 1)).any())
        notes.note("selective dynamics, dropped", poscar.selective_dynamics is not None)
        notes.note("coordinates outside of the cell, wrapped into it", outside)
    return read


def of_structure(structure: Structure, name: str, spacegroup: int = 0) -> System | Unread:
    """A pymatgen structure; a disordered one is refused."""
    for site in structure:
        if not site.is_ordered:
            return Unread(
                name, f"is disordered (a site holds {site.species_string}); order it first"
            )
        if not 1 <= site.specie.Z <= MOST_NUMBER:  # pymatgen makes a dummy of an unknown symbol
            return Unread(name, f"holds {site.species_string}, which is no element")
    try:
        return crystal(
            np.array([site.specie.Z for site in structure]),
            structure.frac_coords,
            structure.lattice.matrix,
            name,
            spacegroup if 1 < spacegroup <= 230 else 0,
        )
    except ValueError as error:
        return Unread(name, str(error))


def structure_of(system: System) -> Structure:
    """A crystal as pymatgen has it. Raises UserError where it is absent."""
    with materials("a crystal's structure"):
        from pymatgen.core import Lattice, Structure
    assert system.lattice is not None and system.fractional is not None
    numbers: Any = system.numbers.tolist()
    return Structure(Lattice(system.lattice), numbers, system.fractional)


def cif_of(system: System) -> str:
    """A crystal as the text of a CIF in P 1, every atom listed, those of an element together.

    Raises ValueError where a cell has no volume, which no CIF can hold.
    """
    with materials("writing a CIF"):
        from pymatgen.io.cif import CifWriter
    if not system.volume > 0:
        raise ValueError("its cell has no volume")
    text = str(CifWriter(structure_of(system), significant_figures=8))
    block = re.sub(r"[^\w.+-]", "_", system.name, flags=re.ASCII)
    return re.sub(r"^data_.*$", f"data_{block}", text, count=1, flags=re.M) if block else text


def poscar_of(system: System) -> str:
    """A crystal as the text of a POSCAR with direct coordinates, elements together."""
    with materials("writing a POSCAR"):
        from pymatgen.io.vasp.inputs import Poscar
    name = system.name.splitlines()[0] if system.name.strip() else None
    return str(
        Poscar(structure_of(system), comment=name, sort_structure=True).get_str(
            significant_figures=10
        )
    )


def _counted(text: str) -> int:
    """The sum of a POSCAR's numbers of atoms: as many lines of them as lines name elements, behind its cell."""
    counts = [re.fullmatch(r"\s*\d+(\s.*)?", line) is not None for line in text.splitlines()[5:16]]
    first = counts.index(True) if True in counts else 0
    lines = text.splitlines()[5 + first :][: max(first, 1)]
    return sum(
        int(word) for line in lines for word in line.split() if re.fullmatch(r"\d{1,20}", word)
    )


def _listed(parser: Any) -> tuple[int, bool, bool]:
    """(sites that the block lists, whether one is deuterium or tritium, whether one is outside of the cell).

    pymatgen makes hydrogen of the one and wraps the other without a word.
    """
    block: dict[str, Any] = next(iter(parser.as_dict().values()), {})
    symbols = block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or [""]
    heavy = any(re.fullmatch(r"[DT](\d.*)?", symbol) for symbol in symbols)
    places = [text for axis in "xyz" for text in block.get(f"_atom_site_fract_{axis}", [])]
    return len(symbols), heavy, any(not 0 <= _number(text) < 1 for text in places)


def _number(text: str) -> float:
    """Of a CIF, whose uncertainty stands in parentheses; 0 of what is none, which pymatgen judges."""
    try:
        return float(text.partition("(")[0])
    except ValueError:
        return 0.0


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"can't be read ({(lines[-1] if lines else type(error).__name__)[:160]})"
