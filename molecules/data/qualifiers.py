"""Columns that say how another column's numbers are meant: ChEMBL's standard_relation and standard_units.

A column of relations is known by its cells (=, >, <, ~), one of units and one of kinds (IC50, Ki) by its name. It
belongs to the column that shares the rest of its name (standard_relation: standard_value), or to the only target.
n rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from isoform.core.data.numbers import Numbers
from isoform.core.errors import UserError, count
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.tables import MoleculeTable

# What a relation, in the cell itself or in a column beside it, says of the truth: at least that, at most, about.
SIGNS = {
    "=": 0, "==": 0, "~": 0, "≈": 0, ">": 1, ">=": 1, "=>": 1, ">>": 1, "≥": 1,
    "<": -1, "<=": -1, "=<": -1, "<<": -1, "≤": -1,
}  # fmt: skip
_EXACT = ("=", "==")
_OR_NOTHING = frozenset(["", *SIGNS])
_FIRST = 50  # cells that tell most columns
_ROLES = {
    "units": frozenset({"unit", "units", "uom"}),
    "kinds": frozenset({"type"}),
}
# Kinds of measurements, in capitals: what tells ChEMBL's standard_type from any other column of types.
_KINDS = frozenset(
    [
        "IC50",
        "EC50",
        "AC50",
        "CC50",
        "GI50",
        "LD50",
        "LC50",
        "KI",
        "KD",
        "KM",
        "POTENCY",
        "INHIBITION",
    ]
)
_MORE = frozenset(
    {"value", "values", "relation", "qualifier", "operator", "modifier", "prefix", "sign"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Powers of ten of molar concentrations.
_MOLAR = {"M": 0, "mM": -3, "uM": -6, "µM": -6, "μM": -6, "nM": -9, "pM": -12, "fM": -15}


def words_of(name: str) -> list[str]:
    """The words of a column's name in small letters: "PUBCHEM_CID" is pubchem, cid, and "MoleculeId" molecule, id."""
    return [word.lower() for word in _WORD.findall(name)]


def is_relation(cells: Sequence[str]) -> bool:
    """Whether a column holds relations alone; ChEMBL puts them into quotes."""
    if any(_bare(cell) not in _OR_NOTHING for cell in cells[:_FIRST]):
        return False
    different = {_bare(cell) for cell in set(cells)} - {""}
    return bool(different) and different <= SIGNS.keys()


def direction_of(cell: str) -> int:
    """1 where a cell such as ">10" is a lower bound of the truth, -1 where an upper one, 0 where it is about that."""
    head = cell.lstrip()[:2]
    return next((sign for mark, sign in SIGNS.items() if sign and mark in head), 0)


def find_qualifiers(rows: MoleculeTable, targets: Sequence[str]) -> list[str]:
    """The columns, in order, that may say how others are meant; one that belongs to no target is a finding."""
    found = []
    for name in rows.columns:
        sure = name not in targets and _is_qualifier(rows, name)
        if sure or (name not in targets and _has_role(name, "kinds")):
            found.append(name)
        if sure and not any(_belongs(rows, name, target, targets) for target in targets):
            rows.say(
                f'the column "{name}" is not used: by its name it belongs to none of the targets'
            )
    return found


def qualify(
    rows: MoleculeTable,
    target: str,
    targets: Sequence[str],
    qualifiers: Sequence[str],
    found: Numbers,
) -> Numbers:
    """A target's numbers in one unit and with the bounds that columns beside it give; what was used is a finding.

    qualifiers   as `find_qualifiers` gives them

    Raises UserError for several units that can't be turned into one.
    """
    for name in qualifiers:
        if _belongs(rows, name, target, targets):
            if is_relation(rows.cells(name)):
                found = _with_bounds(
                    rows,
                    name,
                    target,
                    found,
                )
            elif _has_role(name, "units"):
                found = _in_one_unit(rows, name, target, found)
            else:
                _name_kinds(rows, name, target, found)
    return found


def _bare(cell: str) -> str:
    return cell.strip().strip("'\"").strip()


def _has_role(name: str, role: str) -> bool:
    return bool(set(words_of(name)) & _ROLES[role])


def _stem(name: str) -> tuple[str, ...]:
    """What is left of a name without the words that say what part of a measurement it holds."""
    roles = _MORE.union(*_ROLES.values())
    return tuple(word for word in words_of(name) if word not in roles)


def _belongs(rows: MoleculeTable, name: str, target: str, targets: Sequence[str]) -> bool:
    """Whether a column qualifies a target: by the rest of its name, or as the only target that there is."""
    stem = _stem(name)
    if stem and stem == _stem(target):
        return True
    numbers = [other for other in rows.columns if other != name and "value" in words_of(other)]
    return len(targets) == 1 and not any(stem == _stem(other) for other in numbers)


def _is_qualifier(rows: MoleculeTable, name: str) -> bool:
    if is_relation(rows.cells(name)):
        return True
    return _has_role(name, "units") and not rows.table.numbers(name).numeric


def _with_bounds(rows: MoleculeTable, name: str, target: str, found: Numbers) -> Numbers:
    cells = rows.cells(target)
    bounds = [
        (row, f"{sign}{cells[row]}")
        for row, sign in enumerate(map(_bare, rows.cells(name)))
        if sign and sign not in _EXACT and math.isfinite(found.values[row])
    ]
    rows.say(f'the column "{name}" says which numbers of "{target}" are bounds')
    known = dict(found.censored)
    return replace(found, censored=sorted({**dict(bounds), **known}.items()))


def _in_one_unit(rows: MoleculeTable, name: str, target: str, found: Numbers) -> Numbers:
    units = [_bare(cell) for cell in rows.cells(name)]
    known = np.isfinite(found.values)
    counts = Counter(unit for unit, there in zip(units, known, strict=True) if there and unit)
    if not counts:
        return found
    usual = counts.most_common(1)[0][0]
    if len(counts) > 1 and not counts.keys() <= _MOLAR.keys():
        shown = ", ".join(f"{unit} {number}" for unit, number in counts.most_common(4))
        raise UserError(
            f'{rows.origin}: "{target}" has several units in the column "{name}" ({shown}); write all of its numbers '
            "in one, or leave out the rows of the others"
        )
    values = found.values.copy()
    for unit in counts.keys() - {usual}:
        at = [row for row, one in enumerate(units) if one == unit]
        values[at] = _converted(values[at], unit, usual)
    nameless = [row for row in np.flatnonzero(known).tolist() if not units[row]]
    values[nameless] = math.nan
    rows.table.units.setdefault(target, usual)
    rows.say(f'the unit of "{target}" is {usual}{_conversions(name, usual, counts)}')
    if nameless:
        rows.say(
            f'"{target}": {count(len(nameless), "number")} without a unit, taken for missing '
            f"({rows.names[nameless[0]]})"
        )
    return replace(found, values=values)


def _converted(values: np.ndarray, unit: str, wanted: str) -> np.ndarray:
    """Molar concentrations in another unit."""
    power = _MOLAR[unit] - _MOLAR[wanted]
    return np.asarray(values * 10.0**power if power >= 0 else values / 10.0**-power)


def in_units(molecules: Labelled, wanted: Mapping[str, str]) -> Labelled:
    """The molecules with each target in the unit that a run learned it in, `wanted` by its name; "" is unknown.

    A target whose unit the file doesn't say stays as it is. What is converted is a finding. Raises UserError for a unit
    that can't be turned into the run's.
    """
    if not wanted:
        return molecules
    targets, units = molecules.targets.copy(), list(molecules.units)
    findings = list(molecules.findings)
    for k, (name, unit) in enumerate(zip(molecules.target_names, units, strict=True)):
        asked = wanted.get(name, "")
        if "" in (unit, asked) or unit == asked:
            continue
        if not {unit, asked} <= _MOLAR.keys():
            raise UserError(
                f'{molecules.origin}: "{name}" is in {unit}, and the run learned it in {asked}; write its numbers in '
                f"{asked}"
            )
        targets[:, k], units[k] = _converted(targets[:, k], unit, asked), asked
        findings.append(f'"{name}" was converted from {unit} to {asked}, the run\'s unit')
    return replace(molecules, targets=targets, units=units, findings=findings)


def _conversions(name: str, usual: str, counts: Counter[str]) -> str:
    turned = [f"{number} from {unit}" for unit, number in counts.items() if unit != usual]
    converted = f"; {', '.join(turned)} were converted" if turned else ""
    return f', by the column "{name}"{converted}'


def _name_kinds(rows: MoleculeTable, name: str, target: str, found: Numbers) -> None:
    cells = rows.cells(name)
    counts = Counter(cells[row] for row in np.flatnonzero(np.isfinite(found.values)).tolist())
    if len(counts) > 1 and {kind.upper() for kind in counts} & _KINDS:
        shown = ", ".join(f"{kind or 'none'} {number}" for kind, number in counts.most_common(6))
        rows.say(
            f'"{target}" holds different quantities by the column "{name}" ({shown}); a model takes them for one'
        )
