"""Panel: what a file was read as, one or more labelled xarray Datasets on regular time grids.

Every Dataset has the coordinates time (datetime64[us], regular, ascending), variate, past, known, static (names), and

    target         (time, variate)  float, NaN where missing; `units` is a coordinate along variate ("" unknown)
    past_values    (time, past)     covariates known up to the forecast's start
    known_values   (time, known)    covariates known over the horizon too: its rows may go on where the targets end
    static_values  (static)         one value each

with the attributes `id` (name of the series, "" where the file has no ids) and `rows` (how many rows have targets; the
rows behind them hold known covariates alone). Stamps are in UTC where the panel has a time zone, else as written.
`target` may lie on disk (a Zarr store): read it by slices of time only; the encoding "preferred_chunks" says how many
steps are stored together. A benchmark's file keeps its rows as they are, so that there a few stamps may be irregular.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd
import xarray as xr

# Figures of what couldn't be used: cells that are no number or infinite, rows whose stamp isn't one or never was.
LOSSES = ("unreadable_cells", "infinite", "unreadable_stamps", "skipped_hours")


@dataclass
class Findings:
    """What reading a file found and did about it: sentences for a person, and the same as JSON.

    lost   those sentences that tell of cells and rows that couldn't be used
    """

    lines: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def say(self, line: str, **data: object) -> None:
        """Adds one sentence and its figures."""
        self.lines.append(line)
        self.data |= data
        if any(data.get(name) for name in LOSSES):
            self.lost.append(line)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Series of one frequency with the same variates and covariates (`series` mode), or a single one."""

    series: tuple[xr.Dataset, ...]
    freq: str  # a pandas offset alias: "h", "15min", "D", "MS", "B"
    tz: str | None  # IANA zone
    name: str  # the file's, or the source's title
    licence: str = "unknown"
    sha256: str = ""
    findings: Findings = field(default_factory=Findings)

    @property
    def first(self) -> xr.Dataset:
        """The first series, for what all have in common."""
        return self.series[0]

    @property
    def variates(self) -> list[str]:
        """Names of the targets."""
        return [str(name) for name in self.first.variate.values]

    @property
    def rows(self) -> list[int]:
        """Rows with targets of each series."""
        return [int(series.attrs["rows"]) for series in self.series]

    @property
    def most_rows(self) -> int:
        """Of the longest series."""
        return max(self.rows)

    @property
    def all_rows(self) -> int:
        """Of all series together."""
        return sum(self.rows)

    @property
    def units(self) -> list[str]:
        """Of the variates, "" where unknown; empty where the panel has no units at all."""
        return (
            [str(unit) for unit in self.first["units"].values]
            if "units" in self.first.coords
            else []
        )

    def names(self, kind: str) -> list[str]:
        """Names along "variate", "past", "known" or "static"."""
        return [str(name) for name in self.first[kind].values] if kind in self.first.coords else []

    def __iter__(self) -> Iterator[xr.Dataset]:
        return iter(self.series)

    def local(self, stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Stamps as a clock on the wall shows them, naive: what calendars and people read."""
        return (
            stamps
            if self.tz is None
            else stamps.tz_localize("UTC").tz_convert(self.tz).tz_localize(None)
        )
