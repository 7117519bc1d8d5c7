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

ROWS = 7
PLAIN = [1.5, -2.25, 3.0, 40.125, 5.0, 66.5, 0.75]
KEYS = [f"k{i}" for i in range(ROWS)]

Lines = list[list[str]]


@dataclass(frozen=True)
class Ugly:
    """numbers   column -> values, None where missing        finding   part of a line that has to be said, "" for none
    refusal   part of the one sentence that refuses the file, in place of everything else
    """

    name: str
    file: str
    pack: Callable[[str, Sequence[str]], bytes]
    numbers: dict[str, list[float | None]] = field(default_factory=dict)
    finding: str = ""
    refusal: str = ""
    rows: int = ROWS

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
    what: str, cells: Sequence[str], values: Sequence[float | None], finding: str = "", **options
) -> Ugly:
    column = options.get("name", "load")
    pack = written(cells, **options)
    return Ugly(what, "t.csv", pack, {column: list(values)}, finding)


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
