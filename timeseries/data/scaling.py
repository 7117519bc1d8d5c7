"""Scaling: each column by the mean and standard deviation of its training rows, kept by the column's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isoform.timeseries.state import ScalingRecord

KINDS = ("target", "past", "known", "static")

Table = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Scaling:
    """Mean and population standard deviation of every column of each kind, in the column's own unit.

    With scale = "none" values stay as they are, and the means only replace what can't be filled otherwise.
    """

    tables: Mapping[str, Table]  # kind -> name -> (mean, std)
    scale: str = "standard"

    def mean(self, kind: str, names: Sequence[str]) -> np.ndarray:
        """[names] float64: what is subtracted. Raises KeyError for a name that was never fitted."""
        return self._column(kind, names, 0) if self.scale == "standard" else np.zeros(len(names))

    def std(self, kind: str, names: Sequence[str]) -> np.ndarray:
        """[names] float64: what is divided by."""
        return self._column(kind, names, 1) if self.scale == "standard" else np.ones(len(names))

    def deviation(self, kind: str, names: Sequence[str]) -> np.ndarray:
        """[names] float64: the standard deviation, whether it scales the data or not."""
        return self._column(kind, names, 1)

    def rest(self, kind: str, names: Sequence[str]) -> np.ndarray:
        """[names] float32: the training mean on the scale of `scaled`, for values that nothing else can fill."""
        means = self._column(kind, names, 0)
        return ((means - self.mean(kind, names)) / self.std(kind, names)).astype(np.float32)

    def scaled(self, kind: str, names: Sequence[str], values: np.ndarray) -> np.ndarray:
        """float32 of values [..., names], computed in float64."""
        found: np.ndarray = (values.astype(np.float64) - self.mean(kind, names)) / self.std(
            kind, names
        )
        return found.astype(np.float32)

    def lacks(self, kind: str, names: Sequence[str]) -> list[str]:
        """Those of the names that were never fitted."""
        table = self.tables.get(kind, {})
        return [name for name in names if name not in table]

    def joined(self, other: Scaling) -> Scaling:
        """Also the columns that only `other` knows."""
        tables = {
            kind: {**other.tables.get(kind, {}), **self.tables.get(kind, {})} for kind in KINDS
        }
        return Scaling(tables, self.scale)

    def to_record(self) -> ScalingRecord:
        """What task.json holds; `of_record` reads it back exactly."""
        return ScalingRecord(
            scale=self.scale, **{kind: dict(self.tables.get(kind, {})) for kind in KINDS}
        )

    @classmethod
    def of_record(cls, stored: ScalingRecord) -> Scaling:
        """What `to_record` gave."""
        return cls({kind: getattr(stored, kind) for kind in KINDS}, stored.scale)

    def _column(self, kind: str, names: Sequence[str], which: int) -> np.ndarray:
        table = self.tables.get(kind, {})
        return np.array([table[name][which] for name in names], np.float64)


class Moments:
    """Mean and variance of columns whose rows come by in pieces, in float64; missing values don't count.

    Rows are summed in blocks whose length depends on the number of columns alone, and blocks are joined by Chan, Golub
    and LeVeque (1983), so the result has the same bits whatever pieces the rows came in.
    """

    _BLOCK_BYTES = 4 * 2**20

    def __init__(self, columns: int) -> None:
        self.rows = max(1, self._BLOCK_BYTES // (8 * max(columns, 1)))
        self.count = np.zeros(columns, np.int64)
        self.shift = np.full(
            columns, np.nan
        )  # the first value: a constant column has a deviation of exactly 0
        self.mean = np.zeros(columns)  # of the values less the shift
        self.squares = np.zeros(columns)
        self.pending = np.zeros((0, columns))

    def add(self, rows: np.ndarray) -> None:
        """More rows [n, columns]."""
        pending = rows.astype(np.float64)
        pending = np.concatenate([self.pending, pending]) if len(self.pending) else pending
        whole = len(pending) - len(pending) % self.rows
        for start in range(0, whole, self.rows):
            self._join(pending[start : start + self.rows])
        self.pending = pending[whole:].copy()

    def flush(self) -> None:
        """The rows of one series are over."""
        if len(self.pending):
            self._join(self.pending)
            self.pending = self.pending[:0]

    def _join(self, block: np.ndarray) -> None:
        seen = np.isfinite(block)
        count = seen.sum(0)
        fresh = np.isnan(self.shift) & (count > 0)
        self.shift[fresh] = block[seen.argmax(0)[fresh], np.flatnonzero(fresh)]
        gaps = None if seen.all() else ~seen
        offset = block - self.shift
        if gaps is not None:
            offset[gaps] = 0.0
        mean = offset.sum(0) / np.maximum(count, 1)
        offset -= mean
        if gaps is not None:
            offset[gaps] = 0.0
        squares = np.square(offset, out=offset).sum(0)
        total = np.maximum(self.count + count, 1)
        step = mean - self.mean
        self.squares += squares + np.square(step) * self.count * count / total
        self.mean += step * count / total
        self.count += count

    def pairs(self) -> list[tuple[float, float]]:
        """(mean, std) of each column; std 1 where the column is constant, (0, 1) where it has no value."""
        self.flush()
        mean = np.where(self.count > 0, np.nan_to_num(self.shift) + self.mean, 0.0)
        std = np.sqrt(self.squares / np.maximum(self.count, 1))
        std[std <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0  # nothing but rounding
        return list(zip(mean.tolist(), std.tolist(), strict=True))
