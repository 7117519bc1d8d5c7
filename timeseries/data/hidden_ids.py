"""Files that hold several series and don't say so: which columns look like ids, and what becomes of them.

Rows that repeat a stamp (of their series, where data.id is set) are looked at. A column looks like an id where it

- is text, or whole numbers called like ids, and tells most of these rows apart, or
- is text or whole numbers and spreads over the rows of every stamp more evenly than chance would have it: each store
  stands once at each stamp, where 31 counts of sales fall as they may.

Where series follow one another no stamp need repeat. Then a column that holds one value over a long stretch of rows,
another over the next and none of them again looks like one, if time goes back where it changes, or if it is text that
changes beside the calendar.

Such a file is refused, unless data.aggregate is set or data.drop names the column: rows of several series are joined
only where that is asked for, and a number of theirs is no target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import Axis
from isoform.timeseries.data.columns import Roles, kinds_of, looks_dated
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.stamps import Stamps
from isoform.timeseries.data.table import Table

_ROWS = 200_000  # that are looked at, of stamps from first to last
_GLANCE = 1_000  # rows that rule most columns out
_REPEATED = 0.05  # share of rows that repeat a stamp, below which these are single mistakes
_GAIN = 0.05  # share of the rows that a second column has to tell apart beyond the first
_COLUMNS = 64  # that are tried
_MOST = 0.5  # share of the rows that a column tells apart
_EVEN = 0.5  # variance of a column's counts a stamp, of what chance would make it
_STRETCH = 5  # rows at least that a column holds one value
_NO_IDS = ("repeats the stamps", "a running number", "an index", "empty")
_CALLED = re.compile(
    r"(^|[_\s])(unique_?)?(id|ids|key|nr|no|nbr|num|number|code)$"
    r"|^(store|shop|branch|site|station|plant|sensor|meter|item|sku|product|series|region|customer)",
    re.IGNORECASE,
)

_CLOCK = re.compile(
    r"[A-Z]{1,4}T|MES?Z|UTC|[+-]\d\d:?\d\d"
)  # what a clock is set to: CET, EDT, +01:00


@dataclass(frozen=True)
class _Repeats:
    """Rows of stamps that occur several times: places in the file [n], and the number of each one's stamp [n]."""

    rows: np.ndarray
    stamp: np.ndarray


@dataclass(frozen=True, eq=False)
class _Column:
    """Cells [n] of rows that repeat a stamp; `codes` numbers the different ones."""

    name: str
    text: bool
    codes: np.ndarray
    repeats: _Repeats

    @cached_property
    def apart(self) -> float:
        """Share of the rows that it tells apart."""
        return _apart([self])

    @cached_property
    def spread(self) -> float:
        """Squared differences of its counts a stamp from their share of the rows, by what chance would make."""
        stamps, codes = self.repeats.stamp, self.codes
        sizes = np.bincount(stamps)
        cells = int(codes.max()) + 1
        share = np.bincount(codes) / len(codes)
        pair, count = np.unique(stamps * cells + codes, return_counts=True)
        stamp, cell = np.divmod(pair, cells)
        squares = (count**2).sum() - 2 * (count * share[cell] * sizes[stamp]).sum()
        squares += (share**2).sum() * (sizes**2).sum()
        return float(squares / (len(codes) * (share * (1 - share)).sum()))

    @property
    def even(self) -> bool:
        """Whether it stands at each stamp alike."""
        return self.spread <= _EVEN


def settle_hidden_ids(
    table: Table, roles: Roles, data: DataConfig, axis: Axis, stamps: Stamps, findings: Findings
) -> Roles:
    """The roles without numbers that tell series apart. Raises UserError where nothing says that rows may be joined."""
    repeats = _repeats(axis, findings)
    pool = [] if repeats is None else _like_ids(table, roles, data, repeats)
    names = [one.name for one in _choose(pool)]
    if data.aggregate is None:
        if names:
            raise UserError(_question(table, roles, axis, _choose(pool)))
        if not roles.id:
            _refuse_stretches(table, roles, data, axis, stamps)
        return roles
    if not names:
        return roles
    numbers = {*names, *(one.name for one in pool if not one.text and one.even)}
    left = [name for name in roles.targets if name in numbers]
    table.left_out.extend((name, "tells rows of one stamp apart") for name in left)
    findings.say(
        f"rows of one stamp that differ in {_quoted(names)} are aggregated ({data.aggregate}, data.aggregate)",
        joined=names,
    )
    return replace(roles, targets=tuple(name for name in roles.targets if name not in numbers))


def _question(table: Table, roles: Roles, axis: Axis, chosen: Sequence[_Column]) -> str:
    names = [one.name for one in chosen]
    stamp = "each stamp of a series" if roles.id else "each stamp"
    times = f"{len(axis.order) / len(axis.place):.3g} times"
    said = f"{stamp} occurs {times}, once for each {_quoted(names)}"
    if np.ptp(np.diff(axis.first)) or _apart(chosen) < 1:
        said = f"{stamp} occurs {times} on average, and these rows differ in {_quoted(names)}"
    return (
        f"{table.where}: {said}; set data.id = {_listed([*roles.id, *names])}, or "
        f'data.drop = {_listed(names)} with data.aggregate = "sum" (or "mean", "last") to join these rows'
    )


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


# Rows of one stamp ----------------------------------------------------------------------------------------------------


def _repeats(axis: Axis, findings: Findings) -> _Repeats | None:
    """Rows of repeated stamps, evenly chosen; None where few rows repeat one, or where a clock was set back."""
    if axis.repeated < max(2, _REPEATED * len(axis.order)) or "suggested_tz" in findings.data:
        return None
    sizes = np.diff(axis.first)
    several = np.flatnonzero(sizes > 1)
    every = max(1, -(-int(sizes[several].sum()) // _ROWS))
    chosen = np.zeros(len(sizes), bool)
    chosen[several[::every]] = True
    counts = sizes[chosen]
    rows = axis.order[np.flatnonzero(np.repeat(chosen, sizes))]
    return _Repeats(rows, np.repeat(np.arange(len(counts)), counts))


def _like_ids(table: Table, roles: Roles, data: DataConfig, repeats: _Repeats) -> list[_Column]:
    """The columns that look like ids; one of numbers at most where no other could be forecast."""
    found = []
    for name, text in _without_role(table, roles, data)[:_COLUMNS]:
        column = _measure(table, name, text, repeats)
        named = text or _CALLED.search(name)
        if column is not None and (column.even or (named and column.apart >= _MOST)):
            found.append(column)
    numbers = [one for one in found if not one.text]
    if data.targets is None and numbers and {one.name for one in numbers} >= set(roles.targets):
        found.remove(max(numbers, key=lambda one: one.spread))
    return found


def _without_role(table: Table, roles: Roles, data: DataConfig) -> list[tuple[str, bool]]:
    """(name, whether it is text) of the columns that no setting names, and that hold text or may hold whole numbers."""
    named = {*roles.time, *roles.id, *roles.past, *roles.known, *roles.static, *roles.drop}
    if data.targets is not None:
        named |= set(roles.targets)
    named |= {name for name, reason in table.left_out if reason in _NO_IDS}
    kinds = kinds_of(table.frame)
    return [
        (name, kinds[name] == "O")
        for name in table.names
        if name not in named and kinds[name] != "M"
    ]


def _measure(table: Table, name: str, text: bool, repeats: _Repeats) -> _Column | None:
    """A column without gaps whose cells recur, None for any other."""
    codes = _codes(table.frame[name].iloc[repeats.rows], text)
    if codes is None or not 2 <= codes.max() + 1 <= len(codes) // 2:
        return None
    return _Column(name, text, codes, repeats)


def _codes(cells: pd.Series, text: bool) -> np.ndarray | None:
    """The number of each cell; None where one is missing, text reads as numbers, or numbers aren't whole."""
    if cells.isna().any():
        return None
    if text:
        if pd.to_numeric(cells.iloc[:_GLANCE], errors="coerce").notna().mean() >= 0.5:
            return None
    elif pd.api.types.is_float_dtype(cells.dtype):
        values = cells.to_numpy(np.float64)
        if (values[:_GLANCE] % 1).any() or (values % 1).any():
            return None
    return np.asarray(pd.factorize(cells)[0], np.int64)


def _apart(columns: Sequence[_Column]) -> float:
    """Share of the rows behind the first of each stamp that differ from all others of their stamp in some column."""
    key = columns[0].repeats.stamp
    stamps = int(key.max()) + 1
    for one in columns:
        key = pd.factorize(key * (int(one.codes.max()) + 1) + one.codes)[0].astype(np.int64)
    return (int(key.max()) + 1 - stamps) / (len(key) - stamps)


def _choose(pool: Sequence[_Column]) -> list[_Column]:
    """One column that tells most rows apart, or two that tell more, in the order of the file."""
    if not pool:
        return []
    first = max(pool, key=lambda one: (round(one.apart, 2), one.text, -one.spread))
    both = [_apart([first, one]) if one is not first else first.apart for one in pool]
    second = pool[int(np.argmax(np.round(both, 3)))]
    chosen = [first] if max(both) <= first.apart + _GAIN else [first, second]
    return [one for one in pool if one in chosen]


# Series that follow one another ---------------------------------------------------------------------------------------


def _refuse_stretches(
    table: Table, roles: Roles, data: DataConfig, axis: Axis, stamps: Stamps
) -> None:
    """Raises UserError for a column that is constant over long stretches, as where series follow one another."""
    readable = np.flatnonzero(~np.isnat(stamps.time))
    steps = np.diff(stamps.time[readable].astype(np.int64))
    backwards = steps < 0 if (steps < 0).sum() <= (steps > 0).sum() else steps > 0
    back = np.flatnonzero(backwards) + 1
    for name, text in _without_role(table, roles, data):
        if text and _CLOCK.fullmatch(str(table.frame[name].iloc[0])):
            continue
        starts = _stretches(table.frame[name], readable, text)
        if starts is not None and len(back) and np.isin(back, starts).all():
            raise UserError(_stretched(table, name, readable, starts, "and time goes back there"))
        if data.targets is not None or not (text or _CALLED.search(name)):
            continue
        starts = _stretches(table.frame[name], axis.order, text)
        if starts is not None and not _is_calendar(table.frame[name], stamps, axis.order, starts):
            raise UserError(
                _stretched(table, name, axis.order, starts, "as where series follow one another")
            )


def _stretches(column: pd.Series, rows: np.ndarray, text: bool) -> np.ndarray | None:
    """Where in `rows` the cells change, if each of several cells fills one stretch of rows; else None."""
    few = rows[:: max(1, len(rows) // _GLANCE)]
    for some in (few, rows):
        codes = _codes(column.iloc[some], text)
        if codes is None or not len(codes):
            return None
        starts = np.flatnonzero(np.diff(codes)) + 1
        if not 0 < len(starts) == codes.max():
            return None
    shortest = np.diff(starts, prepend=0, append=len(rows)).min()
    return starts if shortest >= _STRETCH else None


def _is_calendar(column: pd.Series, stamps: Stamps, rows: np.ndarray, starts: np.ndarray) -> bool:
    """Whether the cells are dates, or change with every month, quarter or year (give or take a zone's hours)."""
    if looks_dated(column):
        return True
    clock = pd.DatetimeIndex(stamps.time[rows])
    day = pd.Timedelta(days=1)
    for unit in ("M", "Q", "Y"):
        begins = (clock[starts] + day).to_period(unit).start_time
        near = np.abs(clock[starts] - begins) <= day
        passed = (clock[-1].to_period(unit) - clock[0].to_period(unit)).n
        if near.all() and len(starts) > 1 and abs(passed - len(starts)) <= 1:
            return True
    return False


def _stretched(table: Table, name: str, rows: np.ndarray, starts: np.ndarray, why: str) -> str:
    before, after = (
        str(table.frame[name].iloc[row]) for row in rows[starts[0] - 1 : starts[0] + 1]
    )
    return (
        f'{table.where}: column "{name}" is constant over long stretches ("{before}", then "{after}" from row '
        f"{table.numbers[rows[starts[0]]]}), {why}; set data.id = {_listed([name])}, or data.drop = {_listed([name])} "
        "where all rows are one series"
    )
