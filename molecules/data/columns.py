"""Which column of a table means what: SMILES, names, splits and labels, and how a cell becomes a number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.parsing import looks_like_smiles
from isoform.molecules.data.tables import SMILES_NAMES, Rows, is_smiles_name, plain_name

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
MISSING = frozenset(
    ["", "na", "n/a", "n.a.", "nan", "-nan", "null", "none", "-", "--", "?", "#n/a", "nd", "n.d.", "missing", "unknown"]
)
# Two words that a column may hold instead of 0 and 1.
BOOLEAN = {
    "true": 1, "yes": 1, "y": 1, "active": 1, "positive": 1, "pos": 1, "+": 1, "t": 1,
    "false": 0, "no": 0, "n": 0, "inactive": 0, "negative": 0, "neg": 0, "-": 0, "f": 0,
}  # fmt: skip
NAMED = 5  # cells of each kind that a sentence shows
_LOOKED_AT = 50  # cells of a column, to tell what it holds
_ENOUGH = 0.8  # of a column's cells are numbers: the others count as missing, and are named
_BOUND = re.compile(r"^(<=|>=|=<|=>|<<|>>|<|>|≤|≥|~|≈)\s*(?=[-+.\d])")
_COMMA = re.compile(r"^[-+]?\d+,\d+([eE][-+]?\d+)?$")


@dataclass
class Numbers:
    """A column as float64 [n], NaN where missing; `censored` and `unread` are (row, cell)."""

    values: np.ndarray
    censored: list[tuple[int, str]] = field(default_factory=list)
    unread: list[tuple[int, str]] = field(default_factory=list)

    @property
    def numeric(self) -> bool:
        """Whether this is a column of numbers, with a few cells that are none at most."""
        read = int(np.isfinite(self.values).sum()) + sum(math.isnan(self.values[row]) for row, _ in self.censored)
        return read > 0 and read >= _ENOUGH * (read + len(self.unread))


def numbers_of(cells: Sequence[str], *, censored: str = "value", comma: bool = False) -> Numbers:
    """The numbers of a column's cells. Censored ones ('>10', '<= 0.5', '~3') are their bound, or NaN for "drop".

    comma   the decimal mark is a comma
    """
    known: dict[str, float] = {}
    found = Numbers(np.full(len(cells), math.nan))
    for row, cell in enumerate(cells):
        value = known.get(cell)
        if value is None:
            value = known[cell] = _number(cell, comma)
        if not math.isinf(value):
            found.values[row] = value
            continue
        bound = _BOUND.match(cell)
        inner = _number(cell[bound.end() :], comma) if bound else math.inf
        if bound and math.isfinite(inner):
            found.censored.append((row, cell))
            found.values[row] = inner if censored == "value" else math.nan
        else:
            found.unread.append((row, cell))
    return found


def _number(cell: str, comma: bool) -> float:
    """NaN for a missing value, infinity for a text that is no number."""
    if comma and _COMMA.match(cell):
        cell = cell.replace(",", ".")
    try:
        value = float(cell)
    except ValueError:
        return math.nan if cell.lower() in MISSING else math.inf
    if math.isnan(value):
        return math.nan
    return value if math.isfinite(value) and "_" not in cell else math.inf


def decimal_comma(columns: Sequence[Sequence[str]]) -> bool:
    """True where numbers are written as 3,5 and none as 3.5."""
    marked = dotted = 0
    for cells in columns:
        for cell in cells[:_LOOKED_AT]:
            marked += bool(_COMMA.match(cell))
            dotted += "." in cell and cell.lstrip("+-").replace(".", "", 1).isdigit()
    return marked > 0 and not dotted


def pick(name: str, columns: Sequence[str], where: str, key: str) -> str:
    """The column called `name`, in other letters too where only one is. Raises UserError listing the columns."""
    if name in columns:
        return name
    alike = [column for column in columns if plain_name(column) == plain_name(name)]
    if len(alike) == 1:
        return alike[0]
    shown = ", ".join(list(columns)[:30]) + (f" and {len(columns) - 30} more" if len(columns) > 30 else "")
    raise UserError(f'{where}: has no column "{name}" ({key}){suggest(name, columns)}; its columns are {shown}')


def find_smiles(rows: Rows, data: DataConfig) -> str:
    """The column of SMILES: data.smiles, else by its name, else the one whose cells RDKit reads. Raises UserError."""
    if rows.smiles is not None:
        return rows.smiles
    if data.smiles is not None:
        return pick(data.smiles, list(rows.columns), rows.origin, "data.smiles")
    named = [name for wanted in SMILES_NAMES for name in rows.columns if plain_name(name) == wanted]
    named += [name for name in rows.columns if is_smiles_name(name) and name not in named]
    shares = {name: _share(rows.columns[name]) for name in named}
    good = [name for name in named if shares[name] >= 0.5]
    if good:
        others = f" (also there: {', '.join(good[1:4])})" if len(good) > 1 else ""
        rows.findings.append(f'SMILES are in the column "{good[0]}", by its name{others}')
        return good[0]
    shares |= {name: _share(cells) for name, cells in rows.columns.items() if name not in shares}
    lengths = {name: sum(map(len, rows.columns[name][:_LOOKED_AT])) for name in rows.columns}
    best = max(shares, key=lambda name: (round(shares[name], 1), lengths[name]), default="")
    if not best or shares[best] < 0.5:
        sure = [name for name in named if "smiles" in plain_name(name)]
        if sure:  # though most of its cells are none: they will be named one by one
            rows.findings.append(f'SMILES are in the column "{sure[0]}", by its name')
            return sure[0]
        shown = ", ".join(list(rows.columns)[:30])
        raise UserError(f"{rows.origin}: no column holds SMILES; name it with data.smiles (columns: {shown})")
    rows.findings.append(f'SMILES are in the column "{best}", by its content')
    return best


def _share(cells: Sequence[str]) -> float:
    """Which part of a column's first cells are SMILES."""
    seen = [cell for cell in cells[: 4 * _LOOKED_AT] if cell][:_LOOKED_AT]
    return sum(map(looks_like_smiles, seen)) / len(seen) if seen else 0.0


def find_targets(rows: Rows, data: DataConfig, smiles: str, comma: bool) -> list[str]:
    """data.targets, or every numeric column that is left: not SMILES, names, splits, running numbers or constants."""
    columns = list(rows.columns)
    if data.targets is not None:
        chosen = [pick(name, columns, rows.origin, "data.targets") for name in data.targets]
        if len(set(chosen)) < len(chosen):
            raise UserError(f"{rows.origin}: data.targets names a column twice")
        if smiles in chosen:
            raise UserError(f'{rows.origin}: data.targets names "{smiles}", the column of SMILES')
        return chosen
    taken = {smiles, data.label, data.split_column, data.group, data.weight}
    taken |= {"name", "title"} if rows.smiles is not None else set()
    left_out: dict[str, list[str]] = {}
    chosen = []
    for name in columns:
        if name in taken:
            continue
        why = _no_target(name, rows.columns[name], comma)
        if why:
            left_out.setdefault(why, []).append(name)
        else:
            chosen.append(name)
    texts = left_out.get("text", [])
    if not chosen and data.task in ("auto", "multiclass", "binary"):
        classes = [name for name in texts if _is_classes(rows.columns[name])]
        if len(classes) == 1:
            rows.findings.append(f'the classes are in the column "{classes[0]}", the only one of few different texts')
            return classes
    for why, names in left_out.items():
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        rows.findings.append(f"not to be predicted ({why}): {shown}")
    if len(chosen) > 1:
        shown = ", ".join(chosen[:12]) + (f" and {len(chosen) - 12} more" if len(chosen) > 12 else "")
        rows.findings.append(f"{len(chosen)} numeric columns are to be predicted (data.targets chooses): {shown}")
    return chosen


def _no_target(name: str, cells: Sequence[str], comma: bool) -> str:
    """Why a column isn't taken for a target by itself, or ""."""
    if is_smiles_name(name) and _share(cells) >= 0.5:
        return "SMILES"
    if boolean_of(cells) is not None:
        return ""
    found = numbers_of(cells, comma=comma)
    if not found.numeric:
        return "text" if found.unread else "empty"
    read = found.values[np.isfinite(found.values)]
    if len(read) == len(found.values) > 2 and (np.diff(read) >= 1).all() and _is_dense(read):
        return "running number"
    if len(read) > 1 and (read == read[0]).all():
        return "the same in every row"
    return ""


def _is_dense(rising: np.ndarray) -> bool:
    """Whole numbers with few left out: rows that were numbered before some were deleted."""
    return bool((rising == np.round(rising)).all() and rising[-1] - rising[0] < 1.5 * len(rising))


def _is_classes(cells: Sequence[str]) -> bool:
    different = {cell for cell in cells if cell.lower() not in MISSING}
    return 2 <= len(different) <= min(100, max(2, len(cells) // 3))


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


def find_split(rows: Rows, data: DataConfig) -> np.ndarray | None:
    """The split of each row, "" where the column is empty; None where the table has no such column.

    Raises UserError for another word than train, val or test, and for data.split = "given" without the column.
    """
    if data.split != "given":
        if data.split_column in rows.columns:
            rows.findings.append(
                f'the column "{data.split_column}" is not used: data.split = "{data.split}", not "given"'
            )
        return None
    column = pick(data.split_column, list(rows.columns), rows.origin, "data.split_column")
    split = np.full(len(rows), "", dtype=object)
    for row, cell in enumerate(rows.columns[column]):
        if cell and cell.lower() not in SPLIT_NAMES:
            raise UserError(
                f'{rows.origin} {rows.names[row]}: column "{column}" is {cell!r} where train, val or test is expected'
            )
        split[row] = SPLIT_NAMES.get(cell.lower(), "")
    return split


def find_groups(rows: Rows, data: DataConfig) -> list[str] | None:
    """The cells of the column data.group; None where it isn't set. Raises UserError where there is no such column."""
    if data.group is None:
        return None
    return list(rows.columns[pick(data.group, list(rows.columns), rows.origin, "data.group")])


def find_weights(rows: Rows, data: DataConfig, comma: bool) -> np.ndarray | None:
    """float64 [n], the column data.weight; None where it isn't set. Raises UserError for a cell that is no weight."""
    if data.weight is None:
        return None
    column = pick(data.weight, list(rows.columns), rows.origin, "data.weight")
    values = numbers_of(rows.columns[column], comma=comma).values
    wrong = [row for row in np.flatnonzero(~(values >= 0)).tolist() if row not in rows.errors]
    if wrong:
        cell = rows.columns[column][wrong[0]]
        where = f'{rows.origin} {rows.names[wrong[0]]}: column "{column}"'
        raise UserError(f"{where} is {cell!r} where a weight is expected (a number, 0 or more)")
    return values


def shown(cells: Sequence[tuple[int, str]], names: Sequence[str]) -> str:
    """ "'>10' on line 3, '<1' on line 5 and 7 more"."""
    some = ", ".join(f"{cell[:40]!r} ({names[row]})" for row, cell in cells[:NAMED])
    return some + (f" and {len(cells) - NAMED} more" if len(cells) > NAMED else "")
