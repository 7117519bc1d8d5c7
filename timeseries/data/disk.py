"""Targets that stay in their Zarr store: a lazy variable on a regular grid, read by the rows that are asked for.

T steps, C columns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import last_row, make_names, make_series, say_gaps
from isoform.timeseries.data.axis import Axis, make_axis
from isoform.timeseries.data.columns import Roles, assign, say_left_out
from isoform.timeseries.data.doubles import say_repeated
from isoform.timeseries.data.names import unit_in
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.source_file import check_size, file_digest
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.data.table import Table

_BLOCK = 4096  # steps between scattered rows that are still read in one go
_BROKEN = (
    OSError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, OverflowError, IndexError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A variable along time as columns: `variable` has time as its first axis; `columns` in the order of the others."""

    name: str
    variable: xr.Variable
    columns: list[str]
    unit: str

    @property
    def nbytes(self) -> int:
        """Of its numbers, unpacked."""
        return math.prod(self.variable.shape) * max(4, self.variable.dtype.itemsize)

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.variable.dtype.kind in "fiub"

    def read(self, rows: slice | np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
        """[rows, columns] as stored, unpacked and with missing values as NaN; all columns if None."""
        if columns is not None and self.variable.ndim == 2:
            return np.asarray(
                self.variable[rows, columns].values
            )  # no more of the store than is wanted
        values = np.asarray(self.variable[rows].values)
        values = values.reshape(len(values), len(self.columns))
        return values if columns is None else values[:, columns]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What a library raises for a damaged file becomes one sentence."""
    try:
        yield
    except _BROKEN as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: is damaged or not what its ending says ({said}); write it again"
        ) from None


class StoreTarget(BackendArray):
    """The targets of a store on a regular grid, [T, C], read when rows are asked for.

    Gaps are rows of NaN, duplicates and coarser steps are aggregated as `axis` says, with no more than the rows that
    are asked for in memory. float32 unless the store has wider numbers.
    """

    def __init__(self, fields: Sequence[tuple[Field, np.ndarray]], axis: Axis, how: str) -> None:
        self.fields, self.axis, self.how = list(fields), axis, how
        widest = max(
            4,
            *(
                f.variable.dtype.itemsize
                if f.variable.dtype.kind == "f"
                else 2 * f.variable.dtype.itemsize
                for f, _ in fields
            ),
        )
        self.dtype = np.dtype(np.float32 if widest == 4 else np.float64)
        self.shape = (len(axis.time), sum(len(columns) for _, columns in fields))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        rows, columns = key
        if isinstance(rows, slice):
            wanted = np.arange(*rows.indices(self.shape[0]))
        else:
            wanted = np.atleast_1d(np.asarray(rows, np.int64))
        found = np.empty((len(wanted), self.shape[1]), self.dtype)
        order = np.argsort(wanted, kind="stable")
        for run in np.split(order, np.flatnonzero(np.diff(wanted[order]) > _BLOCK) + 1):
            if len(run):
                low, high = int(wanted[run[0]]), int(wanted[run[-1]]) + 1
                found[run] = self.axis.read(self._rows, low, high, self.how)[wanted[run] - low]
        found = found[:, columns]
        return found[0] if not isinstance(rows, slice) and np.ndim(rows) == 0 else found

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """[rows, C] of the store's own rows, infinite values missing."""
        if not len(rows):
            return np.zeros((0, self.shape[1]), self.dtype)
        in_order = bool((np.diff(rows) == 1).all())
        # A store is read in its own order; rows that come in another are put back.
        back = None if in_order else np.unique(rows, return_inverse=True)
        key = slice(int(rows[0]), int(rows[-1]) + 1) if back is None else back[0]
        values = np.empty((len(rows) if back is None else len(back[0]), self.shape[1]), self.dtype)
        start = 0
        for field, columns in self.fields:
            some = (
                columns
                if len(columns) < len(field.columns) or (np.diff(columns) != 1).any()
                else None
            )
            values[:, start : start + len(columns)] = field.read(key, some)
            start += len(columns)
        values[np.isinf(values)] = np.nan
        return values if back is None else values[back[1]]


def read_streamed(
    dataset: xr.Dataset,
    times: Sequence[str],
    fields: list[Field],
    data: DataConfig,
    findings: Findings,
    path: Path,
) -> Panel:
    """The panel of an open Zarr store whose targets stay on the disk; `times` are the variables of stamps.

    Covariates are read into memory. Raises UserError as `store.read_store` does.
    """
    kept = [
        field
        for field in fields
        if field.numeric and (field.variable.ndim or field.name in data.static)
    ]
    empty = {
        column: np.zeros(0, field.variable.dtype) for field in kept for column in field.columns
    }
    stamps_only = {name: dataset[name].values for name in times}
    columns = pd.DataFrame({**{name: values[:0] for name, values in stamps_only.items()}, **empty})
    groups = {field.name: field.columns for field in kept if field.columns != [field.name]}
    table = Table(columns, str(path), np.zeros(0, np.int64), groups=groups, time=tuple(times))
    table.left_out = [
        (field.name, str(field.variable.dtype)) for field in fields if not field.numeric
    ]
    roles = assign(table, data, table.time)
    say_left_out(table, findings)
    with readable(path):
        stamps = parse_stamps(
            [pd.Series(values, name=name) for name, values in stamps_only.items()],
            str(path),
            data.time is not None,
        )
    axis = make_axis(stamps, data, findings, str(path))
    if axis.repeated and data.doubles == "drop":
        raise UserError(
            f'{path}: data.doubles = "drop" compares whole rows, which stay on the disk; set data.stream = "memory"'
        )
    target = StoreTarget(_chosen(kept, roles.targets), axis, data.how)
    side = [_in_memory(kept, names, axis, data, path) for names in (roles.past, roles.known)]
    chunk = max(_chunk_rows(field.variable) for field, _ in target.fields)
    encoding = {"preferred_chunks": {"time": chunk}, "chunks": (chunk, target.shape[1])}
    variable = xr.Variable(
        ("time", "variate"), indexing.LazilyIndexedArray(target), encoding=encoding
    )
    with readable(path):
        rows = _last_row(variable, chunk)
    units = {column: field.unit or unit_in(column) for field in kept for column in field.columns}
    findings.say(
        f"{target.shape[0]:,} steps of {target.shape[1]:,} variates stay on the disk (data.stream)",
        streamed=True,
    )
    say_repeated(axis, data, findings, None)
    say_gaps(axis, findings)
    series = make_series(
        axis.time,
        variable,
        make_names(
            roles.targets,
            [units[name] for name in roles.targets],
            roles.past,
            roles.known,
            roles.static,
        ),
        past=side[0],
        known=side[1],
        static=_static(kept, roles, path),
        rows=rows,
    )
    return Panel(
        series=(series,),
        freq=axis.freq,
        tz=axis.tz,
        name=path.name,
        licence="the data owner's",
        sha256=store_digest(path),
        findings=findings,
    )


def _chosen(fields: Sequence[Field], names: Sequence[str]) -> list[tuple[Field, np.ndarray]]:
    """(field, its columns that are meant), in the order of `names`; neighbours of one field together."""
    place = {
        column: (k, i) for k, field in enumerate(fields) for i, column in enumerate(field.columns)
    }
    found: list[tuple[int, list[int]]] = []
    for name in names:
        k, i = place[name]
        if not found or found[-1][0] != k:
            found.append((k, []))
        found[-1][1].append(i)
    return [(fields[k], np.array(columns)) for k, columns in found]


def _in_memory(
    fields: Sequence[Field], names: Sequence[str], axis: Axis, data: DataConfig, path: Path
) -> np.ndarray:
    """[T, C] of covariates."""
    if not names:
        return np.zeros((len(axis.time), 0))
    check_size(path, 8 * len(axis.time) * len(names), "the size of its covariates")
    how = "mean" if data.how == "sum" else data.how
    with readable(path):
        return np.asarray(
            StoreTarget(_chosen(fields, names), axis, how)._read((slice(None), slice(None)))
        )


def _static(fields: Sequence[Field], roles: Roles, path: Path) -> np.ndarray:
    """[S] of variables that hold a single number."""
    single = {field.name: field for field in fields if not field.variable.ndim}
    for name in roles.static:
        if name not in single:
            raise UserError(
                f'{path}: "{name}" (data.static) varies; of a store on the disk, only single numbers are static'
            )
    return np.array([float(single[name].variable.values) for name in roles.static], np.float64)


def _chunk_rows(variable: xr.Variable) -> int:
    """Steps that are stored together; the variable's own order of axes may have been another."""
    preferred = variable.encoding.get("preferred_chunks") or {}
    found = preferred.get(variable.dims[0], 1)
    return int(found if isinstance(found, int | np.integer) else max(found))


def _last_row(variable: xr.Variable, chunk: int) -> int:
    """Rows up to the last one with a number, looked for from the end."""
    step = max(chunk, _BLOCK // max(1, variable.shape[1] // 1024))
    for stop in range(variable.shape[0], 0, -step):
        start = max(0, stop - step)
        if found := last_row(variable[start:stop].values):
            return start + found
    return 0


def store_digest(path: Path) -> str:
    """SHA-256 of a store: of the names and contents of all its files, which are read once for it, piece by piece."""
    sha = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        sha.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        sha.update(file_digest(file).encode())
    return sha.hexdigest()
