"""Which column of a table means what: SMILES, splits, groups, weights; what is predicted see targets.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from isoform.core.config.keys import suggest
from isoform.core.data.missing import MISSING
from isoform.core.data.splits import read_splits
from isoform.core.errors import UserError, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.cells import first_word, is_inchi, looks_like_molecule
from isoform.molecules.data.tables import SMILES_NAMES, MoleculeTable, is_smiles_name, plain_name

# Two words that a column may hold instead of 0 and 1.
BOOLEAN = {
    "true": 1, "yes": 1, "y": 1, "active": 1, "positive": 1, "pos": 1, "+": 1, "t": 1,
    "false": 0, "no": 0, "n": 0, "inactive": 0, "negative": 0, "neg": 0, "-": 0, "f": 0,
}  # fmt: skip
NAMED = 5  # cells of each kind that a sentence shows
_LOOKED_AT = 50  # cells of a column, to tell what it holds


def pick(name: str, columns: Sequence[str], where: str, key: str) -> str:
    """The column called `name`, in other letters too where only one is. Raises UserError listing the columns."""
    if name in columns:
        return name
    alike = [column for column in columns if plain_name(column) == plain_name(name)]
    if len(alike) == 1:
        return alike[0]
    known = join_names(columns, 30)
    raise UserError(
        f'{where}: has no column "{name}" ({key}){suggest(name, columns)}; its columns are {known}'
    )


def find_smiles(rows: MoleculeTable, data: DataConfig) -> str:
    """The column of SMILES: data.smiles, else by its name, else the one whose cells RDKit reads. Raises UserError."""
    if rows.smiles is not None:
        return rows.smiles
    if data.smiles is not None:
        column = pick(data.smiles, rows.columns, rows.origin, "data.smiles")
        rows.say(f'SMILES are in the column "{column}" (data.smiles)')
        return column
    named = [name for wanted in SMILES_NAMES for name in rows.columns if plain_name(name) == wanted]
    named += [name for name in rows.columns if is_smiles_name(name) and name not in named]
    shares = {name: share_of_smiles(map(first_word, rows.cells(name))) for name in named}
    good = [name for name in named if shares[name] >= 0.5]
    if good:
        others = f" (also there: {', '.join(good[1:4])})" if len(good) > 1 else ""
        rows.say(f'SMILES are in the column "{good[0]}", by its name{others}')
        return good[0]
    shares |= {
        name: share_of_smiles(rows.cells(name)) for name in rows.columns if name not in shares
    }
    lengths = {  # of two columns that fit, a name is the shorter and InChI second to SMILES
        name: sum(len(cell) for cell in rows.cells(name)[:_LOOKED_AT] if not is_inchi(cell))
        for name in rows.columns
    }
    best = max(shares, key=lambda name: (round(shares[name], 1), lengths[name]), default="")
    if not best or shares[best] < 0.5:
        sure = [name for name in named if "smiles" in plain_name(name)]
        if sure:  # though most of its cells are none: they will be named one by one
            rows.say(f'SMILES are in the column "{sure[0]}", by its name')
            return sure[0]
        shown = ", ".join(rows.columns[:30])
        raise UserError(
            f"{rows.origin}: no column holds SMILES; name it with data.smiles (columns: {shown})"
        )
    rows.say(f'SMILES are in the column "{best}", by its content')
    return best


def share_of_smiles(cells: Iterable[str]) -> float:
    """Which part of a column's first cells are SMILES or InChI."""
    seen = [cell for cell in itertools.islice(cells, 4 * _LOOKED_AT) if cell][:_LOOKED_AT]
    return sum(map(looks_like_molecule, seen)) / len(seen) if seen else 0.0


def boolean_of(cells: Sequence[str]) -> np.ndarray | None:
    """1 and 0 for a column of words such as yes and no, NaN where missing; None for any other column."""
    different = {cell.lower() for cell in set(cells)}
    words = {word for word in different if word in BOOLEAN and word != "-"}
    if "+" in words and "-" in different:
        words.add("-")
    if len({BOOLEAN[word] for word in words}) != 2 or different - words - MISSING:
        return None
    worth = {word: float(BOOLEAN[word]) for word in words}
    return np.array([worth.get(cell.lower(), math.nan) for cell in cells])


def find_split(rows: MoleculeTable, data: DataConfig) -> np.ndarray | None:
    """The split of each row, "" where the column is empty; None where the table has no such column.

    Raises UserError for another word than train, val or test, and for data.split = "given" without the column.
    """
    if data.split != "given":
        if data.split_column in rows.columns:
            rows.say(
                f'the column "{data.split_column}" is not used: data.split = "{data.split}", not "given"'
            )
        return None
    column = pick(data.split_column, rows.columns, rows.origin, "data.split_column")
    return read_splits(rows.cells(column), column, lambda row: f"{rows.origin} {rows.names[row]}")


def find_groups(rows: MoleculeTable, data: DataConfig) -> list[str] | None:
    """The cells of the column data.group; None where it isn't set. Raises UserError where there is no such column."""
    if data.group is None:
        return None
    return rows.cells(pick(data.group, rows.columns, rows.origin, "data.group"))


def find_weights(rows: MoleculeTable, data: DataConfig) -> np.ndarray | None:
    """float64 [n], the column data.weight; None where it isn't set. Raises UserError for a cell that is no weight."""
    if data.weight is None:
        return None
    column = pick(data.weight, rows.columns, rows.origin, "data.weight")
    values = rows.table.numbers(column).values
    wrong = [row for row in np.flatnonzero(~(values >= 0)).tolist() if row not in rows.errors]
    if wrong:
        cell = rows.cells(column)[wrong[0]]
        where = f'{rows.origin} {rows.names[wrong[0]]}: column "{column}"'
        raise UserError(f"{where} is {cell!r} where a weight is expected (a number, 0 or more)")
    return values


def shown(cells: Sequence[tuple[int, str]], names: Sequence[str]) -> str:
    """ "'>10' (line 3), '<1' (line 5) and 7 more"."""
    return join_names([f"{cell[:40]!r} ({names[row]})" for row, cell in cells], NAMED)
