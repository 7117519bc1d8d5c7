"""A table -> Panel: wide files as one series, long ones as variates of one window or as series of their own.

T steps of a grid, C columns, I ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import Axis, make_axis, taker
from isoform.timeseries.data.clock import UNIT
from isoform.timeseries.data.columns import (
    Roles,
    assign,
    encode,
    numbers_of,
    say_left_out,
    time_by_content,
    without_numbers_of_ids,
)
from isoform.timeseries.data.doubles import say_repeated, settle_doubles
from isoform.timeseries.data.hidden_ids import settle_hidden_ids
from isoform.timeseries.data.ids import number_series
from isoform.timeseries.data.names import find_time
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.stamps import Stamps, parse_stamps, unit_of
from isoform.timeseries.data.table import Table

MOST_CELLS = 2**29  # of a grid in memory: 4 GiB as float64
MOST_VARIATES = 2_000  # ids that data.panel = "auto" makes variates of
SHARED = 0.9  # of their time, for the same


@dataclass(frozen=True)
class Source:
    """Where a table came from, for Panel."""

    name: str
    licence: str = "the data owner's"
    sha256: str = ""


def panel_of(table: Table, data: DataConfig, findings: Findings, source: Source) -> Panel:
    """The panel of a table in memory, by the rules of config.DataConfig and axis.

    In variates mode the columns of a long file are called "ID/COLUMN", or "ID" where there is one target only; a
    covariate that is the same for all ids stays one column of its own name. Raises UserError for every mistake.
    """
    time, stamps = _stamps(table, data, findings)
    roles = assign(table, data, time)
    if data.targets is None:
        roles = _without_calendar(table, roles, stamps)
    codes, ids = number_series(table, roles.id)
    if codes is not None and data.targets is None:
        roles = without_numbers_of_ids(table, roles, codes)
    axis = make_axis(stamps, data, findings, table.where, codes, table.numbers)
    roles = settle_hidden_ids(table, roles, data, axis, stamps, findings)
    say_left_out(table, findings)
    axis = settle_doubles(table, axis, {*roles.time, *roles.id}, data, findings)
    roles = encode(table, roles, findings)
    values = numbers_of(table, roles.numeric, findings)
    if roles.targets and np.isnan(values[:, : len(roles.targets)]).all():
        raise UserError(
            f"{table.where}: no cell of the target columns holds a number; set data.targets"
        )
    rows = _Rows(table, roles, axis, values, _static(table, roles, codes, ids), data.how)
    if codes is None:
        series = [_wide(rows)]
    elif _as_variates(axis, len(ids), data, findings):
        series = [_variates(rows, ids)]
    else:
        series = _series(rows, ids, findings)
    for finding in [] if table.source is None else table.source.findings:
        findings.say(str(finding))
    say_repeated(axis, data, findings, table.numbers)
    say_gaps(axis, findings)
    return Panel(
        series=tuple(series),
        freq=axis.freq,
        tz=axis.tz,
        name=source.name,
        licence=source.licence,
        sha256=source.sha256,
        findings=findings,
    )


@dataclass(frozen=True)
class _Rows:
    """A table's numbers [rows, C], and the axis that puts them on a grid.

    static_IS   one row for a wide file
    """

    table: Table
    roles: Roles
    axis: Axis
    values: np.ndarray
    static_IS: np.ndarray
    aggregate: str

    @property
    def units(self) -> list[str]:
        """Of the targets."""
        return [self.table.unit(name) for name in self.roles.targets]

    def read(self, span: tuple[int, int], series: int) -> list[np.ndarray]:
        """[T, C] of targets, past and known over the steps of `span`. Covariates are never summed."""
        roles = self.roles
        ends = np.cumsum([len(roles.targets), len(roles.past), len(roles.known)])
        target, *covariates = np.split(self.values, ends[:-1], axis=1)
        other = "mean" if self.aggregate == "sum" else self.aggregate
        found = [self._read(target, span, self.aggregate, series)]
        return found + [self._read(one, span, other, series) for one in covariates]

    def _read(self, part: np.ndarray, span: tuple[int, int], how: str, series: int) -> np.ndarray:
        if not part.shape[1]:
            return np.zeros((span[1] - span[0], 0))
        return self.axis.read(taker(part), *span, how, series)

    def refuse_large(self, columns: int) -> None:
        """Raises UserError for a grid that memory wouldn't hold."""
        steps = len(self.axis.time)
        if steps * columns > MOST_CELLS:
            raise UserError(
                f"{self.table.where}: {steps:,} steps of {columns:,} columns take {steps * columns * 8 >> 30} GiB; "
                "drop columns, set a coarser data.freq, or write the data as a Zarr store, which is streamed"
            )


def _stamps(table: Table, data: DataConfig, findings: Findings) -> tuple[tuple[str, ...], Stamps]:
    """The columns of stamps and what they say."""
    time = table.time or find_time(table.names, data, table.where) or time_by_content(table)
    stamps = parse_stamps([table.frame[name] for name in time], table.where, data.time is not None)
    if len(time) > 1 and data.time is None and unit_of(time[0]) is None:
        alone = parse_stamps([table.frame[time[0]]], table.where)
        if (
            alone.time != alone.time.astype("M8[D]")
        ).any():  # the date has its clock; the hour beside it repeats it
            _read_as_numbers(table, time[1:])
            time, stamps = time[:1], alone
    findings.data["time"] = list(time)
    if data.time is None and not table.time:
        findings.say(f"stamps: {stamps.source}")
    return time, stamps


def _read_as_numbers(table: Table, names: Sequence[str]) -> None:
    """Columns that were read as text and are no stamps."""
    for name in names:
        numbers = pd.to_numeric(table.frame[name], errors="coerce")
        if numbers.notna().any():
            table.frame[name] = numbers


def _without_calendar(table: Table, roles: Roles, stamps: Stamps) -> Roles:
    """Leaves out columns called year, month, day, hour, ... that repeat the stamps."""
    clock = pd.DatetimeIndex(stamps.time)
    repeats = {name for name in roles.targets if _repeats(table.frame[name], unit_of(name), clock)}
    kept = tuple(name for name in roles.targets if name not in repeats)
    if not repeats or not kept:
        return roles
    table.left_out.extend((name, "repeats the stamps") for name in roles.targets if name in repeats)
    return replace(roles, targets=kept)


def _repeats(column: pd.Series, unit: str | None, clock: pd.DatetimeIndex) -> bool:
    if unit is None or not pd.api.types.is_numeric_dtype(column.dtype):
        return False
    cells = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array_equal(cells, getattr(clock, unit).to_numpy(dtype=np.float64), equal_nan=True)


def _static(table: Table, roles: Roles, codes: np.ndarray | None, ids: Sequence[str]) -> np.ndarray:
    """[I, static columns] float64, one row for a wide file. Raises UserError where a value changes or is missing."""
    codes = np.zeros(len(table.frame), np.int64) if codes is None else codes
    found = np.zeros((max(1, len(ids)), len(roles.static)))
    silent = Findings()
    values = numbers_of(table, roles.static, silent)
    for k, name in enumerate(roles.static):
        grouped = pd.Series(values[:, k]).groupby(codes)
        low, high = grouped.min(), grouped.max()
        for problem, wrong in (("is empty", low.isna()), ("changes", low != high)):
            if wrong.any():
                of = f" for {ids[int(low.index[wrong.to_numpy()][0])]}" if ids else ""
                raise UserError(
                    f'{table.where}: column "{name}" (data.static) {problem}{of} where it needs one number an id; '
                    "correct it, or give it as data.past"
                )
        found[:, k] = low.to_numpy()
    return found


def _as_variates(axis: Axis, ids: int, data: DataConfig, findings: Findings) -> bool:
    if data.panel != "auto":
        return data.panel == "variates"
    spans = np.array([axis.span(number) for number in range(ids)])
    first, last = spans[spans[:, 1] > spans[:, 0]].T
    common, whole = last.min() - first.max(), last.max() - first.min()
    together = bool(ids <= MOST_VARIATES and common >= SHARED * whole)
    share = max(0.0, 100 * common / whole)
    how = "variates of one window" if together else "series of their own"
    findings.say(
        f"{ids:,} ids share {share:.0f} % of their time: {how} (data.panel)",
        panel="variates" if together else "series",
    )
    return together


def _wide(rows: _Rows) -> xr.Dataset:
    axis, roles = rows.axis, rows.roles
    rows.refuse_large(rows.values.shape[1])
    target, past, known = rows.read((0, len(axis.time)), 0)
    return make_series(
        axis.time,
        target,
        make_names(roles.targets, rows.units, roles.past, roles.known, roles.static),
        past=past,
        known=known,
        static=rows.static_IS[0],
    )


def _series(rows: _Rows, ids: Sequence[str], findings: Findings) -> list[xr.Dataset]:
    """A Dataset for each id, over the steps from its first to its last row."""
    roles, axis = rows.roles, rows.axis
    names = make_names(roles.targets, rows.units, roles.past, roles.known, roles.static)
    found, empty = [], []
    for number, name in enumerate(ids):
        start, stop = axis.span(number)
        target, past, known = rows.read((start, stop), number)
        if roles.targets and np.isnan(target).all():
            empty.append(name)
            continue
        static = rows.static_IS[number]
        found.append(
            make_series(
                axis.time[start:stop],
                target,
                names,
                past=past,
                known=known,
                static=static,
                name=name,
            )
        )
    if empty:
        findings.say(f"ids without a value are left out: {join_names(empty, 5)}")
    return found


def _variates(rows: _Rows, ids: Sequence[str]) -> xr.Dataset:
    """One Dataset; the columns of the ids side by side."""
    roles, axis = rows.roles, rows.axis
    steps = len(axis.time)
    rows.refuse_large(rows.values.shape[1] * len(ids))
    kinds = (roles.targets, roles.past, roles.known)
    parts = [np.full((steps, len(ids), len(names)), np.nan) for names in kinds]
    for number in range(len(ids)):
        start, stop = axis.span(number)
        for part, one in zip(parts, rows.read((start, stop), number), strict=True):
            part[start:stop, number] = one
    past_names, past = _common(parts[1], roles.past, ids)
    known_names, known = _common(parts[2], roles.known, ids)
    variates = list(ids) if len(roles.targets) == 1 else _by_id(ids, roles.targets)
    return make_series(
        axis.time,
        parts[0].reshape(steps, -1),
        make_names(
            variates, rows.units * len(ids), past_names, known_names, _by_id(ids, roles.static)
        ),
        past=past,
        known=known,
        static=rows.static_IS.reshape(-1),
    )


def _by_id(ids: Sequence[str], columns: Sequence[str]) -> list[str]:
    return [f"{name}/{column}" for name in ids for column in columns]


def _common(
    part: np.ndarray, names: Sequence[str], ids: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Covariates [T, I, C] as columns: one where all ids agree, else one an id."""
    labels: list[str] = []
    columns = [np.zeros((len(part), 0))]
    for k, name in enumerate(names):
        each_TI = part[:, :, k]
        there = ~np.isnan(each_TI)
        some = there.any(1)
        high = np.where(there, each_TI, -np.inf).max(1)
        low = np.where(there, each_TI, np.inf).min(1)
        if (high == low)[some].all():
            labels.append(name)
            columns.append(np.where(some, high, np.nan)[:, None])
        else:
            labels += [f"{one}/{name}" for one in ids]
            columns.append(each_TI)
    return labels, np.concatenate(columns, axis=1)


def make_names(
    variates: Sequence[str],
    units: Sequence[str] = (),
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    static: Sequence[str] = (),
) -> xr.Coordinates:
    """The names that the series of a panel have in common; making them is half the work of making a Dataset."""
    names = {"variate": variates, "past": past, "known": known, "static": static}
    labels = {kind: np.array(list(one), dtype=np.str_) for kind, one in names.items()}
    given = np.array(list(units) or [""] * len(variates), dtype=np.str_)
    return xr.Dataset(coords={**labels, "units": ("variate", given)}).coords


def make_series(
    time: pd.DatetimeIndex,
    target: np.ndarray | xr.Variable,
    names: xr.Coordinates,
    *,
    past: np.ndarray | None = None,
    known: np.ndarray | None = None,
    static: np.ndarray | None = None,
    name: str = "",
    rows: int | None = None,
    whole: bool = False,
) -> xr.Dataset:
    """One Dataset of a Panel from arrays [T, C] and their names (`make_names`); see panel.

    Steps at the end without any target or known covariate are cut off unless `whole`; the attribute `rows` counts the
    steps up to the last target, or is given (for a target on the disk).
    """
    nothing = np.zeros((len(time), 0))
    past = nothing if past is None else past
    known = nothing if known is None else known
    static = np.zeros(0) if static is None else static
    if whole:
        rows = len(time)
    elif rows is None:
        assert isinstance(target, np.ndarray), "a target on the disk comes with its number of rows"
        rows = last_row(target)
    stop = max(rows, last_row(known))
    if not isinstance(target, xr.Variable):
        target = xr.Variable(("time", "variate"), target)
    values = {
        "target": target[:stop],
        "past_values": xr.Variable(("time", "past"), past[:stop]),
        "known_values": xr.Variable(("time", "known"), known[:stop]),
        "static_values": xr.Variable(("static",), static),
    }
    stamps = pd.DatetimeIndex(time[:stop]).as_unit(UNIT)
    return xr.Dataset(values, names.merge({"time": stamps}).coords, {"id": name, "rows": rows})


def last_row(values: np.ndarray) -> int:
    """Rows up to the last one that holds any number."""
    there = np.flatnonzero(~np.isnan(values).all(1)) if values.shape[1] else np.zeros(0, np.int64)
    return int(there[-1]) + 1 if len(there) else 0


def say_gaps(axis: Axis, findings: Findings) -> None:
    """How many steps have no row, over all series."""
    empty, longest, where = 0, 0, 0
    for low, high in zip(axis.bounds[:-1], axis.bounds[1:], strict=True):
        skips = np.diff(axis.place[low:high]) - 1
        empty += int(np.maximum(skips, 0).sum())
        if len(skips) and skips.max() > longest:
            longest = int(skips.max())
            where = int(axis.place[low + int(skips.argmax())]) + 1
    if empty:
        findings.say(
            f"{empty:,} steps have no row and count as missing; the longest gap is {longest:,} steps from "
            f"{axis.time[where]}"
        )
    findings.data |= {"empty_steps": empty, "longest_gap": longest}
