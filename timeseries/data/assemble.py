"""A table -> Panel: wide files as one series, long ones as variates of one window or as series of their own.

T steps of a grid, C columns, I ids.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import Axis, make_axis, taker
from isoform.timeseries.data.columns import (
    Roles,
    assign,
    encode,
    numbers_of,
    say_left_out,
    time_by_content,
)
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
    say_left_out(table, findings)
    roles = encode(table, roles, findings)
    codes, ids = _ids(table, roles)
    axis = make_axis(stamps, data, findings, table.where, codes, table.numbers)
    _refuse_hidden_ids(table, roles, stamps, axis)
    values = numbers_of(table, roles.numeric, findings)
    filled = ~np.isnan(values[:, : len(roles.targets)])
    if roles.targets and not filled.any():
        raise UserError(f"{table.where}: no cell of the target columns holds a number; set data.targets")
    units = {name: table.unit(name) for name in roles.targets}
    if codes is None:
        static = _static(table, roles, None, [])
        series = [_wide(axis, values, roles, units, static[0], data, table.where)]
    else:
        static = _static(table, roles, codes, ids)
        if _as_variates(axis, len(ids), data, findings):
            series = [_variates(axis, values, roles, ids, units, static, data, table.where)]
        else:
            series = _series(axis, values, roles, ids, units, static, data, findings)
    for finding in [] if table.source is None else table.source.findings:
        findings.say(str(finding))
    report(axis, data, findings)
    return Panel(
        series=tuple(series),
        freq=axis.freq,
        tz=axis.tz,
        name=source.name,
        licence=source.licence,
        sha256=source.sha256,
        findings=findings,
    )


def _stamps(table: Table, data: DataConfig, findings: Findings) -> tuple[tuple[str, ...], Stamps]:
    """The columns of stamps and what they say."""
    time = table.time or find_time([str(name) for name in table.frame], data, table.where) or time_by_content(table)
    stamps = parse_stamps([table.frame[name] for name in time], table.where)
    if len(time) > 1 and data.time is None and unit_of(time[0]) is None:
        alone = parse_stamps([table.frame[time[0]]], table.where)
        if (alone.time != alone.time.astype("M8[D]")).any():  # the date has its clock; the hour beside it repeats it
            for name in time[1:]:  # read as text
                numbers = pd.to_numeric(table.frame[name], errors="coerce")
                if numbers.notna().any():
                    table.frame[name] = numbers
            time, stamps = time[:1], alone
    findings.data["time"] = list(time)
    if data.time is None and not table.time:
        findings.say(f"stamps: {stamps.source}")
    return time, stamps


def _without_calendar(table: Table, roles: Roles, stamps: Stamps) -> Roles:
    """Leaves out columns called year, month, day, hour, ... that repeat the stamps."""
    clock = pd.DatetimeIndex(stamps.time)
    said = []
    for name in roles.targets:
        unit = unit_of(name)
        if unit is not None and pd.api.types.is_numeric_dtype(table.frame[name].dtype):
            cells = table.frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
            if np.array_equal(cells, getattr(clock, unit).to_numpy(dtype=np.float64), equal_nan=True):
                said.append(name)
    kept = tuple(name for name in roles.targets if name not in said)
    if not said or not kept:
        return roles
    table.left_out.extend((name, "repeats the stamps") for name in said)
    return Roles(roles.time, roles.id, kept, roles.past, roles.known, roles.static, roles.drop)


def _ids(table: Table, roles: Roles) -> tuple[np.ndarray | None, list[str]]:
    """(number of each row's id, ids in order): by value where all are whole numbers, by spelling otherwise."""
    if roles.id is None:
        return None, []
    column = table.frame[roles.id]
    texts = column.astype(str).str.strip()
    empty = np.flatnonzero((column.isna() | (texts == "")).to_numpy())
    if len(empty):
        raise UserError(
            f'{table.where} row {table.numbers[empty[0]]}: column "{roles.id}" (data.id) is empty; '
            "every row needs the name of its series"
        )
    codes, found = pd.factorize(texts)
    names = [str(name) for name in found]
    whole = all(name.isascii() and name.isdigit() for name in names)
    order = sorted(range(len(names)), key=lambda i: (int(names[i]), names[i]) if whole else names[i])
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], [names[i] for i in order]


def _refuse_hidden_ids(table: Table, roles: Roles, stamps: Stamps, axis: Axis) -> None:
    """A file whose stamps mostly repeat is long: its id column should be named, not averaged away."""
    if roles.id is not None or 2 * axis.repeated <= len(axis.order):
        return
    used = {*roles.time, *roles.numeric, *roles.static, *roles.drop}
    for name in (str(name) for name in table.frame):
        column = table.frame[name]
        if name in used or pd.api.types.is_float_dtype(column.dtype) or column.isna().any():
            continue
        if not pd.DataFrame({"time": stamps.time, "id": column.to_numpy()}).duplicated().any():
            raise UserError(
                f"{table.where}: each stamp occurs {len(axis.order) / len(axis.place):.3g} times, once for each "
                f'"{name}"; '
                f"set data.id = {name}, or data.drop = {name} to aggregate these rows"
            )


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
    spans = np.array([axis.span(k) for k in range(ids)])
    spans = spans[spans[:, 1] > spans[:, 0]]
    common, whole = spans[:, 1].min() - spans[:, 0].max(), spans[:, 1].max() - spans[:, 0].min()
    together = bool(ids <= MOST_VARIATES and common >= SHARED * whole)
    share = max(0.0, 100 * common / whole)
    findings.say(
        f"{ids:,} ids share {share:.0f} % of their time: "
        f"{'variates of one window' if together else 'series of their own'} (data.panel)",
        panel="variates" if together else "series",
    )
    return together


def _refuse_large(steps: int, columns: int, where: str) -> None:
    if steps * columns > MOST_CELLS:
        raise UserError(
            f"{where}: {steps:,} steps of {columns:,} columns take {steps * columns * 8 >> 30} GiB; drop columns, set "
            "a coarser data.freq, or write the data as a Zarr store, which is streamed"
        )


def _split(
    axis: Axis, values: np.ndarray, roles: Roles, span: tuple[int, int], how: str, series: int
) -> list[np.ndarray]:
    """[T, C] of targets, past and known over the steps of `span`. Covariates are never summed."""
    ends = np.cumsum([len(roles.targets), len(roles.past), len(roles.known)])
    parts = np.split(values, ends[:-1], axis=1)
    other = "mean" if how == "sum" else how
    return [
        axis.read(taker(part), *span, how if k == 0 else other, series)
        if part.shape[1]
        else np.zeros((span[1] - span[0], 0))
        for k, part in enumerate(parts)
    ]


def _wide(
    axis: Axis,
    values: np.ndarray,
    roles: Roles,
    units: dict[str, str],
    static: np.ndarray,
    data: DataConfig,
    where: str,
) -> xr.Dataset:
    _refuse_large(len(axis.time), values.shape[1], where)
    target, past, known = _split(axis, values, roles, (0, len(axis.time)), data.aggregate, 0)
    return make_series(
        axis.time,
        target,
        roles.targets,
        units=[units[name] for name in roles.targets],
        past=(roles.past, past),
        known=(roles.known, known),
        static=(roles.static, static),
    )


def _series(
    axis: Axis,
    values: np.ndarray,
    roles: Roles,
    ids: Sequence[str],
    units: dict[str, str],
    static: np.ndarray,
    data: DataConfig,
    findings: Findings,
) -> list[xr.Dataset]:
    """A Dataset for each id, over the steps from its first to its last row."""
    found, empty = [], []
    for k, name in enumerate(ids):
        start, stop = axis.span(k)
        target, past, known = _split(axis, values, roles, (start, stop), data.aggregate, k)
        if roles.targets and np.isnan(target).all():
            empty.append(name)
            continue
        found.append(
            make_series(
                axis.time[start:stop],
                target,
                roles.targets,
                units=[units[name] for name in roles.targets],
                past=(roles.past, past),
                known=(roles.known, known),
                static=(roles.static, static[k]),
                name=name,
            )
        )
    if empty:
        findings.say(f"ids without a value are left out: {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}")
    return found


def _variates(
    axis: Axis,
    values: np.ndarray,
    roles: Roles,
    ids: Sequence[str],
    units: dict[str, str],
    static: np.ndarray,
    data: DataConfig,
    where: str,
) -> xr.Dataset:
    """One Dataset; the columns of the ids side by side."""
    steps = len(axis.time)
    _refuse_large(steps, values.shape[1] * len(ids), where)
    kinds = (roles.targets, roles.past, roles.known)
    parts = [np.full((steps, len(ids), len(names)), np.nan) for names in kinds]
    for k in range(len(ids)):
        start, stop = axis.span(k)
        for part, one in zip(parts, _split(axis, values, roles, (start, stop), data.aggregate, k), strict=True):
            part[start:stop, k] = one
    single = len(roles.targets) == 1
    variates = [name if single else f"{name}/{column}" for name in ids for column in roles.targets]
    covariates = [_common(part, names, ids) for part, names in zip(parts[1:], kinds[1:], strict=True)]
    return make_series(
        axis.time,
        parts[0].reshape(steps, -1),
        variates,
        units=[units[column] for _ in ids for column in roles.targets],
        past=covariates[0],
        known=covariates[1],
        static=([f"{name}/{column}" for name in ids for column in roles.static], static.reshape(-1)),
    )


def _common(part: np.ndarray, names: Sequence[str], ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Covariates [T, I, C] as columns: one where all ids agree, else one an id."""
    labels, columns = [], []
    for k, name in enumerate(names):
        each = part[:, :, k]
        there = ~np.isnan(each)
        high = np.where(there, each, -np.inf).max(1)
        if (high == np.where(there, each, np.inf).min(1))[there.any(1)].all():
            labels.append(name)
            columns.append(np.where(there.any(1), high, np.nan)[:, None])
        else:
            labels += [f"{one}/{name}" for one in ids]
            columns.append(each)
    return labels, np.concatenate(columns, axis=1) if columns else np.zeros((len(part), 0))


def make_series(
    time: pd.DatetimeIndex,
    target: np.ndarray | xr.Variable,
    variates: Sequence[str],
    *,
    units: Sequence[str] = (),
    past: tuple[Sequence[str], np.ndarray] | None = None,
    known: tuple[Sequence[str], np.ndarray] | None = None,
    static: tuple[Sequence[str], np.ndarray] | None = None,
    name: str = "",
    rows: int | None = None,
    whole: bool = False,
) -> xr.Dataset:
    """One Dataset of a Panel from arrays [T, C] and their names; see series.

    Steps at the end without any target or known covariate are cut off unless `whole`; the attribute `rows` counts the
    steps up to the last target, or is given (for a target on the disk).
    """
    past_names, past_values = past or ((), np.zeros((len(time), 0)))
    known_names, known_values = known or ((), np.zeros((len(time), 0)))
    static_names, static_values = static or ((), np.zeros(0))
    if whole:
        rows = len(time)
    elif rows is None:
        assert isinstance(target, np.ndarray), "a target on the disk comes with its number of rows"
        rows = last_row(target)
    stop = max(rows, last_row(known_values))
    values = target[:stop] if isinstance(target, xr.Variable) else xr.Variable(("time", "variate"), target[:stop])
    names = _coordinates(*map(tuple, (variates, units or [""] * len(variates), past_names, known_names, static_names)))
    return xr.Dataset(
        {
            "target": values,
            "past_values": xr.Variable(("time", "past"), past_values[:stop]),
            "known_values": xr.Variable(("time", "known"), known_values[:stop]),
            "static_values": xr.Variable(("static",), static_values),
        },
        names.merge({"time": pd.DatetimeIndex(time[:stop]).as_unit("ns")}).coords,
        {"id": name, "rows": rows},
    )


@functools.lru_cache(maxsize=1)
def _coordinates(
    variates: tuple[str, ...],
    units: tuple[str, ...],
    past: tuple[str, ...],
    known: tuple[str, ...],
    static: tuple[str, ...],
) -> xr.Coordinates:
    """The names that the series of a panel have in common; making them is half the work of making a Dataset."""
    names = {"variate": variates, "past": past, "known": known, "static": static}
    found = {kind: _labels(one) for kind, one in names.items()}
    return xr.Dataset(coords={**found, "units": ("variate", _labels(units))}).coords


def _labels(names: Sequence[str]) -> np.ndarray:
    return np.array(list(names), dtype=np.str_)


def last_row(values: np.ndarray) -> int:
    """Rows up to the last one that holds any number."""
    there = np.flatnonzero(~np.isnan(values).all(1)) if values.shape[1] else np.zeros(0, np.int64)
    return int(there[-1]) + 1 if len(there) else 0


def report(axis: Axis, data: DataConfig, findings: Findings, unread: bool = False) -> None:
    """What the axis found: duplicates and gaps, over all series. `unread`: the values are still on the disk."""
    if axis.repeated:
        conflicts = int(axis.differing.sum())
        said = f"{axis.repeated:,} rows repeat a stamp"
        if conflicts:
            said += f"; at {conflicts:,} stamps the rows differ: aggregated ({data.aggregate})"
        else:
            said += ": equal ones count once, others are aggregated" if unread else ": they are equal and count once"
        findings.say(said)
    findings.data |= {"repeated_rows": axis.repeated}
    if not unread:
        findings.data["conflicting_stamps"] = int(axis.differing.sum())
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
