"""Rows of a panel as scaled float32: held in memory, or read from a store block by block as windows ask for them.

n windows, R rows of a block, C columns of a kind ("target", "past", "known", "calendar").
Both ways give the same bits: a row is scaled by one function, and a window is nothing but rows.
"""

from __future__ import annotations

import abc
import functools
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from isoform.core.errors import UserError
from isoform.timeseries.data import calendar, holidays
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.scaling import Moments, Scaling

STREAM_BYTES = 2**30  # data.stream = "auto": a store from this size on stays on the disk
BLOCK_BYTES = 2 * 2**20  # of scaled rows; a store's own chunks may ask for more
HELD_BYTES = 256 * 2**20  # of scaled rows that streaming keeps at a time
CHUNK_BYTES = 256 * 2**20  # no store with larger chunks is streamed
POOL = 8  # places of the store that a training batch is drawn from, where memory allows
STORED = ("target", "past", "known")


class Reader:
    """Rows of a panel by series and number, as they are stored or as the model takes them.

    names       the columns of each kind, a holiday's among the known ones where `region` is set
    """

    def __init__(
        self, panel: Panel, names: Mapping[str, Sequence[str]], region: str | None
    ) -> None:
        self.panel, self.names = panel, dict(names)
        self.holidays = None if region is None else holidays.Holidays(region)
        self.scaling: Scaling | None = None
        self.rows = [int(series.attrs["rows"]) for series in panel]

    def stored(self, series: int, kind: str, start: int, stop: int) -> np.ndarray:
        """[stop - start, C] float in the data's units, NaN where missing or behind the data's end."""
        names = self.file_names(kind)
        variable = variable_of(self.panel.series[series], kind) if names else None
        if variable is None:
            return np.full((stop - start, len(names)), np.nan)
        end = self.rows[series] if kind != "known" else variable.shape[0]
        held = variable[start : max(start, min(stop, end))]
        values = _as_float(np.asarray(held.values))
        values[~np.isfinite(values)] = np.nan
        missing = stop - start - len(values)
        if not missing:
            return values
        behind = np.full((missing, len(names)), np.nan, values.dtype)
        return np.concatenate([values, behind])

    def file_names(self, kind: str) -> list[str]:
        """The columns of a kind that come from the file."""
        if kind != "known" or self.holidays is None:
            return list(self.names[kind])
        return [name for name in self.names[kind] if name != holidays.NAME]

    def read(self, series: int, kind: str, start: int, stop: int) -> np.ndarray:
        """[stop - start, C] float32 as the model takes it, NaN where missing; rows may lie behind the data's end."""
        if kind == "calendar":
            return calendar.marks(
                calendar.stamps_of(self.panel, series, start, stop), tuple(self.names[kind])
            )
        assert self.scaling is not None
        names = self.file_names(kind)
        values = self.scaling.scaled(kind, names, self.stored(series, kind, start, stop))
        if kind == "known" and self.holidays is not None:
            flags = self.holidays.flags(calendar.stamps_of(self.panel, series, start, stop))
            values = np.concatenate([values, flags[:, None]], axis=1)
        return values

    @property
    def row_bytes(self) -> int:
        """Of one row of all kinds as the model takes it."""
        return 4 * max(1, sum(len(names) for names in self.names.values()))

    @functools.cached_property
    def block_rows(self) -> int:
        """Rows to read at a time: about BLOCK_BYTES, whole chunks of the store. Raises UserError for huge chunks."""
        stored = [variable_of(series, kind) for series in self.panel for kind in STORED]
        chunk = max(_chunk_rows(variable) for variable in stored if variable is not None)
        chunk_bytes = chunk * self.row_bytes
        if chunk_bytes > CHUNK_BYTES:
            raise UserError(
                f"{self.panel.name}: its chunks of {chunk} rows take {chunk_bytes >> 20} MiB each, too much to stream; "
                f"write the store with at most {CHUNK_BYTES // self.row_bytes} rows a chunk"
            )
        chunks = max(1, round(BLOCK_BYTES / chunk_bytes))
        return chunks * chunk

    def spans(self, series: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of pieces that cover the rows of a series, each small enough for memory."""
        step = self.block_rows
        for start in range(0, self.rows[series], step):
            yield start, min(start + step, self.rows[series])


def variable_of(series: xr.Dataset, kind: str) -> xr.Variable | None:
    """The values of a kind, None where the series has none."""
    return series.variables.get("target" if kind == "target" else f"{kind}_values")


def _as_float(values: np.ndarray) -> np.ndarray:
    """A copy as float32 where that holds every value, else as float64."""
    small = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return values.astype(np.float32 if small else np.float64)


def _chunk_rows(variable: xr.Variable) -> int:
    """Rows of one chunk of a store; 1 where the variable is in memory or doesn't say."""
    preferred = variable.encoding.get("preferred_chunks") or {}
    chunks = variable.encoding.get("chunks") or [1]
    rows = preferred.get(variable.dims[0], chunks[0])
    if not isinstance(rows, int | np.integer):
        return 1
    return min(int(rows), max(1, variable.shape[0]))


def is_streamed(panel: Panel, stream: str) -> bool:
    """Whether windows are read from the disk (data.stream): "auto" for a store above STREAM_BYTES."""
    if stream != "auto":
        return stream == "disk"
    targets = [series.variables["target"] for series in panel]
    if all(variable._in_memory for variable in targets):
        return False
    size = sum(math.prod(variable.shape) * variable.dtype.itemsize for variable in targets)
    return size > STREAM_BYTES


def fit_moments(
    reader: Reader, train_stops: Sequence[int], kinds: Sequence[str]
) -> tuple[dict[str, Moments], list[np.ndarray]]:
    """One pass over all rows: moments of the training rows of `kinds`, and the missing targets of every row.

    The counts are int32, one array a series; an empty one stands for a series without a gap.
    """
    moments = {kind: Moments(len(reader.file_names(kind))) for kind in kinds}
    counts = []
    for series, rows in enumerate(reader.rows):
        gaps = np.zeros(rows, np.int32)
        training = train_stops[series] if kinds else 0
        for start, stop in reader.spans(series):
            for kind in dict.fromkeys(("target", *kinds)):
                values = reader.stored(series, kind, start, stop)
                if kind in moments and start < training:
                    moments[kind].add(values[: training - start])
                if kind == "target":
                    gaps[start:stop] = np.isnan(values).sum(1)
        for found in moments.values():
            found.flush()
        counts.append(gaps if gaps.any() else np.zeros(0, np.int32))
    return moments, counts


class Part(NamedTuple):
    """A piece of every window: rows [first, first + length) of a kind, counted from the window's origin."""

    kind: str
    first: int
    length: int


class Rows(abc.ABC):
    """Scaled rows of all series, `ahead` more behind the end of each."""

    def __init__(self, reader: Reader, ahead: int) -> None:
        self.reader, self.ahead = reader, ahead
        self.lengths = np.array([rows + ahead for rows in reader.rows], np.int64)

    @abc.abstractmethod
    def windows(
        self, parts: Mapping[str, Part], series: np.ndarray, origin: np.ndarray
    ) -> dict[str, np.ndarray]:
        """{name: [n, length, C] float32}, fresh copies, of n windows by series and origin; NaN where missing."""


class MemoryRows(Rows):
    """All rows of all series behind one another, one array a kind."""

    def __init__(self, reader: Reader, ahead: int) -> None:
        super().__init__(reader, ahead)
        self.first = np.concatenate([[0], np.cumsum(self.lengths)])
        self.held = {kind: self._hold(kind) for kind, names in reader.names.items() if names}

    def _hold(self, kind: str) -> np.ndarray:
        held = np.empty((int(self.first[-1]), len(self.reader.names[kind])), np.float32)
        step = max(1, 8 * BLOCK_BYTES // self.reader.row_bytes)
        for series, length in enumerate(self.lengths):
            mine = held[self.first[series] : self.first[series + 1]]
            for start in range(0, int(length), step):
                stop = min(start + step, int(length))
                mine[start:stop] = self.reader.read(series, kind, start, stop)
        return held

    def windows(
        self, parts: Mapping[str, Part], series: np.ndarray, origin: np.ndarray
    ) -> dict[str, np.ndarray]:
        """See Rows.windows. A part is one contiguous run of the array, so each is copied in one go."""
        row = self.first[series] + origin
        found = {}
        for name, part in parts.items():
            held = self.held[part.kind]
            rows, columns = held.shape
            shape = (max(0, rows - part.length + 1), part.length * columns)
            runs = np.lib.stride_tricks.as_strided(held, shape, (4 * columns, 4), writeable=False)
            found[name] = runs[row + part.first].reshape(-1, part.length, columns)
        return found

    def whole(self, series: int, kind: str) -> np.ndarray:
        """[rows, C] float32 of one series, without the rows behind its end; a view."""
        start = int(self.first[series])
        return self.held[kind][start : start + self.reader.rows[series]]


class DiskRows(Rows):
    """Rows in blocks: those used last are kept, in memory that is set aside once (HELD_BYTES, or two windows' blocks).

    `span`: rows of the longest window.
    """

    def __init__(self, reader: Reader, ahead: int, span: int) -> None:
        super().__init__(reader, ahead)
        self.block = reader.block_rows
        self.tail = -(-span // self.block) + 1  # blocks that a window may touch
        self.slots = max(HELD_BYTES // (self.block * reader.row_bytes), 2 * self.tail)
        blocks = -(-self.lengths // self.block)
        self.first = np.concatenate([[0], np.cumsum(blocks)])  # number of a series' first block
        self.slot_of = np.full(int(self.first[-1]), -1, np.int64)
        self.used: OrderedDict[int, int] = (
            OrderedDict()
        )  # block -> slot, the one used longest ago first
        self.free = list(range(self.slots))
        self.arena: dict[str, np.ndarray] = {}

    def group_rows(self) -> tuple[int, int]:
        """(rows of a group, groups of a pool) such that all windows that begin in a pool's rows fit into memory.

        As many places at a time as let a group be four times as long as the rows that its windows share with the next.
        """
        for pool in (POOL, POOL // 2, 2):
            blocks = self.slots // pool - self.tail
            if blocks >= 4 * self.tail:
                return blocks * self.block, pool
        return max(1, self.slots - self.tail) * self.block, 1

    def windows(
        self, parts: Mapping[str, Part], series: np.ndarray, origin: np.ndarray
    ) -> dict[str, np.ndarray]:
        """See Rows.windows. Reads the blocks that aren't there yet, in the order of the store."""
        base = self.first[series]
        needed = self._needed(parts, base, origin)
        if len(needed) > self.slots:  # more than fits: half of the windows at a time
            half = len(origin) // 2
            early = self.windows(parts, series[:half], origin[:half])
            late = self.windows(parts, series[half:], origin[half:])
            return {name: np.concatenate([early[name], late[name]]) for name in parts}
        self._hold(needed)
        found = {}
        for name, part in parts.items():
            rows = (origin + part.first)[:, None] + np.arange(part.length)
            slots = self.slot_of[base[:, None] + rows // self.block]
            places = slots * self.block + rows % self.block
            arena = self.arena[part.kind]
            found[name] = arena.reshape(-1, arena.shape[2])[places]
        return found

    def _needed(
        self, parts: Mapping[str, Part], base: np.ndarray, origin: np.ndarray
    ) -> np.ndarray:
        """Numbers of the blocks that hold the rows of these windows."""
        start = min(part.first for part in parts.values())
        stop = max(part.first + part.length for part in parts.values())
        low = base + (origin + start) // self.block
        high = base + (origin + stop - 1) // self.block
        most = int((high - low).max(initial=0)) + 1
        between = low[:, None] + np.arange(most)
        return np.unique(np.minimum(between, high[:, None]))

    def _hold(self, needed: np.ndarray) -> None:
        """Has the blocks in the arena, in place of those that were used longest ago."""
        if not self.arena:
            for kind, names in self.reader.names.items():
                if names:
                    self.arena[kind] = np.empty((self.slots, self.block, len(names)), np.float32)
        for block in needed.tolist():
            if block in self.used:
                self.used.move_to_end(block)
        for block in needed[self.slot_of[needed] < 0].tolist():
            if not self.free:
                oldest, slot = self.used.popitem(last=False)
                self.slot_of[oldest] = -1
                self.free.append(slot)
            self._read(block, self.free[-1])
            self.used[block] = self.slot_of[block] = self.free.pop()

    def _read(self, block: int, slot: int) -> None:
        series = int(np.searchsorted(self.first, block, side="right")) - 1
        start = (block - int(self.first[series])) * self.block
        stop = min(start + self.block, int(self.lengths[series]))
        for kind, arena in self.arena.items():
            arena[slot, : stop - start] = self.reader.read(series, kind, start, stop)
