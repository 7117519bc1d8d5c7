"""A sampled system as a record of a file, and as a line of the table beside it that says what it is."""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from isoform.core.data.writers import csv_text
from isoform.core.errors import UserError
from isoform.molecules.adit.sampling.request import Kind
from isoform.molecules.generation import crystals, molecules
from isoform.molecules.systems.bonds import atoms_of
from isoform.molecules.systems.crystals import cif_of, structure_of
from isoform.molecules.systems.molecule_files import xyz_frame
from isoform.molecules.systems.system import System, Unread
from isoform.molecules.systems.write import refuse_kind, sdf_text

ENDINGS = (".sdf", ".xyz", ".extxyz", ".cif", ".csv")
SYMMETRY = (
    0.1  # Angstrom by which places may miss a symmetry; what generated crystals are looked at with
)
_PLACES = 4  # decimals of a coordinate in an SD file
_FIRST = ("number", "kind", "atoms", "valid", "reason", "formula")


class Verdict(NamedTuple):
    """What a record is. valid: None where a judge gave no answer; `reason` says why it isn't True.

    identity   the SMILES of a valid molecule, the space group of a crystal with atoms apart, by places within SYMMETRY
    mol        a valid molecule, with its bonds
    """

    valid: bool | None
    reason: str = ""
    formula: str = ""
    identity: str = ""
    mol: Chem.Mol | None = None

    def items(self) -> dict[str, str]:
        """What stands beside a record."""
        flag = "" if self.valid is None else str(int(self.valid))
        return {"valid": flag, **({"reason": self.reason} if self.reason else {})}


def ending_of(path: str | Path, kind: Kind) -> str:
    """The format of a file. Raises UserError for an ending that isn't written, or can't hold the kind."""
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise UserError(f"{path}: --out should end in {', '.join(ENDINGS)}")
    refuse_kind(path, suffix, kind, "what is sampled is")
    return suffix


def beside(out: Path, what: str) -> Path:
    """The file that stands beside a file of samples: "records.csv", "sampling.json", "metrics.json"."""
    return out.with_name(f"{out.stem}.{what}")


def as_written(item: System | Unread, suffix: str) -> System | Unread:
    """What the file will hold of it: what is judged is what others read."""
    if isinstance(item, Unread) or suffix != ".sdf":
        return item
    return replace(item, positions=np.round(item.positions, _PLACES))


def judge(item: System | Unread) -> Verdict:
    """Whether a molecule is one piece whose bonds fit, or a crystal's atoms are apart and its charges balance.

    Raises UserError where a library is absent that judges crystals.
    """
    if isinstance(item, Unread):
        return Verdict(False, item.reason)
    return _judge_molecule(item) if item.kind == "molecule" else _judge_crystal(item)


def _judge_molecule(system: System) -> Verdict:
    found = molecules.judge(system)
    formula = rdMolDescriptors.CalcMolFormula(atoms_of(system))
    return Verdict(found.whole, found.reason, formula, found.smiles, found.mol)


def _judge_crystal(system: System) -> Verdict:
    found = crystals.judge(system)
    structure = structure_of(system)
    group = ""
    if found.structural:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                group = str(structure.get_space_group_info(symprec=SYMMETRY)[1])
            except (ValueError, TypeError, KeyError):  # spglib finds none in what is too distorted
                group = ""
    return Verdict(found.valid, found.reason, structure.composition.reduced_formula, group)


def head(suffix: str) -> str:
    """What a file begins with."""
    return "material_id,cif,valid,reason\n" if suffix == ".csv" else ""


def record(item: System | Unread, verdict: Verdict, suffix: str) -> str:
    """An item as a record of a file; what can't be one keeps its place, without atoms."""
    items = verdict.items()
    system = item if isinstance(item, System) else None
    if suffix == ".sdf":
        bare = Chem.RWMol() if system is None else atoms_of(system)
        return sdf_text(verdict.mol or bare.GetMol(), item.name, items)
    if suffix in (".xyz", ".extxyz"):
        return xyz_frame(system, item.name, items, extended=suffix == ".extxyz")
    if suffix == ".cif":
        mark = f"data_{item.name}\n" + "".join(f"# {key}: {text}\n" for key, text in items.items())
        return mark + _cif(system).partition(f"data_{item.name}\n")[2]
    row = {"material_id": item.name, "cif": _cif(system), "reason": "", **items}
    return _rows([row[name] for name in ("material_id", "cif", "valid", "reason")])


def _cif(system: System | None) -> str:
    """Empty where there is no crystal, or its cell has no volume."""
    if system is None:
        return ""
    try:
        return cif_of(system)
    except ValueError:
        return ""


def table_head(kind: Kind) -> str:
    """The first line of the table of records."""
    identity = "smiles" if kind == "molecule" else "spacegroup"
    return ",".join([*_FIRST, identity]) + "\n"


def table_row(number: int, kind: Kind, item: System | Unread, verdict: Verdict) -> str:
    """A record's line of the table."""
    atoms = len(item) if isinstance(item, System) else ""
    items = {"reason": "", **verdict.items()}
    cells = [number, kind, atoms, items["valid"], items["reason"], verdict.formula]
    return _rows([*cells, verdict.identity])


def _rows(cells: list[str | int]) -> str:
    """One line of a csv."""
    columns = {str(place): [cell] for place, cell in enumerate(cells)}
    return csv_text(columns).partition("\n")[2]


def count_valid(table: Path) -> dict[str, int]:
    """How many records of a table are valid, how many aren't, and of how many that isn't known."""
    with io.StringIO(table.read_text(encoding="utf-8")) as text:
        flags = [row["valid"] for row in csv.DictReader(text)]
    return {
        "valid": flags.count("1"),
        "invalid": flags.count("0"),
        "undetermined": flags.count(""),
    }
