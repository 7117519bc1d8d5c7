"""Molecules to predict, whatever they come as: SMILES, RDKit molecules, files of either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem

from isoform.core.errors import UserError
from isoform.molecules.data.file import Structure, read_structures
from isoform.molecules.data.parsing import looks_like_smiles, parse_smiles, quiet
from isoform.molecules.data.tables import KNOWN


class Named(Structure):
    """A molecule to predict that is called by where it comes from: "mols.smi line 7"."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.name


def expand_inputs(inputs: Sequence[Any]) -> list[Named]:
    """Inputs as molecules: SMILES, RDKit molecules, Structures, and files (.csv .tsv .txt .smi .sdf .parquet, .gz).

    A file gives every one of its rows, called "FILE line 7". The column of SMILES is found; FILE:COLUMN names it. What
    is neither a file nor a SMILES stays, with the reason as its `error`.
    """
    found: list[Named] = []
    for number, one in enumerate(inputs):
        if isinstance(one, Structure):
            found.append(Named(*one))
        elif isinstance(one, (str, Path)):
            found += _of_text(str(one))
        else:
            found.append(_of_mol(one, number))
    return found


def _of_text(text: str) -> list[Named]:
    path, column = text, None
    if not _is_there(path) and ":" in text:
        head, _, tail = text.rpartition(":")
        if head and tail and _is_there(head) and Path(head).is_file():
            path, column = head, tail
    if _is_there(path) and (
        _has_ending(path) or Path(path).is_dir() or not looks_like_smiles(path)
    ):
        try:
            return [
                Named(f"{path} {o.name}", o.smiles, o.block, o.error)
                for o in read_structures(path, column)
            ]
        except UserError as error:
            return [Named(text, "", None, str(error))]
    wrong = parse_smiles(text)
    if not isinstance(wrong, str):
        return [Named(text, text)]
    if _has_ending(path):
        return [Named(text, "", None, "no such file")]
    no_text = wrong.startswith(("is no SMILES", "holds"))
    return [
        Named(text, text, None, f"{wrong}, nor is there a file of that name" if no_text else wrong)
    ]


def _is_there(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except (OSError, ValueError):  # a long SMILES can be no path
        return False


def _has_ending(path: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(KNOWN)


def _of_mol(one: Any, number: int) -> Named:
    name = f"{type(one).__name__} {number}"
    if not isinstance(one, Chem.Mol):
        return Named(
            name, "", None, f"is no SMILES, file or RDKit molecule but a {type(one).__name__}"
        )
    try:
        with quiet():
            return Named(name, str(Chem.MolToSmiles(one)))
    except (ValueError, RuntimeError) as error:
        return Named(
            name,
            "",
            None,
            f"can't be written as SMILES ({str(error).strip().partition(chr(10))[0][:160]})",
        )
