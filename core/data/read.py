"""One reader of tables for every domain: csv, tsv, parquet, xlsx, packed or not, standard input, DataFrames.

A file gives the same cells whatever domain reads it. Cells are text first, `Table.cells`; which columns are numbers,
names or labels is for the domain to say, and `Table.numbers` reads them. All that was chosen on the way (encoding,
delimiter, decimal mark, units, rows left out) stands in `Table.findings`, one line each. Only numpy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isoform.core.data.delimited import Headless, TextColumn, split_cells
from isoform.core.data.table import Table, Typed
from isoform.core.data.text import LIMITS, STDIN, Limits, Raw, decode, read_bytes
from isoform.core.data.typed import read_frame, read_parquet, read_workbook
from isoform.core.errors import UserError

TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat")
PARQUET = (".parquet", ".pq")
WORKBOOK = (".xlsx", ".xlsm")
_OLD_WORKBOOK = (".xls", ".xlsb", ".ods")


def read_table(
    source: str | Path | Any,
    *,
    missing: Iterable[str | float] = (),
    decimal: str = "auto",
    limits: Limits = LIMITS,
    key: str = "data.path",
    delimiter: str | None = None,
    headless: Headless | None = None,
    kind: str | None = None,
) -> Table:
    """The table of a file, of standard input ("-"), or of a pandas DataFrame.

    missing    words and numbers that stand for no value, beside the usual words (data.missing)
    decimal    the mark of numbers that are text, "." or ","; "auto": each column tells its own (data.decimal)
    key        the setting that named the source, for messages
    delimiter  of a text; found in its body if None
    headless   (first records) -> True where the first holds values instead of names; columns are numbered then
    kind       "csv", "parquet" or "xlsx"; by the name's ending if None, and by the content of standard input

    Raises UserError, one sentence, for what can't be read as a whole. Rows that don't fit are in `Table.ragged`.
    """
    if not isinstance(source, str | Path):
        table = read_frame(source, limits)
    else:
        kind = kind or kind_of(source)
        raw = read_bytes(source, limits, key)
        table = table_of(raw, kind or _kind_of_content(raw), limits, delimiter, headless)
    table.settle(missing, decimal)
    return table


def table_of(
    raw: Raw,
    kind: str,
    limits: Limits = LIMITS,
    delimiter: str | None = None,
    headless: Headless | None = None,
) -> Table:
    """The table in bytes that were read already; see `read_table`."""
    if kind == "csv":
        text, findings = decode(raw)
        cells = split_cells(text, raw.origin, raw.name, limits, delimiter, headless)
        columns: dict[str, TextColumn | Typed] = dict(cells.columns)
        table = Table(
            raw.origin,
            raw.name,
            "csv",
            columns,
            cells.rows,
            cells.ragged,
            delimiter=cells.delimiter,
        )
        table.said = [*findings, *cells.findings]
    else:
        table = (
            read_parquet(raw, limits) if kind == "parquet" else read_workbook(raw, limits, headless)
        )
    table.said[:0] = raw.findings
    table.sha256 = raw.sha256
    return table


def kind_of(source: str | Path) -> str | None:
    """ "csv", "parquet" or "xlsx" by the name's ending; None of standard input and of an unknown ending.

    Raises UserError for a spreadsheet of another kind.
    """
    if str(source) == STDIN:
        return None
    name = Path(source).name.lower().removesuffix(".gz")
    if name.endswith(_OLD_WORKBOOK):
        raise UserError(
            f"{source}: is a spreadsheet of a kind that isn't read; save it as .xlsx or .csv"
        )
    for kind, endings in (("csv", TEXT), ("parquet", PARQUET), ("xlsx", WORKBOOK)):
        if name.endswith(endings):
            return kind
    return None


def _kind_of_content(raw: Raw) -> str:
    if raw.content.startswith(b"PAR1"):
        return "parquet"
    return "xlsx" if raw.content.startswith(b"PK\x03\x04") else "csv"
