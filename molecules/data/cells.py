"""The cells of a column of molecules as SMILES: an InChI is translated, a name behind a SMILES is cut off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rdkit import Chem

from isoform.core.errors import count, join_names
from isoform.molecules.data.parsing import (
    MOST_ATOMS,
    MOST_TEXT,
    canonical,
    looks_like_smiles,
    parse_smiles,
    quiet,
)

if TYPE_CHECKING:
    from isoform.molecules.data.tables import MoleculeTable

_NAMED = 3  # names that a sentence shows
_COMPONENT = re.compile(r"(\d{0,9})([A-Z][A-Za-z0-9]*)")  # of an InChI's formula: "2CH4"
_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d{0,9})")


def smiles_of(rows: MoleculeTable, column: str) -> list[str]:
    """The column as SMILES, what was done to its cells as findings of `rows`; what is no InChI goes into its errors."""
    cells = list(rows.cells(column))
    inchi = 0
    names: list[str] = []
    for row, cell in enumerate(cells):
        if is_inchi(cell):
            inchi += 1
            cells[row], why = smiles_of_inchi(cell)
            if why:
                rows.errors.setdefault(row, why)
        elif " " in cell or "\t" in cell:
            cells[row], name = cut_name(cell)
            names += [name] if name else []
    if inchi:
        rows.say(f'column "{column}": {inchi:,} InChI, read as the SMILES that RDKit makes of them')
    if names:
        rows.say(
            f'column "{column}": {count(len(names), "cell")} with a name behind the SMILES, of which the '
            f"first word is read (names: {join_names(names, _NAMED)})"
        )
    return cells


def is_inchi(text: str) -> bool:
    """Whether a text is written as an InChI is, whatever it says."""
    return text.lstrip().startswith("InChI=")


def looks_like_molecule(text: str) -> bool:
    """True for a SMILES (see parsing.py) and for an InChI that can be read."""
    return bool(smiles_of_inchi(text)[0]) if is_inchi(text) else looks_like_smiles(text)


def first_word(text: str) -> str:
    """The SMILES of a cell that has a name behind it."""
    return cut_name(text)[0] if " " in text or "\t" in text else text


def cut_name(text: str) -> tuple[str, str]:
    """(SMILES, the name behind it), or (text, "") where there is none.

    What is itself a SMILES is no name: "CC O" stays as it is, to be refused. A CXSMILES extension is none either.
    """
    head, name = [*text.split(maxsplit=1), "", ""][:2]
    if not name or name.startswith("|") or looks_like_smiles(name) or not looks_like_smiles(head):
        return text, ""
    return head, name


def smiles_of_inchi(text: str) -> tuple[str, str]:
    """(SMILES, "") of an InChI, or ("", why there is none) as part of a sentence; never raises."""
    if len(text) > MOST_TEXT:
        return "", f"is longer than {MOST_TEXT:,} characters"
    atoms = _atoms_of_inchi(text)
    if atoms > MOST_ATOMS:
        return "", f"has {atoms} atoms, more than {MOST_ATOMS}"
    try:
        with quiet():
            mol = Chem.MolFromInchi(text.strip())
        smiles = "" if mol is None else canonical(mol)
    except (ValueError, RuntimeError):
        smiles = ""
    wrong = parse_smiles(smiles, MOST_ATOMS) if smiles else "is no InChI that can be read"
    return ("", wrong) if isinstance(wrong, str) else (smiles, "")


def _atoms_of_inchi(text: str) -> int:
    """Atoms without hydrogens by its formula, before InChI's library unfolds it: "30000CH4" takes it seconds."""
    formula = [*text.split("/", 2), ""][1]
    total = 0
    for times, component in _COMPONENT.findall(formula):
        numbers = [int(n or 1) for element, n in _ELEMENT.findall(component) if element != "H"]
        total += int(times or 1) * max(1, sum(numbers))
    return total
