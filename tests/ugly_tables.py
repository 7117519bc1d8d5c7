"""Tables as people have them, one list for the reader's own test and for a test of every domain.

Each has a first column of keys (images' paths, stamps, SMILES: whatever a domain reads), so that a domain puts its own
in; the other columns, their values and what has to be said are the same for all.
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 7
PLAIN = [1.5, -2.25, 3.0, 40.125, 5.0, 66.5, 0.75]
KEYS = [f"k{i}" for i in range(ROWS)]

Lines = list[list[str]]


@dataclass(frozen=True)
class Ugly:
    """numbers   column -> values, None where missing        finding   part of a line that has to be said, "" for none
    settings  of the domain's data table
    refusal   part of the one sentence that refuses the file, in place of everything else
    """

    name: str
    file: str
    pack: Callable[[str, Sequence[str]], bytes]
    numbers: dict[str, list[float | None]] = field(default_factory=dict)
    finding: str = ""
    refusal: str = ""
    rows: int = ROWS
    settings: dict[str, object] = field(default_factory=dict)

    def content(self, key: str = "name", keys: Sequence[str] = KEYS) -> bytes:
        """The bytes of the file, with a column of keys under the name `key`."""
        return self.pack(key, keys[: self.rows])


def comma(value: float) -> str:
    return repr(value).replace(".", ",")


def written(
    cells: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8", before: str = "", name: str = "load",
    end: str = "\n", mark: bytes = b"",
) -> Callable[[str, Sequence[str]], bytes]:  # fmt: skip
    """A table of keys and one column of cells."""

    def pack(key: str, keys: Sequence[str]) -> bytes:
        lines = [f"{key}{delimiter}{name}"]
        lines += [f"{one}{delimiter}{cell}" for one, cell in zip(keys, cells, strict=False)]
        return mark + (before + end.join(lines) + end).encode(encoding)

    return pack


def one_column(
    what: str, cells: Sequence[str], values: Sequence[float | None], finding: str = "",
    settings: dict[str, object] | None = None, **options,
) -> Ugly:  # fmt: skip
    column = options.get("name", "load")
    pack = written(cells, **options)
    return Ugly(what, "t.csv", pack, {column: list(values)}, finding, settings=settings or {})


def refused(what: str, cells: Sequence[str], refusal: str, **options) -> Ugly:
    """A column whose cells look like numbers and can't be read as those of one column."""
    return Ugly(what, "t.csv", written(cells, **options), refusal=refusal)


def two_columns(
    what: str, cells: Sequence[str], others: Sequence[str], values: Sequence[float],
    other_values: Sequence[float], finding: str, delimiter: str = ";",
) -> Ugly:  # fmt: skip
    """A column beside another one, whose way of writing numbers says what the first's marks mean."""

    def pack(key: str, keys: Sequence[str]) -> bytes:
        rows = zip(keys, cells, others, strict=False)
        lines = [(key, "load", "price"), *rows]
        return "\n".join(map(delimiter.join, lines)).encode()

    return Ugly(what, "t.csv", pack, {"load": list(values), "price": list(other_values)}, finding)


def lines_in_front(what: str, front: str, lines: Sequence[str], finding: str) -> Ugly:
    """A table whose names stand in a line that begins with #; KEY stands for the name of the keys."""

    def pack(key: str, keys: Sequence[str]) -> bytes:
        rows = [f"{one}{line}" for one, line in zip(keys, lines, strict=False)]
        return (front.replace("KEY", key) + "\n".join(rows)).encode()

    return Ugly(what, "t.csv", pack, {"load": PLAIN}, finding)


def sheet(
    what: str, cells: Sequence[object], values: Sequence[float | None], finding: str = "",
    front: Sequence[str] = (), more: Sequence[str] = (),
) -> Ugly:  # fmt: skip
    """A spreadsheet of keys and one column; `more`: other sheets."""

    def pack(key: str, keys: Sequence[str]) -> bytes:
        book = openpyxl.Workbook()
        for row in [*([line] for line in front), [key, "load"], *zip(keys, cells, strict=False)]:
            book.active.append(list(row))
        for title in more:
            book.create_sheet(title).append(["nothing", "here"])
        book.save(buffer := io.BytesIO())
        return buffer.getvalue()

    return Ugly(what, "t.xlsx", pack, {"load": list(values)}, finding)


def parquet(
    what: str, cells: Sequence[object], values: Sequence[float | None], finding: str = "",
    settings: dict[str, object] | None = None,
) -> Ugly:  # fmt: skip
    def pack(key: str, keys: Sequence[str]) -> bytes:
        table = pa.table({key: list(keys), "load": list(cells)})
        pq.write_table(table, buffer := io.BytesIO())
        return buffer.getvalue()

    return Ugly(what, "t.parquet", pack, {"load": list(values)}, finding, settings=settings or {})


def _wide(columns: int) -> Callable[[str, Sequence[str]], bytes]:
    def pack(key: str, keys: Sequence[str]) -> bytes:
        lines = [",".join([key, *(f"c{i}" for i in range(columns))])]
        lines += [",".join([one, *(f"{i}.5" for i in range(columns))]) for one in keys]
        return "\n".join(lines).encode()

    return pack


def _bomb(key: str, keys: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(f"{key},load\n".encode())
        for _ in range(160):
            packed.write(bytes(2**20).replace(b"\0", b"0"))
    return buffer.getvalue()


POINTS = [repr(value) for value in PLAIN]
COMMAS = [comma(value) for value in PLAIN]
THOUSANDS = [1105.5, 12.25, 1234567.0, 998.0, 3000.0, 40000.75, 7.0]
GERMAN = ["1.105,5", "12,25", "1.234.567", "998", "3.000", "40.000,75", "7"]
SWISS = ["1'105.5", "12.25", "1'234'567", "998", "3'000", "40'000.75", "7"]
ENGLISH = ['"1,105.5"', "12.25", '"1,234,567"', "998", '"3,000"', '"40,000.75"', "7"]
PRICED = [1200.5, 12.25, 3.0, 40.5, 5.75, 66.0, 0.5]
PRICES = [repr(value) for value in PRICED]
FRENCH = [cell.replace(".", "\u202f") for cell in GERMAN]

UGLY = [
    one_column("plain", POINTS, PLAIN),
    one_column("byte order mark", POINTS, PLAIN, mark=codecs.BOM_UTF8),
    one_column("latin-1", POINTS, PLAIN, "is not UTF-8", name="Größe", encoding="latin-1"),
    one_column("cp1252", POINTS, PLAIN, "is not UTF-8", name="Preis €", encoding="cp1252"),
    one_column("utf-16", POINTS, PLAIN, "UTF-16", name="Größe", encoding="utf-16"),
    one_column("utf-16 without mark", POINTS, PLAIN, "UTF-16-LE without a mark", encoding="utf-16-le"),
    one_column("carriage returns", POINTS, PLAIN, end="\r"),
    one_column("semicolons and decimal commas", COMMAS, PLAIN, "the comma is the decimal mark", delimiter=";"),
    one_column("vertical bars", POINTS, PLAIN, "divided by a vertical bar", delimiter="|"),
    one_column("tabs, commas in the header", POINTS, PLAIN, "divided by a tab", delimiter="\t", name="load (a, b, c)"),
    one_column("sep line", POINTS, PLAIN, "tells how cells are divided", delimiter=";", before="sep=;\n"),
    one_column("comments in front", POINTS, PLAIN, "passed over", before="# station 4711\n# unit, m3/s\n\n"),
    one_column("german thousands", GERMAN, THOUSANDS, "the point is a thousands mark", delimiter=";"),
    one_column("swiss thousands", SWISS, THOUSANDS, "apostrophes are thousands marks"),
    one_column("english thousands", ENGLISH, THOUSANDS, "the comma is a thousands mark"),
    one_column("narrow blanks", FRENCH, THOUSANDS, "blanks or apostrophes", delimiter=";"),
    one_column("percent", [f"{value} %" for value in PLAIN], PLAIN, 'unit "%"'),
    one_column("unicode minus", [cell.replace("-", "\u2212") for cell in POINTS], PLAIN, "is a minus"),
    one_column(
        "parentheses", [cell.replace("-2.25", "(2.25)") for cell in POINTS], PLAIN, "in parentheses are negative"
    ),
    one_column("units", [f"{value} kg" for value in PLAIN], PLAIN, 'unit "kg"'),
    one_column(
        "missing words", ["1.5", "NA", "n/a", "-", "", "#N/A", "0.75"], [1.5, None, None, None, None, None, 0.75]
    ),
    one_column(
        "a code for missing", ["1.5", "-9999", "3.5", "-9999", "5.5", "6.5", "0.75"],
        [1.5, -9999, 3.5, -9999, 5.5, 6.5, 0.75], "data.missing = [-9999]",
    ),
    one_column(
        "a code for missing that is named", ["1.5", "-9999", "3.5", "-9999", "5.5", "6.5", "0.75"],
        [1.5, None, 3.5, None, 5.5, 6.5, 0.75], "-9999 counts as missing (data.missing)", {"missing": (-9999,)},
    ),
    one_column(
        "a code for missing below a river's flow", ["1500", "-999", "30", "999", "55", "65", "0"],
        [1500, -999, 30, 999, 55, 65, 0], "data.missing = [-999]",
    ),
    # Marks of whole numbers alone: the cells of 1,000 and more are decided by the column, the file, or data.decimal.
    one_column(
        "german whole numbers", ["922", "1.105", "863", "2.048", "997", "12.350", "3"],
        [922, 1105, 863, 2048, 997, 12350, 3], "the point is read as a thousands mark", delimiter=";",
    ),
    two_columns(
        "german whole numbers from 1,000 on", ["1.922", "1.105", "1.863", "2.048", "9.997", "12.350", "3.001"],
        [comma(value) for value in PLAIN], [1922, 1105, 1863, 2048, 9997, 12350, 3001], PLAIN,
        "a thousands mark, as the other columns show",
    ),
    two_columns(
        "three decimals beside whole thousands", ["1.922", "1.105", "1.863", "2.048", "9.997", "12.350", "3.001"],
        POINTS, [1.922, 1.105, 1.863, 2.048, 9.997, 12.35, 3.001], PLAIN, "the decimal mark, as the other columns show",
    ),
    one_column(
        "english whole numbers from 1,000 on", ['"1,922"', '"1,105"', '"1,863"', '"2,048"', '"9,997"',
        '"12,350"', '"3,001"'],
        [1922, 1105, 1863, 2048, 9997, 12350, 3001], "data.decimal settles it",
    ),
    one_column(
        "data.decimal is the comma", ["1.922", "1.105", "1.863", "2.048", "9.997", "12.350", "3.001"],
        [1922, 1105, 1863, 2048, 9997, 12350, 3001], "", {"decimal": ","}, delimiter=";",
    ),
    one_column(
        "data.decimal is the point", ["1,922", "1,105", "863", "2,048", "9,997", "12,350", "3"],
        [1922, 1105, 863, 2048, 9997, 12350, 3], "", {"decimal": "."}, delimiter=";",
    ),
    Ugly("data.decimal that doesn't fit", "t.csv", written(POINTS, delimiter=";"), refusal="can't be read",
         settings={"decimal": ","}),
    one_column("typographic apostrophes", [cell.replace("'", "\u2019") for cell in SWISS], THOUSANDS, "apostrophes"),
    one_column("no-break blanks", [cell.replace("'", "\u00a0") for cell in SWISS], THOUSANDS, "blanks or"),
    one_column("thin blanks", [cell.replace("'", "\u2009") for cell in SWISS], THOUSANDS, "blanks or"),
    one_column("grouping by hundreds", ['"1,23,456.5"', "78", '"12,34,567"', "3", "4", "5", "6.25"],
               [123456.5, 78, 1234567, 3, 4, 5, 6.25], "the comma is a thousands mark"),
    *[
        one_column(f"{unit} in front", [f"{unit}{cell}" for cell in PRICES], PRICED, f'unit "{unit.strip()}"')
        for unit in ("$", "€ ", "£", "CHF", "EUR ", "US$", "R$ ", "kr ")
    ],
    *[
        one_column(f"{unit} behind", [f"{comma(v)}{unit}" for v in PRICED], PRICED, f'unit "{unit.strip()}"',
        delimiter=";")
        for unit in (" €", "€", " CHF", " EUR", " zł", " Fr.")
    ],
    one_column("minus in front of the currency", [f"-${cell}" for cell in PRICES], [-v for v in PRICED], 'unit "$"'),
    one_column("minus behind", [cell.lstrip("-") + "-" * ("-" in cell) for cell in POINTS], PLAIN, "behind a number"),
    one_column("bounds", ["<1.5", "-2.25", "> 3.0", *POINTS[3:]], PLAIN, "count as their"),
    refused("uncertainties", [f"{v} ± 0.1" for v in PLAIN], "look like numbers that can't be read"),
    refused("flags behind numbers", [f"{v}*" if k % 2 else f"{v}" for k, v in enumerate(PLAIN)], '"-2.25*"'),
    refused("several units", [f"{v} {'mg' if k % 2 else 'g'}" for k, v in enumerate(PLAIN)], "several units"),
    refused("per cent and none", [f"{v} %" if k % 2 else f"{v}" for k, v in enumerate(PLAIN)], "several units"),
    refused("powers of ten", [f"{v} x 10^3" for v in PLAIN], "look like numbers that can't be read"),
    one_column("utf-16, big end first, without mark", POINTS, PLAIN, "UTF-16-BE without", encoding="utf-16-be"),
    one_column("quoted sep line", COMMAS, PLAIN, "tells how cells are divided", delimiter=";", before='"sep=;"\n'),
    one_column("delimiters at the lines' ends", [f"{cell}," for cell in POINTS], PLAIN),
    one_column("quotes", [f'"{cell}"' for cell in POINTS], PLAIN),
    lines_in_front("names in a comment", "# river\n# KEY;load\n", [f";{cell}" for cell in COMMAS],
        "are named by a line"),
    sheet("numbers of a sheet", PLAIN, PLAIN),
    sheet("numbers as text", COMMAS, PLAIN, "the comma is the decimal mark"),
    sheet("numbers beside numbers as text", [1.105, "2,5", 1.5, "1.234,5", 7, None, "0,25"],
          [1.105, 2.5, 1.5, 1234.5, 7, None, 0.25], "a thousands mark"),
    sheet("several sheets", PLAIN, PLAIN, "the first of 3 sheets is read", more=("two", "three")),
    sheet("comments above a sheet's names", PLAIN, PLAIN, "passed over", front=["# station 4711", "# m3/s"]),
    sheet("a code in a sheet", [1.5, -9999, 3.5, 4.5, 5, 6, 7], [1.5, -9999, 3.5, 4.5, 5, 6, 7],
        "data.missing = [-9999]"),
    parquet("text in parquet", GERMAN, THOUSANDS, "the comma is the decimal mark"),
    parquet("text in parquet, named codes", ["1.5", "-9999", *POINTS[2:]], [1.5, None, *PLAIN[2:]], "",
            {"missing": ("-9999",)}),
    parquet("a named code in parquet", [1.5, -9999.0, 3.5, 4.5, 5.0, 6.0, 7.0], [1.5, None, 3.5, 4.5, 5, 6, 7],
            "counts as missing", {"missing": (-9999,)}),
    parquet("a named code of whole numbers", [1, -9999, 3, 4, 5, 6, 7], [1, None, 3, 4, 5, 6, 7],
            "counts as missing", {"missing": (-9999,)}),
    parquet("a code in parquet", [1.5, -9999.0, 3.5, 4.5, 5.0, 6.0, 7.0], [1.5, -9999, 3.5, 4.5, 5, 6, 7],
        "data.missing"),
    Ugly("one row", "t.csv", written(POINTS), {"load": PLAIN[:1]}, rows=1),
    Ugly("5,000 columns", "t.csv", _wide(4999), {"c0": [0.5] * ROWS, "c4998": [4998.5] * ROWS}),
    Ugly(
        "a packed file", "t.csv.gz", lambda key, keys: gzip.compress(written(POINTS)(key, keys), mtime=0),
        {"load": PLAIN},
    ),
    Ugly("a gz bomb", "t.csv.gz", _bomb, refusal="unpacked size"),
    Ugly(
        "double names", "t.csv", lambda key, keys: f"{key},load,load\n{keys[0]},1,2\n".encode(),
        refusal='"load"; give each its own name',
    ),
    Ugly("no text", "t.csv", lambda key, keys: b"PK\x03\x04\0\0" + bytes(range(64)), refusal="is no text"),
    Ugly("nothing", "t.csv", lambda key, keys: b"", refusal="the first line is empty"),
]  # fmt: skip
