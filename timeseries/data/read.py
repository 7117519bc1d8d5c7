"""data.source -> Panel: a file of one's own (a table, NetCDF or Zarr), the embedded data, or a benchmark's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from isoform.core.data import read as tables
from isoform.core.data.text import STDIN
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import Source, panel_of
from isoform.timeseries.data.limits import between
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.table import read_columns

_NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
KNOWN = (".csv", ".tsv", ".txt", ".csv.gz", ".parquet", ".xlsx", ".nc", ".zarr")


def read_panel(data: DataConfig) -> Panel:
    """Reads what data.source names, from data.since to data.until.

    Raises UserError for everything that is wrong with the file or the settings.
    """
    if data.source == "file":
        if data.path is None:
            raise UserError(
                "data.path is not set: give a csv, parquet or NetCDF file or a Zarr store, --set data.path=FILE"
            )
        panel = read_file(data.path, data)
    elif data.source == "pedestrians":
        from isoform.timeseries.data.pedestrians import read_pedestrians

        panel = read_pedestrians(data)
    else:
        from isoform.timeseries.data.official import read_official

        panel = read_official(data)
    return between(panel, data)


def read_file(path: str | Path, data: DataConfig) -> Panel:
    """The panel of a table (csv, tsv, txt, xlsx, parquet, packed by gzip or not; "-": standard input), .nc or .zarr.

    Wide or long (data.id), by the rules of axis. Everything but a streamed Zarr store (data.stream) is read into
    memory, at most 4 GiB of it. `data.targets = ()` reads covariates alone. Raises UserError, one sentence, for a file
    or settings that don't fit.
    """
    findings = Findings()
    if str(path) == STDIN:
        return _read_columns(path, data, findings)
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (data.path)")
    kind = kind_of(path)
    findings.data |= {"file": path.name, "format": kind}
    if kind in ("netcdf", "zarr"):
        from isoform.timeseries.data.store import read_store

        return read_store(path, data, findings, kind)
    if data.stream == "disk":
        findings.say(
            f"data.stream = disk: only a Zarr store can stay on the disk; {path.name} is read into memory"
        )
    return _read_columns(path, data, findings)


def read_frame(frame: pd.DataFrame, data: DataConfig) -> Panel:
    """The panel of a pandas DataFrame; an index of stamps counts as a column. Raises UserError as `read_file` does."""
    findings = Findings()
    findings.data |= {"file": "DataFrame", "format": "pandas"}
    return _read_columns(frame, data, findings)


def _read_columns(source: Any, data: DataConfig, findings: Findings) -> Panel:
    table = read_columns(source, data)
    assert table.source is not None
    return panel_of(table, data, findings, Source(table.source.name, sha256=table.source.sha256))


def kind_of(path: Path) -> str:
    """ "csv", "parquet", "xlsx", "netcdf" or "zarr", by the name's ending or what a folder holds. Raises UserError."""
    if path.is_dir():
        if any((path / entry).is_file() for entry in ("zarr.json", ".zgroup", ".zmetadata")):
            return "zarr"
        raise UserError(
            f"{path}: is a folder and no Zarr store; give a file that ends in {', '.join(KNOWN)}"
        )
    if path.name.lower().endswith(_NETCDF):
        return "netcdf"
    kind = tables.kind_of(path)
    if kind is None:
        raise UserError(f"{path}: is no file of series by its ending; known are {', '.join(KNOWN)}")
    return kind
