"""The split of a run on series: kept as stretches of rows with a digest of every column's values in each.

A sample is a column of a series in a stretch; of a store on the disk, whose digest is that of its files, a series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from isoform.core.data.digests import content_digest, set_digest
from isoform.core.data.splits import SPLITS
from isoform.core.domain.kept_split import KeptSplit, Samples
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.rows import variable_of
from isoform.timeseries.data.splits import Borders

Span = tuple[str, str, int, int]  # first and last stamp, first row and the row after the last
Spans = Mapping[str, Mapping[str, Span]]  # by id and split
_KINDS = ("target", "past", "known")


def keep_split(
    panel: Panel, cuts: Sequence[Borders], on_disk: bool, before: Spans | None = None
) -> KeptSplit:
    """What a run with these borders keeps; with `before`, the same of the stretches that another run has."""
    spans = before or _spans_of(panel, cuts)
    held: dict[str, list[tuple[str, str, str]]] = {split: [] for split in SPLITS}
    parts: dict[str, list[str]] = {}
    rest: list[str] = []
    for one in panel:
        name = str(one.attrs["id"])
        mine = spans.get(name, {})
        found = {split: find_rows(one, span) for split, span in mine.items()}
        there = {split: rows for split, rows in found.items() if rows is not None}
        rest += _outside(one, mine, name if mine or not name else f"the series {name}")
        fixed = content_digest(_static(one))[:16]
        for column, values in _columns(one, on_disk):
            for split, (start, stop) in there.items():
                digest = (
                    panel.sha256 if values is None else content_digest(values[start:stop].tobytes())
                )
                said = " ".join(part for part in (name, column) if part) or panel.name
                held[split].append((f"{said} ({split})", digest, fixed))
                if values is not None:
                    parts.setdefault(column, []).append(f"{name} {split} {digest}")
    splits = {
        split: Samples(*(list(column) for column in zip(*samples, strict=True)))
        for split, samples in held.items()
        if samples
    }
    digests = {column: set_digest(members) for column, members in parts.items()}
    return KeptSplit(splits, rest, len(rest), digests, spans)


def _spans_of(panel: Panel, cuts: Sequence[Borders]) -> Spans:
    return {
        str(one.attrs["id"]): {
            split: (str(one.time.values[start]), str(one.time.values[stop - 1]), start, stop)
            for split, (start, stop) in cut.items()
            if stop > start
        }
        for one, cut in zip(panel, cuts, strict=True)
    }


def find_rows(series: xr.Dataset, span: Span) -> tuple[int, int] | None:
    """(first row, row after the last) of a stretch by its stamps, wherever it lies now; None where some are gone."""
    first, last, start, stop = span[0], span[1], int(span[2]), int(span[3])
    time = series.time.values[: int(series.attrs["rows"])]
    ends = np.array([first, last], time.dtype)
    if stop <= len(time) and (time[[start, stop - 1]] == ends).all():
        return start, stop
    at, end = np.searchsorted(time, ends)
    whole = end < len(time) and time[at] == ends[0] and time[end] == ends[1]
    return (int(at), int(end) + 1) if whole and end + 1 - at == stop - start else None


def borders_kept(panel: Panel, spans: Spans) -> list[Borders]:
    """The borders of a run's splits in each series; a series or stretch that isn't there, or is new, has no row."""
    found = []
    for one in panel:
        mine = spans.get(str(one.attrs["id"]), {})
        rows = {split: find_rows(one, mine[split]) for split in SPLITS if split in mine}
        found.append({split: rows.get(split) or (0, 0) for split in SPLITS})
    return found


def _outside(series: xr.Dataset, spans: Mapping[str, Span], name: str) -> list[str]:
    """The rows before and behind every stretch, as names; of a series without any, its own."""
    time = series.time.values[: int(series.attrs["rows"])]
    if not spans:
        return [name] if name else []
    ends = np.array([stamp for span in spans.values() for stamp in span[:2]], time.dtype)
    who = f"{name} " if name else ""
    return [
        f"{who}{len(rows):,} rows from {str(rows[0])[:19]} to {str(rows[-1])[:19]}"
        for rows in (time[time < ends.min()], time[time > ends.max()])
        if len(rows)
    ]


def _columns(series: xr.Dataset, on_disk: bool) -> Iterator[tuple[str, np.ndarray | None]]:
    """(name, float64 values [rows]) of every column, missing ones NaN; of a store on the disk nothing but itself."""
    if on_disk:
        yield "", None
        return
    for kind in _KINDS:
        variable = series.variables["target"] if kind == "target" else variable_of(series, kind)
        names = (
            series["variate" if kind == "target" else kind].values if variable is not None else ()
        )
        if variable is None or not len(names):
            continue
        for k, name in enumerate(names):
            values = np.array(variable[:, k].values, np.float64)
            values[np.isnan(values)] = np.nan  # of all that are no numbers, one
            yield str(name), values + 0.0


def _static(series: xr.Dataset) -> bytes:
    variable = variable_of(series, "static") if "static" in series.coords else None
    return b"" if variable is None else np.asarray(variable.values, np.float64).tobytes()
