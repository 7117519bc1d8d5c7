"""Tables of molecules as text: csv, tsv, txt, smi and parquet, gzipped or not. A row that is wrong is named."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from isoform.core.errors import UserError
from isoform.molecules.data.parsing import looks_like_smiles

MOST_BYTES = 4 * 2**30  # of a file, unpacked
MOST_CELLS = 200_000_000  # of a table that is held as text
_SMI = (".smi", ".smiles", ".ism", ".can", ".cxsmiles")
_CSV = (".csv", ".tsv", ".txt", ".tab")
_PARQUET = (".parquet", ".pq")
_SDF = (".sdf", ".sd", ".mol")
KNOWN = (".csv", ".tsv", ".txt", ".smi", ".sdf", ".parquet")
# The columns of SMILES in published tables, the surer names first; compared in small letters, blanks and - as _.
SMILES_NAMES = (
    "smiles", "canonical_smiles", "isomeric_smiles", "smiles_canonical", "canonicalsmiles", "isomericsmiles",
    "isosmiles", "smiles_string", "smile", "mol", "molecule", "structure",
)  # fmt: skip


@dataclass
class Rows:
    """The cells of a file of molecules, column by column, before any is understood.

    columns  name -> a text each row
    names    where each row comes from: "line 7", "row 7" of a parquet file, "record 7" of an SD file
    errors   row -> why it can't be read; its cells are empty
    blocks   a mol block each row, from an SD file
    """

    origin: str
    columns: dict[str, list[str]]
    names: list[str]
    errors: dict[int, str] = field(default_factory=dict)
    blocks: list[str] | None = None
    findings: list[str] = field(default_factory=list)
    sha256: str = ""
    smiles: str | None = None  # the column of SMILES, where the format tells

    def __len__(self) -> int:
        return len(self.names)


def kind_of(path: Path) -> str:
    """ "csv", "smi", "parquet" or "sdf", by the name's ending; a .txt by its first line. Raises UserError."""
    stem = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file of molecules that ends in {', '.join(KNOWN)}")
    for kind, endings in (("csv", _CSV), ("smi", _SMI), ("parquet", _PARQUET), ("sdf", _SDF)):
        if stem.endswith(endings):
            return "smi" if stem.endswith(".txt") and _is_list(path) else kind
    raise UserError(f"{path}: is no file of molecules by its ending; known are {', '.join(KNOWN)}")


def _is_list(path: Path) -> bool:
    """True for a .txt whose first line is a SMILES and not the names of columns."""
    with open_bytes(path) as file, _explained(path):
        first = file.readline(2**16).decode("utf-8", "replace").split()
    return bool(first) and not any(mark in first[0] for mark in ",;") and looks_like_smiles(first[0])


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, those of a .gz unpacked. Raises UserError where it can't be opened."""
    try:
        file: Any = gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    with file:
        yield file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged or unreadable ({error}); pack or download it again") from None


@contextmanager
def open_text(path: Path) -> Iterator[tuple[TextIO, str, str]]:
    """(the text of a file, SHA-256 of the file as it is stored, a sentence where it isn't UTF-8 or "").

    The file is read once over before, for its encoding and its size. UTF-8 and, where it has their mark, UTF-16; what
    else isn't UTF-8 is read as Latin-1, in which no byte is wrong: SMILES and numbers are the same in all of these.
    Raises UserError for a damaged .gz, more than MOST_BYTES, and a file that is no text.
    """
    encoding, told = _encoding(path)
    with open(path, "rb") as stored:
        digest = hashlib.file_digest(stored, "sha256").hexdigest()
    with open_bytes(path) as file, _explained(path), io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        yield text, digest, told


def _encoding(path: Path) -> tuple[str, str]:
    import codecs

    decoder, size, encoding = codecs.getincrementaldecoder("utf-8")(), 0, "utf-8-sig"
    with open_bytes(path) as file, _explained(path):
        while part := file.read(2**22):
            if not size and part[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "utf-16", ""
            size += len(part)
            if size > MOST_BYTES:
                raise UserError(f"{path}: holds more than {MOST_BYTES >> 30} GiB, which are read into memory; split it")
            if b"\0" in part:
                raise UserError(f"{path}: is no text; save it as csv in UTF-8, or give it the ending of what it is")
            if encoding == "utf-8-sig":
                try:
                    decoder.decode(part)
                except UnicodeDecodeError:
                    encoding = "latin-1"
    if encoding == "latin-1":
        return encoding, f"{path.name} is not UTF-8; it was read as Latin-1, so names may hold odd letters"
    return encoding, ""


def read_rows(path: Path) -> Rows:
    """The cells of a csv, tsv, txt, smi or parquet file. Raises UserError where it can't be read as a whole."""
    kind = kind_of(path)
    if kind == "parquet":
        return _read_parquet(path)
    with open_text(path) as (text, digest, told):
        rows = _read_smi(text, path) if kind == "smi" else _read_csv(text, path)
    rows.sha256 = digest
    rows.findings[:0] = [told] if told else []
    return rows


def lines_of(text: TextIO, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of every record of a csv, blank lines left out. Raises UserError."""
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {line}: {error}; is a quotation mark missing?") from None


def _read_csv(text: TextIO, path: Path) -> Rows:
    first = text.readline(2**24)
    if not first.strip():
        raise UserError(f"{path}: the first line is empty; it names the columns, for example smiles,value")
    text.seek(0)
    delimiter = max(",;\t|", key=first.count)
    records = lines_of(text, delimiter, path)
    _, names = next(records)
    names = [name.strip() for name in names]
    rows = Rows(str(path), {}, [])
    if _headless(names):
        rows.findings.append(f"the first line of {path.name} holds values; columns are called column 1, column 2, ...")
        text.seek(0)
        records = lines_of(text, delimiter, path)
        names = [""] * len(names)
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise UserError(f'{path}: two columns are called "{double}"; give each its own name')
    _fill(rows, names, records, path)
    return rows


def _headless(names: Sequence[str]) -> bool:
    """True where the first line holds values: a number, or a SMILES while no name says which column has them."""
    if any(is_smiles_name(name) for name in names):
        return False
    return any(_is_number(name) for name in names) or any(looks_like_smiles(name) for name in names if name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_smiles_name(name: str) -> bool:
    """Whether a column is called as one of SMILES."""
    plain = plain_name(name)
    return plain in SMILES_NAMES or "smiles" in plain


def plain_name(name: str) -> str:
    """A column's name in small letters, with _ for blanks and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _fill(rows: Rows, names: list[str], records: Iterator[tuple[int, list[str]]], path: Path) -> None:
    """Appends every record; one with another number of cells than there are names becomes an error."""
    columns: list[list[str]] = [[] for _ in names]
    pool: dict[str, str] = {}  # millions of cells hold few different short texts
    width, most = len(names), MOST_CELLS // max(1, len(names))
    for line, cells in records:
        if len(cells) != width and not any(cell.strip() for cell in cells[width:]) and len(cells) > width:
            cells = cells[:width]  # nothing but delimiters behind the last column
        if len(cells) != width:
            rows.errors[len(rows.names)] = f"has {len(cells)} cells where there are {width} columns"
            cells = [""] * width
        for column, cell in zip(columns, cells, strict=True):
            cell = cell.strip()
            column.append(pool.setdefault(cell, cell) if len(cell) < 12 else cell)
        rows.names.append(f"line {line}")
        if len(rows.names) > most:
            raise UserError(f"{path}: has more than {most:,} rows of {width} columns; leave out some columns")
    rows.columns = dict(zip(names, columns, strict=True))


def _read_smi(text: TextIO, path: Path) -> Rows:
    """One molecule a line: SMILES, then a name. Lines that begin with # are comments."""
    rows = Rows(str(path), {}, [], smiles="smiles")
    smiles: list[str] = []
    labels: list[str] = []
    for number, line in enumerate(text, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        first, _, rest = line.partition("\t") if "\t" in line else line.partition(" ")
        if not rows.names and not rows.findings and plain_name(first) in SMILES_NAMES:
            if rest.count("\t"):  # a table with a header, under another ending
                text.seek(0)
                return _read_csv(text, path)
            rows.findings.append(f"line {number} of {path.name} names the columns")
            continue
        rest = rest.strip()
        if rest.startswith("|") and "|" in rest[1:]:  # a CXSMILES extension stands before the name
            rest = rest[rest.index("|", 1) + 1 :].strip()
        smiles.append(first)
        labels.append(rest.partition("\t")[0])
        rows.names.append(f"line {number}")
    rows.columns = {"smiles": smiles, "name": labels}
    return rows


def _read_parquet(path: Path) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"{path}: parquet needs pyarrow; `pip install pyarrow`, or write the table as csv") from None
    rows = Rows(str(path), {}, [])
    try:
        with pq.ParquetFile(path) as file:
            many = file.metadata.num_rows * max(1, file.metadata.num_columns)
            packed = sum(file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups))
            # Numbers packed by runs take hardly any space in the file.
            if many > MOST_CELLS or packed > MOST_BYTES:
                raise UserError(f"{path}: holds {many:,} cells, {packed >> 20} MiB; leave out some columns")
            content = file.read()
        rows.names = [f"row {row}" for row in range(1, content.num_rows + 1)]
        left_out = []
        for name, entry in zip(content.schema.names, content.schema, strict=True):
            if pa.types.is_nested(entry.type) or pa.types.is_binary(entry.type):
                left_out.append(name)
                continue
            if name in rows.columns:
                raise UserError(f'{path}: two columns are called "{name}"; give each its own name')
            cells = content.column(name).to_pylist()
            rows.columns[name] = ["" if cell is None else str(cell).strip() for cell in cells]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is no parquet file that can be read ({' '.join(str(error).split())[:120]})") from None
    if left_out:
        rows.findings.append(f"columns of lists or bytes are left out: {', '.join(left_out)}")
    with open(path, "rb") as stored:
        rows.sha256 = hashlib.file_digest(stored, "sha256").hexdigest()
    return rows


def check_file(path: str | Path) -> Path:
    """The path of a file that is there and not too large. Raises UserError."""
    path = Path(os.path.expanduser(path))
    if not path.exists():
        raise UserError(f"{path}: no such file (data.path)")
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path}: is larger than the {MOST_BYTES >> 30} GiB that are read into memory; split it")
    return path
