"""Which columns of a table are predicted, by their names and cells; every other one has a reason.

A number isn't a property for being one: identifiers, row numbers and constants are left out. Where neither name nor
cells tell an identifier from a property, the user is asked, with the list.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isoform.core.data.missing import MISSING
from isoform.core.errors import UserError, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.columns import boolean_of, pick, share_of_smiles
from isoform.molecules.data.qualifiers import is_relation, words_of
from isoform.molecules.data.tables import MoleculeTable, is_smiles_name

_ENOUGH = 10  # rows from which on different whole numbers are no coincidence
_SHOWN = 12  # columns in a sentence
_NAMELESS = re.compile(r"column \d+")  # what core calls a column without a name
# The last word of an identifier's name; with other words in front of it too: compound_id, PUBCHEM_CID.
_IDENTIFIERS = frozenset([
    "id", "ids", "cid", "sid", "aid", "tid", "idx", "uid", "uuid", "cas", "casrn", "molregno", "tregno",
    "unnamed", "regno", "barcode",
])  # fmt: skip
_JOINED = re.compile(
    r"(mol|molecule|compound|cmpd|substance|chembl|zinc|pubchem|drug|assay|sample|record|entry|structure|ligand)"
    r"(id|idx|no|nr|num|number)"
)
# Names of an identifier where the cells differ from row to row: an octane number is a property.
_NUMBERS = frozenset(
    ["index", "no", "nr", "num", "number", "row", "record", "entry", "rank", "order", "position"]
)
# A word of a name that says that the column is measured or computed.
_MEASURED = frozenset([
    "ic", "ec", "ki", "kd", "ac", "ld", "lc", "gi", "pic", "pki", "ka", "ph", "log", "logp", "logs", "logd", "sol",
    "solubility", "perm", "permeability", "activity", "value", "label", "target", "y", "nm", "um", "mm", "mg",
    "ug", "ml", "kg", "kcal", "kj", "ev", "ppm", "pct", "percent", "temp", "temperature", "melting", "boiling",
    "mp", "bp", "weight", "mass", "score", "inhibition", "response", "potency", "clearance", "affinity", "half",
    "auc", "count", "area", "volume", "energy", "gap", "toxicity", "density",
])  # fmt: skip


class Targets(NamedTuple):
    """The columns to predict, and (column, why not) of those that might have been."""

    names: list[str]
    left_out: list[tuple[str, str]]


def find_targets(rows: MoleculeTable, data: DataConfig, smiles: str) -> Targets:
    """data.targets, or every column of numbers that is a property; else the one column of few different texts.

    Raises UserError for names that don't fit, for a column of numbers that can't be read, and where it is in doubt
    whether a column holds identifiers.
    """
    if data.targets is not None:
        return Targets(_named(rows, data.targets, smiles), [])
    taken = {smiles, data.label, data.split_column, data.group, data.weight}
    taken |= {"name", "title"} if rows.smiles is not None else set()
    chosen: list[str] = []
    left_out: list[tuple[str, str]] = []
    for name in rows.columns:
        if name not in taken:
            why = _no_target(rows, name)
            left_out += [(name, why)] if why else []
            chosen += [] if why else [name]
    _ask(rows, chosen)
    if not chosen and data.task in ("auto", "multiclass", "binary"):
        classes = [name for name, why in left_out if why == "text" and _is_classes(rows, name)]
        if len(classes) == 1:
            rows.say(
                f'the classes are in the column "{classes[0]}", the only one of few different texts'
            )
            chosen = classes
            left_out = [(name, why) for name, why in left_out if name not in classes]
    _say(rows, Targets(chosen, left_out))
    return Targets(chosen, left_out)


def describe_left_out(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """The columns by reason: "text: note, comment"."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out:
        by_reason.setdefault(why, []).append(name)
    return [f"{why}: {join_names(names, _SHOWN)}" for why, names in by_reason.items()]


def _named(rows: MoleculeTable, targets: tuple[str, ...], smiles: str) -> list[str]:
    chosen = [pick(name, rows.columns, rows.origin, "data.targets") for name in targets]
    if len(set(chosen)) < len(chosen):
        raise UserError(f"{rows.origin}: data.targets names a column twice")
    if smiles in chosen:
        raise UserError(f'{rows.origin}: data.targets names "{smiles}", the column of SMILES')
    return chosen


def _say(rows: MoleculeTable, found: Targets) -> None:
    for line in describe_left_out(found.left_out):
        why, _, names = line.partition(": ")
        rows.say(f"not to be predicted ({why}): {names}")
    if len(found.names) > 1:
        named = join_names(found.names, _SHOWN)
        rows.say(
            f"{len(found.names)} numeric columns are to be predicted (data.targets chooses): {named}"
        )


def _no_target(rows: MoleculeTable, name: str) -> str:
    """Why a column isn't taken for a target by itself, or ""."""
    cells = rows.cells(name)
    if is_smiles_name(name) and share_of_smiles(cells) >= 0.5:
        return "SMILES"
    if boolean_of(cells) is not None:
        return ""
    if is_relation(cells):
        return "relations of another column"
    found = rows.table.numbers(name)
    if found.problem:
        raise UserError(
            f'{rows.origin}: column "{name}": {found.problem}; data.targets names the columns to predict'
        )
    if not found.numeric:
        return "text" if found.unread else "empty"
    if _is_running(found.values):
        return "running number"
    if _is_identifier(rows, name, found.values):
        return "identifier"
    read = found.values[np.isfinite(found.values)]
    if len(read) > 1 and (read == read[0]).all():
        return "the same in every row"
    return ""


def _is_running(values: np.ndarray) -> bool:
    """Rows that were numbered in order, before some were deleted; or in any order, where there are enough of them."""
    if len(values) <= 2 or not np.isfinite(values).all():
        return False
    rising = np.sort(values) if len(values) >= _ENOUGH else values
    whole = (values == np.round(values)).all() and (np.diff(rising) >= 1).all()
    return bool(whole and rising[-1] - rising[0] < 1.5 * len(rising))


def _is_identifier(rows: MoleculeTable, name: str, values: np.ndarray) -> bool:
    read = values[np.isfinite(values)]
    if (read != np.round(read)).any() or (read < 0).any():
        return False
    words = [word for word in words_of(name) if not word.isdigit()] or [""]
    if words[-1] in _IDENTIFIERS or _JOINED.fullmatch(words[-1]):
        return True
    if words[0] == "unnamed" or words[:2] == ["index", "level"]:  # what pandas calls its index
        return True
    if len(np.unique(read)) < len(values):
        return False
    if _NAMELESS.fullmatch(name):  # an index that was written beside columns with names
        return name == rows.columns[0] and not all(map(_NAMELESS.fullmatch, rows.columns))
    return words[-1] in _NUMBERS and not set(words[:-1]) & _MEASURED and len(words) < 3


def _ask(rows: MoleculeTable, chosen: list[str]) -> None:
    """Raises UserError where some columns might be identifiers and others can't be."""
    doubtful = [name for name in chosen if _might_be_identifier(rows, name)]
    sure = [name for name in chosen if name not in doubtful]
    if doubtful and sure:
        shown = join_names([f'"{name}"' for name in doubtful])
        hold, them = ("holds", "it") if len(doubtful) == 1 else ("hold", "them")
        raise UserError(
            f"{rows.origin}: {shown} {hold} another whole number in every row, as identifiers do; name the columns to "
            f"predict: {_setting(sure)} without {them}, or {_setting(chosen)}"
        )
    if len(doubtful) == 1:
        rows.say(
            f'"{doubtful[0]}" holds another whole number in every row; if it is an identifier, name others with '
            "data.targets"
        )


def _setting(names: Sequence[str]) -> str:
    """As a shell takes it; a name that holds a comma needs TOML's brackets, and so do all then."""
    value = ",".join(names)
    if any("," in name for name in names):
        value = json.dumps(list(names), ensure_ascii=False)
    return f"--set {shlex.quote(f'data.targets={value}')}"


def _might_be_identifier(rows: MoleculeTable, name: str) -> bool:
    if boolean_of(rows.cells(name)) is not None or set(words_of(name)) & _MEASURED:
        return False
    values = rows.table.numbers(name).values
    if len(values) < _ENOUGH or not (values >= 0).all() or (values != np.round(values)).any():
        return False
    return len(np.unique(values)) == len(values)


def _is_classes(rows: MoleculeTable, name: str) -> bool:
    cells = rows.cells(name)
    different = {cell for cell in cells if cell.lower() not in MISSING}
    return 2 <= len(different) <= min(100, max(2, len(cells) // 3))
