"""data.source -> Panel: a csv, parquet, NetCDF or Zarr file of one's own, the embedded data, or a benchmark's file."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import Source, panel_of
from isoform.timeseries.data.columns import Table, find_time
from isoform.timeseries.data.limits import between
from isoform.timeseries.data.panel import Findings, Panel

MOST_BYTES = 4 * 2**30  # of a file, unpacked, or of its numbers, that are read into memory
_HEAD_BYTES = 2**20  # looked at for delimiter and decimal mark; a header of 10,000 names is about 200 KB
_MANY = 100  # columns
_CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_PARQUET = (".parquet", ".pq")
_NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
KNOWN = (*_CSV[:3], ".csv.gz", *_PARQUET[:1], *_NETCDF[:1], ".zarr")
_MISSING = [
    "",
    "NA",
    "N/A",
    "n/a",
    "na",
    "NaN",
    "nan",
    "-nan",
    "NAN",
    "null",
    "NULL",
    "None",
    "none",
    "-",
    "--",
    "?",
    "#N/A",
]


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
    """The panel of a .csv, .tsv, .txt (also .gz), .parquet, .nc or .zarr, wide or long (data.id), by the rules of axis.

    Everything but a streamed Zarr store (data.stream) is read into memory, at most 4 GiB of it. `data.targets = ()`
    reads covariates alone. Raises UserError, one sentence, for a file or settings that don't fit.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (data.path)")
    kind = kind_of(path)
    findings = Findings()
    findings.data |= {"file": path.name, "format": kind}
    if kind in ("netcdf", "zarr"):
        from isoform.timeseries.data.store import read_store

        return read_store(path, data, findings, kind)
    if data.stream == "disk":
        findings.say(f"data.stream = disk: only a Zarr store can stay on the disk; {path.name} is read into memory")
    check_size(path, path.stat().st_size)
    table = read_csv(path, data) if kind == "csv" else read_parquet(path)
    return panel_of(table, data, findings, Source(path.name, sha256=file_digest(path)))


def read_frame(frame: pd.DataFrame, data: DataConfig, name: str = "DataFrame") -> Panel:
    """The panel of a pandas DataFrame; an index of stamps counts as a column. Raises UserError as `read_file` does."""
    findings = Findings()
    findings.data |= {"file": name, "format": "pandas"}
    if isinstance(frame.index, pd.DatetimeIndex) and frame.index.name not in frame.columns:
        frame = frame.reset_index(names=[frame.index.name or "time"])
    names = [str(column) for column in frame.columns]
    if len(set(names)) < len(names):
        raise UserError(f"{name}: two columns have the same name; give each its own")
    check_size(Path(name), frame.shape[0] * frame.shape[1] * 8, "its content")
    frame = frame.set_axis(names, axis=1)
    return panel_of(Table(frame, name, np.arange(1, len(frame) + 1)), data, findings, Source(name))


def kind_of(path: Path) -> str:
    """ "csv", "parquet", "netcdf" or "zarr", by the name's ending, or by what a folder holds. Raises UserError."""
    name = path.name.lower()
    if path.is_dir():
        if any((path / entry).is_file() for entry in ("zarr.json", ".zgroup", ".zmetadata")):
            return "zarr"
        raise UserError(f"{path}: is a folder and no Zarr store; give a file that ends in {', '.join(KNOWN)}")
    for kind, endings in (("csv", _CSV), ("parquet", _PARQUET), ("netcdf", _NETCDF)):
        if name.endswith(endings):
            return kind
    raise UserError(f"{path}: is no file of series by its ending; known are {', '.join(KNOWN)}")


def check_size(path: Path, size: int, what: str = "") -> None:
    """Raises UserError where more than MOST_BYTES would be read into memory."""
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: {what or 'its size'} of {size / 2**30:.1f} GiB is more than the {MOST_BYTES >> 30} GiB that are "
            "read into memory; write it as a Zarr store (xarray.Dataset.to_zarr), which is streamed"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_text(path: Path) -> io.BytesIO | Any:
    """The bytes of a text file; one that ends in .gz is unpacked, as far as memory allows."""
    if path.suffix.lower() != ".gz":
        return open(path, "rb")
    unpacked = io.BytesIO()
    try:
        with gzip.open(path, "rb") as file:
            while part := file.read(2**24):
                unpacked.write(part)
                check_size(path, unpacked.tell(), "its unpacked size")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); pack or download it again") from None
    unpacked.seek(0)
    return unpacked


def read_csv(path: Path, data: DataConfig) -> Table:
    """A csv's columns. Delimiter (, ; tab) and, with ;, the decimal mark are found; the first line names the columns.

    Raises UserError where the text is no UTF-8, names are missing or double, or a line has more cells than the first.
    """
    try:
        with open_text(path) as file:
            head = file.read(_HEAD_BYTES)
            delimiter, decimal, names = _dialect(head, path)
            texts = [*find_time(names, data, str(path)), *([_id_of(names, data)] if data.id else [])]
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than names: would lose data
                frame = pd.read_csv(
                    file, sep=delimiter, decimal=decimal, header=0, names=names, index_col=False, encoding="utf-8-sig",
                    skip_blank_lines=False, skipinitialspace=True, keep_default_na=False, low_memory=False,
                    # "NA" may be the name of a series; everywhere else it is a missing value.
                    na_values={name: [""] if name in texts else _MISSING for name in names} if data.id else _MISSING,
                    dtype=dict.fromkeys(texts, str),
                )  # fmt: skip
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, csv.Error) as error:
        said = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise UserError(f"{path}: the lines don't have as many cells as the first one names ({said})") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    frame.columns = pd.Index(names)
    if len(names) > _MANY:
        frame = frame.copy()  # one block of numbers instead of a block a column: everything below is faster
    if decimal == ",":  # in columns that hold something else as well, the mark is still to be replaced
        for name in names:
            if name not in texts and not pd.api.types.is_numeric_dtype(frame[name].dtype):
                frame[name] = frame[name].str.replace(r"^\s*([+-]?\d*),(\d+)\s*$", r"\1.\2", regex=True)
    numbers = np.arange(2, len(frame) + 2)
    blank = frame.isna().all(axis=1).to_numpy() if len(frame) else np.zeros(0, bool)
    return Table(frame[~blank] if blank.any() else frame, str(path), numbers[~blank])


def _id_of(names: list[str], data: DataConfig) -> str:
    from isoform.timeseries.data.columns import pick

    return pick(str(data.id), names, str(data.path or "the file"), "data.id")[0]


def _dialect(head: bytes, path: Path) -> tuple[str, str, list[str]]:
    """(delimiter, decimal mark, column names) from the beginning of a csv."""
    text = head.decode("utf-8-sig", "replace")
    if "\0" in text:
        raise UserError(f"{path}: is no text; save it as a csv in UTF-8, or give it the ending of what it is")
    lines = text.splitlines()
    first = lines[0] if lines else ""
    if not first.strip():
        raise UserError(f"{path}: the first line is empty; it names the columns, for example date,load")
    if len(lines) == 1 and len(head) == _HEAD_BYTES:
        raise UserError(f"{path}: its first line is longer than {_HEAD_BYTES >> 20} MiB; it should name the columns")
    delimiter = max(",;\t", key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    if sum(not name for name in names) > 1:
        raise UserError(f"{path}: {sum(not name for name in names)} columns have no name in the first line; name them")
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise UserError(f'{path}: two columns are called "{double}"; give each its own name')
    if all(_is_value(name) for name in names):
        raise UserError(
            f'{path}: the first line holds values ("{first[:40]}") where it should name the columns; add one'
        )
    cells = [cell.strip() for line in lines[1:50] for cell in line.split(delimiter)]
    marked = [cell for cell in cells if cell.lstrip("+-").replace(",", "", 1).isdigit() and "," in cell]
    dotted = [cell for cell in cells if cell.lstrip("+-").replace(".", "", 1).isdigit() and "." in cell]
    return delimiter, "," if delimiter != "," and len(marked) > len(dotted) else ".", names


def _is_value(name: str) -> bool:
    """True for a number or a stamp where a column's name should stand."""
    try:
        float(name)
    except ValueError:
        return name[:4].isdigit() and name[4:5] in ("-", "/") and name[5:6].isdigit()
    return True


def read_parquet(path: Path) -> Table:
    """A parquet file's columns; nested ones are left out. Raises UserError where it is damaged."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"{path}: parquet needs pyarrow; `pip install pyarrow`, or write the data as csv") from None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            # Numbers packed by runs take hardly any space in the file.
            check_size(path, file.metadata.num_rows * max(1, file.metadata.num_columns) * 8, "its content")
            packed = sum(file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups))
            check_size(path, packed, "its content")
            content = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is no parquet file that can be read ({' '.join(str(error).split())[:120]})") from None
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two columns have the same name; give each its own")
    columns, left_out, units = {}, [], {}
    for name, entry in zip(names, content.schema, strict=True):
        kind, column = entry.type, content.column(name)
        told = (entry.metadata or {}).get(b"units", b"").decode("utf-8", "replace")
        if told:
            units[name] = told
        try:
            if pa.types.is_dictionary(kind):
                column = column.cast(kind.value_type)
            elif pa.types.is_decimal(kind) or pa.types.is_float16(kind):
                column = column.cast(pa.float64())
            elif pa.types.is_date(kind):
                column = column.cast(pa.timestamp("s"))
        except (pa.ArrowException, ValueError) as error:
            raise UserError(f'{path}: column "{name}" can\'t be read ({str(error)[:80]})') from None
        if _is_flat(column.type):
            columns[name] = column
        else:
            left_out.append((name, str(kind)))
    if not columns:
        raise UserError(f"{path}: has no column of numbers or text")
    frame = pa.table(columns).to_pandas(ignore_metadata=True)
    return Table(frame, str(path), np.arange(1, len(frame) + 1), units=units, left_out=left_out)


def _is_flat(kind: Any) -> bool:
    """Numbers, text and stamps, but nothing nested."""
    from pyarrow import types

    tests = (
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_string,
        types.is_large_string,
        types.is_timestamp,
    )
    return any(test(kind) for test in tests)
