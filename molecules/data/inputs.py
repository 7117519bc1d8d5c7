"""Molecules to predict, whatever they come as: SMILES, RDKit molecules, files of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem

from isoform.core.data.text import STDIN
from isoform.core.errors import UserError, count, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.cells import first_word, is_inchi, smiles_of_inchi
from isoform.molecules.data.file import Structure, read_structures
from isoform.molecules.data.parsing import looks_like_smiles, parse_smiles, quiet
from isoform.molecules.data.tables import KNOWN, files_below, files_beside


class Named(Structure):
    """A molecule to predict that is called by where it comes from: "mols.smi line 7"."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.name


Say = Callable[[str], None]


def expand_inputs(
    inputs: Sequence[Any], data: DataConfig | None = None, say: Say | None = None
) -> list[Named]:
    """Inputs as molecules: SMILES, InChI, RDKit molecules, Structures, and files (.csv .tsv .txt .smi .sdf .parquet
    .xlsx, .gz), folders of these, standard input ("-"), and DataFrames.

    A file gives every one of its rows, called "FILE line 7", and is read as the run's own file was, by `data`. The
    column of SMILES is data.smiles, else found; FILE:COLUMN names it. What is neither a file nor a molecule stays, with
    the reason as its `error`. `say` gets what was found and chosen.
    """
    data = data or DataConfig()
    found: list[Named] = []
    for number, one in enumerate(inputs):
        if isinstance(one, Structure):
            found.append(Named(*one))
        elif isinstance(one, (str, Path)):
            found += _of_text(str(one), data, say)
        elif hasattr(one, "columns"):
            found += _of_source(one, type(one).__name__, data, say)
        else:
            found.append(_of_mol(one, number))
    return found


def _of_text(text: str, data: DataConfig, say: Say | None) -> list[Named]:
    if text == STDIN:
        return _of_source(text, "standard input", data, say)
    path = text
    if not _is_there(path) and ":" in text:
        head, _, tail = text.rpartition(":")
        if head and tail and _is_there(head) and Path(head).is_file():
            path, data = head, data.model_copy(update={"smiles": tail})
    if _is_there(path) and Path(path).is_dir():
        return _of_folder(path, data, say)
    if _is_there(path) and (_has_ending(path) or not looks_like_smiles(path)):
        return _of_source(path, text, data, say)
    return [_of_words(text)]


def _of_source(source: Any, name: str, data: DataConfig, say: Say | None) -> list[Named]:
    """The molecules of a file or DataFrame; one of that name with the reason where it can't be read."""
    try:
        return [Named(*one) for one in read_structures(source, data, say)]
    except UserError as error:
        return [Named(name, "", None, str(error))]


def _of_folder(folder: str, data: DataConfig, say: Say | None) -> list[Named]:
    files = files_below(Path(folder))
    if files and say is not None and (others := files_beside(Path(folder), files)):
        named = join_names(path.relative_to(folder) for path in others)
        say(
            f"{folder}: {count(len(others), 'file')} left out, hidden or no molecules by the ending: {named}"
        )
    if not files:
        why = f"is a folder without a file of molecules ({', '.join(KNOWN)})"
        return [Named(folder, "", None, why)]
    return [one for file in files for one in _of_source(str(file), str(file), data, say)]


def _of_words(text: str) -> Named:
    """A SMILES or InChI that was given as it is, or why it is none."""
    if is_inchi(text):
        smiles, why = smiles_of_inchi(text)
        return Named(text, smiles, None, why)
    smiles = first_word(text)
    wrong = parse_smiles(smiles)
    if not isinstance(wrong, str):
        return Named(text, smiles)
    if _has_ending(text):
        return Named(text, "", None, "no such file")
    no_text = wrong.startswith(("is no SMILES", "holds"))
    return Named(
        text, text, None, f"{wrong}, nor is there a file of that name" if no_text else wrong
    )


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
