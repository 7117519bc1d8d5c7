"""Which column means what, and columns -> numbers: the roles of a table's columns, and what was left out and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data import periods
from isoform.timeseries.data.names import PERIODS, pick
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.table import Table

NAMED = 5  # cells and columns that a finding names
MOST_KINDS = 32  # different texts of a covariate that is encoded
_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__|index|level_\d+)?")
_PLACE = re.compile(r"column (\d+)")  # how core's reader calls a column without a name
_NUMBERS = ("i", "u", "f", "b")
_KEYS = {
    "past": "data.past",
    "known": "data.known_future",
    "static": "data.static",
    "targets": "data.targets",
}


@dataclass(frozen=True)
class Roles:
    """The columns of each role, in the order of the config or else of the file."""

    time: tuple[str, ...]
    id: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns that vary along time."""
        return (*self.targets, *self.past, *self.known)


def time_by_content(table: Table) -> tuple[str, ...]:
    """The one column that holds dates or periods though its name doesn't say so (an index, dates of parquet).

    Of several, the one that is called after a period. Raises UserError where there is none.
    """
    frame = table.frame
    kinds = kinds_of(frame)
    found = [
        name
        for name, kind in kinds.items()
        if kind == "M" or (kind == "O" and looks_dated(frame[name]))
    ]
    called = [name for name in found if name.strip().lower() in PERIODS]
    for names in (found, called):
        if len(names) == 1:
            return (names[0],)
    shown = join_names(frame, 12)
    reason = (
        f"{' and '.join(found[:3])} all hold dates" if found else "no column is called date or time"
    )
    raise UserError(
        f"{table.where}: {reason}; name the column of stamps, data.time = NAME (columns: {shown})"
    )


def looks_dated(column: pd.Series) -> bool:
    """Whether the first cells of a column of text are dates, or name periods (2024-01, 2024Q1, 2024-W05)."""
    head = [str(cell).strip() for cell in column.dropna().head(20)]
    pattern = re.compile(
        r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{4}-(0[1-9]|1[0-2])$"
    )
    return bool(head) and all(
        pattern.match(cell) or periods.start_of(cell) is not None for cell in head
    )


def assign(table: Table, data: DataConfig, time: tuple[str, ...]) -> Roles:
    """The role of every column. Columns of no role that are text, empty or a running number go to table.left_out.

    Raises UserError for a name that there isn't, a column of two roles, a target that is no number, or no target.
    """
    columns, where = table.names, table.where
    own: dict[str, list[str]] = {"time": list(time)}
    asked = {
        "id": data.id or (),
        "past": data.past,
        "known": data.known_future,
        "static": data.static,
        "drop": data.drop,
    }
    if data.targets is not None:
        asked["targets"] = data.targets
    for role, names in asked.items():
        key = _KEYS.get(role, f"data.{role}")
        groups = table.groups if role != "id" else None
        own[role] = [column for name in names for column in pick(name, columns, where, key, groups)]
    taken = _refuse_two_roles(own, where)
    rest = [column for column in columns if column not in taken]
    if data.targets is None:
        own["targets"] = _usable(table, rest)
        if not own["targets"]:
            why = "; ".join(f"{name} {reason}" for name, reason in table.left_out[:NAMED])
            raise UserError(
                f"{where}: has no numeric column to forecast{f' ({why})' if why else ''}; set data.targets"
            )
    else:
        table.left_out.extend((column, "has no role") for column in rest)
    return Roles(**{role: tuple(names) for role, names in own.items()})


def _refuse_two_roles(own: dict[str, list[str]], where: str) -> dict[str, str]:
    """Column -> role. Raises UserError for a column that is named twice."""
    taken: dict[str, str] = {}
    for role, members in own.items():
        for column in members:
            if taken.setdefault(column, role) != role or members.count(column) > 1:
                raise UserError(
                    f'{where}: column "{column}" is named as {taken[column]} and as {role}; leave one out'
                )
    return taken


def without_numbers_of_ids(table: Table, roles: Roles, codes: np.ndarray) -> Roles:
    """Leaves out whole numbers that name the series again: one value in all rows of a series, another in another.

    codes   number of each row's series
    """
    leads = np.unique(codes, return_index=True)[1] if len(roles.targets) > 1 else codes[:0]
    again = set()
    for name in roles.targets if 1 < len(leads) < len(codes) // 2 else ():
        cells = table.frame[name]
        if kinds_of(cells.to_frame())[name] in "iu":
            values = cells.to_numpy(np.float64, na_value=np.nan)
            mine = values[leads]
            if len(set(mine.tolist())) > 1 and (mine[codes] == values).all():
                again.add(name)
    kept = tuple(name for name in roles.targets if name not in again)
    if not kept:
        return roles
    table.left_out.extend((name, "one number a series") for name in roles.targets if name in again)
    return replace(roles, targets=kept)


def say_left_out(table: Table, findings: Findings) -> None:
    """Names the columns of no role that are no series, in one line."""
    named = [(name, reason) for name, reason in table.left_out if reason != "has no role"]
    if named:
        shown = join_names([f"{name} ({reason})" for name, reason in named], NAMED)
        findings.say(f"columns left out: {shown}")
    findings.data["columns_left_out"] = [
        {"column": name, "reason": reason} for name, reason in table.left_out
    ]


def _usable(table: Table, names: Sequence[str]) -> list[str]:
    """The columns that hold numbers worth forecasting; the others go to table.left_out."""
    frame = table.frame
    kinds = kinds_of(frame)
    plain = [name for name in names if kinds[name] in _NUMBERS]
    empty: set[str] = set()
    if len(frame):  # of a store on the disk, only names and kinds are known
        empty = {str(name) for name, none in frame[plain].isna().all().items() if none}
    running = _running(frame, [name for name in plain if kinds[name] in "iu"])
    kept, free = [], set(names)
    for place, name in enumerate(table.names, 1):
        if name not in free:
            continue
        reason = ""
        if name in running:
            reason = "a running number"
        elif kinds[name] in "iu" and _is_index(name, place):
            reason = "an index"
        elif kinds[name] == "M":
            reason = "dates"
        elif name in empty:
            reason = "empty"
        elif kinds[name] == "O":
            reason = _why_text(table, name)
        if reason:
            table.left_out.append((name or "without a name", reason))
        else:
            kept.append(name)
    return kept


def _running(frame: pd.DataFrame, whole: list[str]) -> set[str]:
    """Columns of whole numbers that count the rows."""
    if len(frame) < 5 or not whole:
        return set()
    steps = np.diff(frame[whole].to_numpy(np.float64, na_value=np.nan), axis=0)
    counts = (steps == 1).all(0)
    return {name for name, one in zip(whole, counts.tolist(), strict=True) if one}


def _is_index(name: str, place: int) -> bool:
    by_place = _PLACE.fullmatch(name)
    return _UNNAMED.fullmatch(name) is not None or (
        by_place is not None and int(by_place[1]) == place
    )


def _why_text(table: Table, name: str) -> str:
    """Why a column of text is no series, "" where at least half of its cells are numbers."""
    filled = int(table.frame[name].notna().sum())
    if not filled:
        return "empty"
    return "" if 2 * table.read_text(name).count >= filled else "text"


def kinds_of(frame: pd.DataFrame) -> dict[str, str]:
    """Column -> "i", "u", "f" or "b" for numbers, "M" for dates, "O" for everything else."""
    letters: dict[object, str] = {}
    for kind in frame.dtypes.unique():
        if pd.api.types.is_datetime64_any_dtype(kind):
            letters[kind] = "M"
        else:  # pandas' own nullable kinds have numpy's letters too
            letters[kind] = kind.kind if getattr(kind, "kind", "O") in "iufb" else "O"
    return {str(name): letters[kind] for name, kind in frame.dtypes.items()}


def numbers_of(table: Table, names: Sequence[str], findings: Findings) -> np.ndarray:
    """[rows, columns] float: the columns as numbers, NaN where a cell is empty, infinite or can't be read.

    The cells that can't be read are named with their row. float32 where all columns are, else float64.
    """
    if not names:
        return np.zeros((len(table.frame), 0))
    part = table.frame[list(names)]
    texts = {
        name: table.read_text(name) for name, kind in kinds_of(part).items() if kind not in _NUMBERS
    }
    if texts:
        part = part.assign(**{name: found.values for name, found in texts.items()})
    small = all(kind == np.float32 for kind in part.dtypes)
    values = part.to_numpy(dtype=np.float32 if small else np.float64, na_value=np.nan)
    wrong = [(name, row) for name, found in texts.items() for row in found.wrong]
    if wrong:
        _say_unreadable(table, wrong, findings)
    infinite = np.isinf(values)
    count = int(infinite.sum()) + sum(found.infinite for found in texts.values())
    if infinite.any():
        values = np.where(infinite, np.nan, values)
    if count:
        findings.say(f"{count:,} infinite values count as missing", infinite=count)
    return values


def _say_unreadable(table: Table, wrong: Sequence[tuple[str, int]], findings: Findings) -> None:
    named: list[dict[str, Any]] = []
    for name, row in wrong[:NAMED]:
        text = str(table.cell(name, row)).strip()
        named.append({"row": int(table.numbers[row]), "column": name, "text": text[:80]})
    shown = ", ".join(
        f'row {one["row"]} column {one["column"]} ("{one["text"][:30]}")' for one in named
    )
    more = f" and {len(wrong) - len(named):,} more" if len(wrong) > len(named) else ""
    findings.say(
        f"cells that are no number count as missing: {shown}{more}", unreadable_cells=len(wrong)
    )
    findings.data["unreadable"] = named


def encode(table: Table, roles: Roles, findings: Findings) -> Roles:
    """Covariates and static columns of text as 0 and 1, a column for each different text ("weather=rain").

    Raises UserError where a column has more than 32 different ones, or a target is text.
    """
    kinds = kinds_of(table.frame)
    for name in roles.targets:
        if kinds[name] not in _NUMBERS:
            _refuse_text(table, name)
    new: dict[str, list[str]] = {"past": [], "known": [], "static": []}
    added: dict[str, np.ndarray] = {}
    for role, names in new.items():
        for name in getattr(roles, role):
            if kinds[name] in _NUMBERS or _why_text(table, name) != "text":
                names.append(name)
                continue
            flags = _flags(table, name, role)
            names += flags
            added |= flags
            findings.say(f"{name} is text: encoded as {len(flags)} columns of 0 and 1")
    if added:
        table.frame = pd.concat([table.frame, pd.DataFrame(added, index=table.frame.index)], axis=1)
    past, known, static = (tuple(names) for names in new.values())
    return replace(roles, past=past, known=known, static=static)


def _refuse_text(table: Table, name: str) -> None:
    """Raises UserError for a target without any number."""
    if table.read_text(name).count:
        return
    filled = np.flatnonzero(table.frame[name].notna().to_numpy())
    text = ""
    if len(filled):
        row = int(filled[0])
        text = f' ("{table.cell(name, row)}" in row {table.numbers[row]})'
    raise UserError(
        f'{table.where}: column "{name}" holds no number{text}; name another one in data.targets'
    )


def _flags(table: Table, name: str, role: str) -> dict[str, np.ndarray]:
    """A column of 0 and 1 for each different text, NaN where there is none."""
    column = table.frame[name]
    codes, texts = pd.factorize(column.astype(str).where(column.notna()), sort=True)
    if len(texts) > MOST_KINDS:
        raise UserError(
            f'{table.where}: column "{name}" ({_KEYS[role]}) holds {len(texts):,} different texts; '
            f"at most {MOST_KINDS} are encoded as 0 and 1, give numbers instead"
        )
    return {
        f"{name}={text}": np.where(codes < 0, np.nan, codes == k) for k, text in enumerate(texts)
    }
