"""Tables whose cells have types: parquet, spreadsheets, DataFrames. Their libraries are imported when one is read."""

from __future__ import annotations

import io
import itertools
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from isoform.core.data.delimited import Headless, name_columns, passed_over
from isoform.core.data.findings import Finding, some
from isoform.core.data.table import Table
from isoform.core.data.text import Limits, Raw
from isoform.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_MOST_ROWS = 2**20  # of a spreadsheet
_MOST_CELLS = 50_000_000  # of a spreadsheet, empty ones in front of others included
# Parts of a spreadsheet that hold what it is about, or are never read; all others are read whole, and are small.
_BULK = (
    "xl/worksheets/", "xl/sharedStrings", "xl/media/", "xl/embeddings/", "xl/pivotCache/", "xl/drawings/", "xl/charts/",
    "xl/externalLinks/",
)  # fmt: skip
_MOST_HEADS = 2**25  # bytes
_LONG_FORMAT = re.compile(
    rb"formatCode\s*=\s*[\"'][^\"']{1000}|<!DOCTYPE"
)  # spreadsheets end at 255


@dataclass(frozen=True)
class ArrowColumn:
    """A column of a parquet file."""

    array: pa.ChunkedArray

    @property
    def numeric(self) -> bool:
        """As `table.Typed`."""
        from pyarrow import types

        kind = self.array.type
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)

    def cells(self) -> list[str]:
        """As `table.Typed`."""
        return ["" if cell is None else str(cell).strip() for cell in self.array.to_pylist()]

    def numbers(self) -> np.ndarray:
        """As `table.Typed`."""
        if not self.numeric:
            return np.full(len(self.array), np.nan)
        return np.asarray(self.array.to_pandas().to_numpy(np.float64, na_value=np.nan))

    def series(self) -> pd.Series:
        """As `table.Typed`."""
        return self.array.to_pandas()


@dataclass(frozen=True)
class FrameColumn:
    """A column of a DataFrame."""

    column: pd.Series

    @property
    def numeric(self) -> bool:
        """As `table.Typed`."""
        import pandas as pd

        kind = self.column.dtype
        return pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)

    def cells(self) -> list[str]:
        """As `table.Typed`."""
        import pandas as pd

        missing = pd.isna(self.column).tolist()
        return [
            "" if gone else str(cell).strip()
            for cell, gone in zip(self.column.tolist(), missing, strict=True)
        ]

    def numbers(self) -> np.ndarray:
        """As `table.Typed`."""
        if self.numeric:
            return self.column.to_numpy(
                np.float64,
                na_value=np.nan,
            )
        return _numbers_among(self.column.tolist())

    def series(self) -> pd.Series:
        """As `table.Typed`."""
        return self.column.reset_index(drop=True)


@dataclass(frozen=True)
class SheetColumn:
    """A column of a spreadsheet: numbers, text and dates, mixed as a person left them."""

    values: list[Any]

    @property
    def numeric(self) -> bool:
        """As `table.Typed`."""
        filled = [cell for cell in self.values if cell is not None]
        return bool(filled) and all(isinstance(cell, int | float) for cell in filled)

    def cells(self) -> list[str]:
        """As `table.Typed`."""
        return [_sheet_text(cell) for cell in self.values]

    def numbers(self) -> np.ndarray:
        """As `table.Typed`."""
        return _numbers_among(self.values)

    def series(self) -> pd.Series:
        """As `table.Typed`."""
        import pandas as pd

        return pd.Series(self.values).infer_objects()


def _numbers_among(cells: Sequence[Any]) -> np.ndarray:
    """float64 [n], NaN where a cell is no number (text that looks like one is none)."""
    return np.array(
        [float(cell) if isinstance(cell, Real | Decimal) else math.nan for cell in cells],
        np.float64,
    )


def _sheet_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))  # a spreadsheet has one kind of number
    return repr(cell) if isinstance(cell, float) else str(cell).strip()


def read_frame(frame: Any, limits: Limits, name: str = "DataFrame") -> Table:
    """The table of a pandas DataFrame; an index of stamps, or one with a name, counts as a column.

    Raises UserError for anything else, two columns of one name, and more than `limits`.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UserError(
            f"{type(frame).__name__} is no path of a table; give a file, or `pip install pandas`"
        ) from None
    if isinstance(frame, pd.Series):
        frame = frame.to_frame()
    if not isinstance(frame, pd.DataFrame):
        raise UserError(
            f"a {type(frame).__name__} is no table; give the path of a file or a pandas DataFrame"
        )
    index = frame.index
    if isinstance(index, pd.DatetimeIndex) and index.name not in frame.columns:
        frame = frame.reset_index(names=[index.name or "time"])
    elif any(label is not None and label not in frame.columns for label in index.names):
        frame = frame.reset_index()
    if frame.size * 8 > limits.bytes:
        raise UserError(
            f"{name}: its content of {frame.size * 8 >> 20:,} MiB is more than is read into memory"
        )
    findings: list[Finding] = []
    names = name_columns([str(column).strip() for column in frame.columns], name, findings, limits)
    columns: dict[str, Any] = {
        label: FrameColumn(frame.iloc[:, place]) for place, label in enumerate(names)
    }
    return Table(name, name, "frame", columns, np.arange(1, len(frame) + 1), said=findings)


def read_parquet(raw: Raw, limits: Limits) -> Table:
    """The columns of a parquet file; nested ones and bytes are left out. Raises UserError where it is damaged."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            f"{raw.origin}: parquet needs pyarrow; `pip install pyarrow`, or write the table as csv"
        ) from None
    try:
        with pq.ParquetFile(pa.BufferReader(raw.content)) as file:
            _refuse_large(
                raw,
                file.metadata,
                limits,
            )
            # A text that repeats is there once, so that its size is known before it is written out.
            texts = [
                column.path
                for column in map(file.metadata.schema.column, range(file.metadata.num_columns))
                if column.physical_type == "BYTE_ARRAY"
            ]
        with pq.ParquetFile(pa.BufferReader(raw.content), read_dictionary=texts) as file:
            content = file.read()
        content.validate(full=True)  # texts that are no UTF-8, offsets behind the end
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(f"{raw.origin}: is no parquet file that can be read ({said})") from None
    findings: list[Finding] = []
    names = name_columns(
        [str(name).strip() for name in content.schema.names], raw.origin, findings, limits
    )
    columns: dict[str, Any] = {}
    units: dict[str, str] = {}
    left_out: list[str] = []
    for place, (name, entry) in enumerate(zip(names, content.schema, strict=True)):
        unit = (entry.metadata or {}).get(b"units", b"").decode("utf-8", "replace")
        if unit:
            units[name] = unit
        if (
            pa.types.is_nested(entry.type)
            or pa.types.is_binary(entry.type)
            or pa.types.is_large_binary(entry.type)
        ):
            left_out.append(name)
            continue
        columns[name] = ArrowColumn(_plain(content.column(place), name, raw.origin, limits))
    if not columns:
        raise UserError(f"{raw.origin}: has no column of numbers or text")
    if left_out:
        findings.append(Finding(f"columns of lists or bytes are left out: {some(left_out)}"))
    rows = np.arange(1, content.num_rows + 1)
    return Table(raw.origin, raw.name, "parquet", columns, rows, units=units, said=findings)


def _refuse_large(raw: Raw, metadata: Any, limits: Limits) -> None:
    """Numbers packed by runs take hardly any space in the file."""
    cells = metadata.num_rows * max(1, metadata.num_columns)
    packed = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    size = max(8 * cells, packed)
    if size > limits.bytes or cells > 4 * limits.cells:
        raise UserError(
            f"{raw.origin}: its content of {cells:,} cells, {size >> 20:,} MiB, is more than is read into memory; "
            "leave out some columns"
        )


def _plain(column: pa.ChunkedArray, name: str, origin: str, limits: Limits) -> pa.ChunkedArray:
    """Dictionaries as what they stand for, decimals as floats, dates as stamps."""
    import pyarrow as pa

    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            size = sum(map(_written_out, column.chunks))
            if size > limits.bytes:
                raise UserError(
                    f'{origin}: column "{name}" of {size >> 20:,} MiB is more than is read into memory'
                )
            return column.cast(kind.value_type)
        if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
            return column.cast(pa.float64())
        if pa.types.is_date(kind):
            return column.cast(pa.timestamp("s"))
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f'{origin}: column "{name}" can\'t be read ({str(error)[:80]})') from None
    return column


def _written_out(chunk: pa.DictionaryArray) -> int:
    """Bytes of the texts that a dictionary's indices stand for; 0 of what is no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = chunk.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return 0
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    counts = pc.value_counts(chunk.indices.drop_null())
    places, times = counts.field("values"), counts.field("counts")
    return pc.sum(pc.multiply(lengths.take(places), times)).as_py() or 0


def read_workbook(raw: Raw, limits: Limits, headless: Headless | None = None) -> Table:
    """The first sheet of a spreadsheet (.xlsx): values, not formulas. Rows without any cell are left out.

    Raises UserError where it can't be read, where it is larger than `limits`, and as `delimited.split_cells`.
    """
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            f"{raw.origin}: spreadsheets need openpyxl; `pip install openpyxl`, or save the sheet as csv"
        ) from None
    try:
        with zipfile.ZipFile(io.BytesIO(raw.content)) as packed:
            entries = packed.infolist()
            size = sum(entry.file_size for entry in entries)
            heads = [entry for entry in entries if not entry.filename.startswith(_BULK)]
            if sum(entry.file_size for entry in heads) > _MOST_HEADS:
                raise UserError(f"{raw.origin}: describes more than it holds; save it as csv")
            styles = [entry for entry in heads if entry.filename.endswith("styles.xml")]
            if any(_LONG_FORMAT.search(packed.read(entry)) for entry in styles):
                raise UserError(f"{raw.origin}: its formats are no spreadsheet's; save it as csv")
        if size > min(limits.bytes, max(2**27, 300 * len(raw.content))):
            raise UserError(
                f"{raw.origin}: its unpacked size of {size >> 20:,} MiB is more than a table's; save it as csv"
            )
        book = openpyxl.load_workbook(io.BytesIO(raw.content), read_only=True, data_only=True)
        sheets = book.sheetnames
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # what it says of its size would be filled up, or left out
        records = list(_records(sheet, raw.origin, limits))
        book.close()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  openpyxl raises whatever the damaged XML leads to
        said = " ".join(str(error).split())[:120]
        raise UserError(f"{raw.origin}: is no spreadsheet that can be read ({said})") from None
    findings = []
    if len(sheets) > 1:
        findings.append(Finding(f'the first of {len(sheets)} sheets is read, "{sheets[0]}"'))
    return _sheet_table(raw, records, findings, limits, headless)


def _records(sheet: Any, origin: str, limits: Limits) -> Iterator[tuple[int, list[Any]]]:
    """(number, cells) of every row that has a cell."""
    count = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [cell.strip() or None if isinstance(cell, str) else cell for cell in row]
        count += len(cells)
        most = min(limits.cells, _MOST_CELLS)
        if count > most or len(cells) > limits.columns:
            raise UserError(f"{origin}: has more than {most:,} cells; leave out some columns")
        if number > _MOST_ROWS:
            raise UserError(f"{origin}: has more than {_MOST_ROWS:,} rows; save it as csv")
        if any(cell is not None for cell in cells):
            yield number, cells


def _comments(records: Sequence[tuple[int, list[Any]]]) -> list[str]:
    """The first rows of a sheet that hold nothing but a text that begins with #."""
    rows = (cells for _, cells in records)
    alone = (str(cells[0]) if _filled(cells) == 1 else "" for cells in rows)
    return list(itertools.takewhile(lambda text: text.startswith("#"), alone))


def _sheet_table(
    raw: Raw,
    records: list[tuple[int, list[Any]]],
    findings: list[Finding],
    limits: Limits,
    headless: Headless | None,
) -> Table:
    comments = _comments(records)
    records = records[len(comments) :]
    findings += passed_over(comments)
    if not records:
        raise UserError(
            f"{raw.origin}: the first line is empty; it names the columns, for example path,label"
        )
    width = max(_filled(cells) for _, cells in records)
    if width * len(records) > min(limits.cells, _MOST_CELLS):
        raise UserError(
            f"{raw.origin}: has {len(records):,} rows and cells in column {width:,}; leave out some columns"
        )
    texts = [[_sheet_text(cell) for cell in cells[:width]] for _, cells in records[:100]]
    if headless is not None and headless(texts):
        findings.append(
            Finding(
                f"the first line of {raw.name} holds values; columns are called column 1, column 2, ..."
            )
        )
        names: Sequence[str] = [""] * width
    else:
        names = texts[0] + [""] * (width - len(texts[0]))
        records = records[1:]
    names = name_columns(names, raw.origin, findings, limits)
    padded = [cells[:width] + [None] * (width - len(cells)) for _, cells in records]
    values: list[Sequence[Any]] = list(zip(*padded, strict=True)) or [()] * width
    columns: dict[str, Any] = {
        name: SheetColumn(list(part)) for name, part in zip(names, values, strict=True)
    }
    return Table(
        raw.origin, raw.name, "xlsx", columns, [number for number, _ in records], said=findings
    )


def _filled(cells: Sequence[Any]) -> int:
    """Cells up to the last that holds anything."""
    return max((place for place, cell in enumerate(cells, 1) if cell is not None), default=0)
