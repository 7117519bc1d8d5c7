"""Which column means what, and columns -> numbers: the roles of a table's columns, and what was left out and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.stamps import UNITS, unit_of

NAMED = 5  # cells and columns that a finding names
MOST_KINDS = 32  # different texts of a covariate that is encoded
_TIMES = ("datetime", "timestamp", "date_time", "date", "time", "ds", "stamp")
_UNIT = re.compile(r"\s*\[([^\[\]]*)\]\s*$")
_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__|index|level_\d+)?")
_NUMBERS = ("i", "u", "f", "b")
_KEYS = {"past": "data.past", "known": "data.known_future", "static": "data.static", "targets": "data.targets"}


@dataclass
class Table:
    """A file's rows and columns as read.

    frame    numeric columns as numbers, others as text; every column has its own name
    numbers  what a person calls each row: a csv's lines count from 1, the header's, other files' rows from 1
    units    column -> unit, where the file gives one
    groups   name -> columns, of a variable that has further axes than time (NetCDF, Zarr)
    time     the columns of stamps, where the file itself says which (NetCDF, Zarr)
    """

    frame: pd.DataFrame
    where: str
    numbers: np.ndarray
    units: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    time: tuple[str, ...] = ()
    left_out: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Roles:
    """The columns of each role, in the order of the config or else of the file."""

    time: tuple[str, ...]
    id: str | None
    targets: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns that vary along time."""
        return (*self.targets, *self.past, *self.known)


def unit_in(name: str) -> str:
    """ "degC" of a header "temp [degC]"; "" where there is none."""
    match = _UNIT.search(name)
    return match[1].strip() if match else ""


def pick(
    name: str, columns: Iterable[str], where: str, key: str, groups: Mapping[str, list[str]] | None = None
) -> list[str]:
    """The columns that a setting means: of that very name, of that name before its [unit], or of that variable.

    Raises UserError with the columns that there are.
    """
    known = list(columns)
    if name in known:
        return [name]
    if groups and name in groups:
        return groups[name]
    bare = [column for column in known if _UNIT.sub("", column) == name]
    if len(bare) == 1:
        return bare
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12:,} more" if len(known) > 12 else "")
    raise UserError(f'{where}: has no column "{name}" ({key}), only {shown}{suggest(name, known)}')


def find_time(columns: Sequence[str], data: DataConfig, where: str) -> tuple[str, ...]:
    """The columns of stamps: data.time, else those of a telling name, else year, month, day, ...; () if there are none.

    A column date beside one called time or hour gives the day alone, so both are taken.
    """
    if data.time is not None:
        return tuple(column for name in data.time for column in pick(name, columns, where, "data.time"))
    taken = {_UNIT.sub("", column).strip().lower(): column for column in reversed(columns)}
    roles = {*data.past, *data.known_future, *data.static, *data.drop, *(data.targets or ()), data.id}
    plain = next((taken[name] for name in _TIMES if name in taken and taken[name] not in roles), None)
    parts = {unit: column for column in reversed(columns) if (unit := unit_of(column)) and column not in roles}
    if plain is not None:
        clock = taken.get("time") if plain.lower() == "date" else None
        if clock is not None and clock not in roles:
            return plain, clock
        if plain.lower() == "date" and "hour" in parts:
            return (plain, *(parts[unit] for unit in UNITS[3:] if unit in parts))
        return (plain,)
    if "year" not in parts:
        return ()
    found = []
    for unit in UNITS:
        if unit not in parts:
            break
        found.append(parts[unit])
    return tuple(found)


def time_by_content(table: Table) -> tuple[str, ...]:
    """The one column that holds dates though its name doesn't say so (an index without a name, dates of parquet).

    Raises UserError where there is none.
    """
    frame = table.frame
    kinds = kinds_of(frame)
    found = [name for name, kind in kinds.items() if kind == "M" or (kind == "O" and _looks_dated(frame[name]))]
    if len(found) == 1:
        return (found[0],)
    shown = ", ".join(str(name) for name in list(frame)[:12]) + (" ..." if frame.shape[1] > 12 else "")
    reason = f"{' and '.join(found[:3])} all hold dates" if found else "no column is called date or time"
    raise UserError(f"{table.where}: {reason}; name the column of stamps, data.time = NAME (columns: {shown})")


def _looks_dated(column: pd.Series) -> bool:
    head = [str(cell) for cell in column.dropna().head(20)]
    pattern = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
    return bool(head) and all(pattern.match(cell.strip()) for cell in head)


def assign(table: Table, data: DataConfig, time: tuple[str, ...]) -> Roles:
    """The role of every column. Columns of no role that are text, empty or a running number go to table.left_out.

    Raises UserError for a name that there isn't, a column of two roles, a target that is no number, or no target.
    """
    columns, where = [str(name) for name in table.frame], table.where
    own: dict[str, list[str]] = {"time": list(time)}
    own["id"] = pick(data.id, columns, where, "data.id") if data.id is not None else []
    for key, names in (("past", data.past), ("known", data.known_future), ("static", data.static), ("drop", data.drop)):
        own[key] = [
            c for name in names for c in pick(name, columns, where, _KEYS.get(key, f"data.{key}"), table.groups)
        ]
    if data.targets is not None:
        own["targets"] = [c for name in data.targets for c in pick(name, columns, where, "data.targets", table.groups)]
    seen: dict[str, str] = {}
    for role, members in own.items():
        for column in members:
            if seen.setdefault(column, role) != role or members.count(column) > 1:
                raise UserError(f'{where}: column "{column}" is named as {seen[column]} and as {role}; leave one out')
    if data.targets is None:
        rest = [column for column in columns if column not in seen]
        own["targets"] = _usable(table, rest)
        if not own["targets"]:
            why = "; ".join(f"{name} {reason}" for name, reason in table.left_out[:NAMED])
            raise UserError(f"{where}: has no numeric column to forecast{f' ({why})' if why else ''}; set data.targets")
    elif rest := [column for column in columns if column not in seen]:
        table.left_out.extend((column, "has no role") for column in rest)
    return Roles(
        time, own["id"][0] if own["id"] else None, tuple(own["targets"]), tuple(own["past"]), tuple(own["known"]),
        tuple(own["static"]), tuple(own["drop"]),
    )  # fmt: skip


def say_left_out(table: Table, findings: Findings) -> None:
    """Names the columns of no role that are no series, in one line."""
    named = [(name, reason) for name, reason in table.left_out if reason != "has no role"]
    if named:
        shown = ", ".join(f"{name} ({reason})" for name, reason in named[:NAMED])
        more = f" and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
        findings.say(f"columns left out: {shown}{more}")
    findings.data["columns_left_out"] = [{"column": name, "reason": reason} for name, reason in table.left_out]


def _usable(table: Table, names: Sequence[str]) -> list[str]:
    """The columns that hold numbers worth forecasting; the others go to table.left_out."""
    frame, kept = table.frame, []
    kinds = kinds_of(frame)
    plain = [name for name in names if kinds[name] in "iufb"]
    # Of a store on the disk, only names and kinds are known.
    empty = set() if not len(frame) else {str(name) for name, none in frame[plain].isna().all().items() if none}
    whole = [name for name in plain if kinds[name] in "iu"]
    running = set()
    if len(frame) >= 5 and whole:
        runs = (np.diff(frame[whole].to_numpy(np.float64, na_value=np.nan), axis=0) == 1).all(0)
        running = {name for name, one in zip(whole, runs.tolist(), strict=True) if one}
    for name in names:
        reason = ""
        if name in running:
            reason = "a running number"
        elif kinds[name] in "iu" and _UNNAMED.fullmatch(name):
            reason = "an index"
        elif kinds[name] == "M":
            reason = "dates"
        elif name in empty:
            reason = "empty"
        elif kinds[name] == "O":
            filled = int(frame[name].notna().sum())
            numbers = int(pd.to_numeric(frame[name], errors="coerce").notna().sum())
            reason = "" if 2 * numbers >= filled > 0 else "text" if filled else "empty"
        if reason:
            table.left_out.append((name or "without a name", reason))
        else:
            kept.append(name)
    return kept


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
    kinds = kinds_of(part)
    bad: list[tuple[str, int, str]] = []
    count = 0
    repaired = {}
    for name in [name for name, kind in kinds.items() if kind not in _NUMBERS]:
        column = part[name]
        parsed = pd.to_numeric(column, errors="coerce")
        wrong = np.flatnonzero((parsed.isna() & column.notna()).to_numpy())
        wrong = np.array([row for row in wrong.tolist() if str(column.iloc[row]).strip()], np.int64)
        count += len(wrong)
        if len(bad) < NAMED:
            bad += [(str(name), row, str(column.iloc[row])) for row in wrong[: NAMED - len(bad)].tolist()]
        repaired[name] = np.asarray(parsed.to_numpy(dtype=np.float64, na_value=np.nan))
    if repaired:
        part = part.assign(**{str(name): values for name, values in repaired.items()})
    small = all(kind == np.float32 for kind in part.dtypes)
    values = part.to_numpy(dtype=np.float32 if small else np.float64, na_value=np.nan)
    if count:
        shown = ", ".join(f'row {table.numbers[row]} column {name} ("{text.strip()[:30]}")' for name, row, text in bad)
        more = f" and {count - len(bad):,} more" if count > len(bad) else ""
        findings.say(f"cells that are no number count as missing: {shown}{more}", unreadable_cells=count)
        findings.data["unreadable"] = [
            {"row": int(table.numbers[row]), "column": name, "text": text.strip()[:80]} for name, row, text in bad
        ]
    infinite = np.isinf(values)
    if infinite.any():
        values = np.where(infinite, np.nan, values)
        findings.say(f"{int(infinite.sum()):,} infinite values count as missing", infinite=int(infinite.sum()))
    return values


def encode(table: Table, roles: Roles, findings: Findings) -> Roles:
    """Covariates and static columns of text as 0 and 1, a column for each different text ("weather=rain").

    Raises UserError where a column has more than 32 different ones, or a target is text.
    """
    frame = table.frame
    kinds = kinds_of(frame)
    for name in [name for name in roles.targets if kinds[name] not in _NUMBERS]:
        column = frame[name]
        if not pd.to_numeric(column, errors="coerce").notna().any():
            filled = np.flatnonzero(column.notna().to_numpy())
            text = f' ("{column.iloc[int(filled[0])]}" in row {table.numbers[int(filled[0])]})' if len(filled) else ""
            raise UserError(f'{table.where}: column "{name}" holds no number{text}; name another one in data.targets')
    new: dict[str, list[str]] = {}
    added: dict[str, np.ndarray] = {}
    for role in ("past", "known", "static"):
        new[role] = []
        for name in getattr(roles, role):
            column = frame[name]
            parsed = None if kinds[name] in _NUMBERS else pd.to_numeric(column, errors="coerce")
            if parsed is None or 2 * int(parsed.notna().sum()) >= max(1, int(column.notna().sum())):
                new[role].append(name)
                continue
            codes, texts = pd.factorize(column.astype(str).where(column.notna()), sort=True)
            if len(texts) > MOST_KINDS:
                raise UserError(
                    f'{table.where}: column "{name}" ({_KEYS[role]}) holds {len(texts):,} different texts; '
                    f"at most {MOST_KINDS} are encoded as 0 and 1, give numbers instead"
                )
            for k, text in enumerate(texts):
                label = f"{name}={text}"
                added[label] = np.where(codes < 0, np.nan, codes == k)
                new[role].append(label)
            findings.say(f"{name} is text: encoded as {len(texts)} columns of 0 and 1")
    if added:
        table.frame = pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)
    past, known, static = (tuple(new[role]) for role in ("past", "known", "static"))
    return replace(roles, past=past, known=known, static=static)
