"""Files of molecules as tables: csv, tsv, txt, parquet and xlsx by core's reader, and lists of SMILES."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoform.core.data.delimited import PackedText, TextColumn
from isoform.core.data.findings import Finding, some
from isoform.core.data.missing import MISSING
from isoform.core.data.notation import take_apart
from isoform.core.data.read import table_of
from isoform.core.data.table import Table, Typed
from isoform.core.data.text import STDIN, Raw, decode, lines_of, read_bytes
from isoform.core.errors import UserError
from isoform.molecules.data.cells import is_inchi, looks_like_molecule
from isoform.molecules.data.parsing import looks_like_smiles

_ENDINGS = {
    "smi": (".smi", ".smiles", ".ism", ".can", ".cxsmiles"),
    "csv": (".csv", ".tsv", ".txt", ".tab"),
    "parquet": (".parquet", ".pq"),
    "xlsx": (".xlsx",),
    "sdf": (".sdf", ".sd", ".mol"),
}
KNOWN = (".csv", ".tsv", ".txt", ".smi", ".sdf", ".parquet", ".xlsx")
# The columns of SMILES in published tables, the surer names first; compared in small letters, blanks and - as _.
SMILES_NAMES = (
    "smiles", "canonical_smiles", "isomeric_smiles", "smiles_canonical", "canonicalsmiles", "isomericsmiles",
    "isosmiles", "smiles_string", "smile", "mol", "molecule", "structure", "inchi", "standard_inchi",
)  # fmt: skip


@dataclass
class MoleculeTable:
    """A file of molecules before any cell is understood.

    table    its cells, and the findings of whoever reads them
    names    where each row comes from: "line 7", "row 7" of a parquet file, "record 7" of an SD file
    errors   row -> why it can't be read; its cells are empty
    blocks   a mol block each row, from an SD file
    smiles   the column of SMILES, where the format tells
    """

    table: Table
    names: list[str]
    errors: dict[int, str] = field(default_factory=dict)
    blocks: list[str] | None = None
    smiles: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def origin(self) -> str:
        """What messages call the file."""
        return self.table.origin

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return self.table.names

    def cells(self, column: str) -> list[str]:
        """A column as text, "" where there is nothing."""
        return self.table.cells(column)

    def say(self, finding: str) -> None:
        """Adds a finding."""
        self.table.say(finding)

    def findings(self, used: Sequence[str]) -> list[str]:
        """What was found about the file as a whole, and about the columns that are used."""
        return [
            str(one)
            for one in self.table.findings
            if not one.columns or set(one.columns) & set(used)
        ]


def read_bytes_of(path: str | Path) -> tuple[Raw, str]:
    """The bytes of a file of molecules, or of standard input, and its kind: "csv", "smi", "parquet", "xlsx" or "sdf".

    Raises UserError.
    """
    if Path(path).expanduser().is_dir():
        raise UserError(
            f"{path}: is a folder; give a file of molecules that ends in {', '.join(KNOWN)}"
        )
    raw = read_bytes(path)
    return raw, _kind_of_content(raw) if str(path) == STDIN else kind_of(raw)


def files_below(folder: Path) -> list[Path]:
    """The files of molecules below a folder by their endings, by path; hidden ones and a FILE.sdf.csv are none."""
    endings = tuple(ending for some in _ENDINGS.values() for ending in some)
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.lower().removesuffix(".gz").endswith(endings) and path.is_file()
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    beside = {path.with_name(f"{path.name}.csv") for path in found}
    return [path for path in found if path not in beside]


def files_beside(folder: Path, files: Sequence[Path]) -> list[Path]:
    """The other files below a folder, by path; a FILE.sdf.csv belongs to its FILE.sdf."""
    read = {*files, *(path.with_name(f"{path.name}.csv") for path in files)}
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in read]


def kind_of(raw: Raw) -> str:
    """The kind of a file by its name's ending; of a .txt by its first line. Raises UserError."""
    stem = raw.name.lower().removesuffix(".gz")
    for kind, endings in _ENDINGS.items():
        if stem.endswith(endings):
            return "smi" if stem.endswith(".txt") and _is_list(raw) else kind
    raise UserError(
        f"{raw.origin}: is no file of molecules by its ending; known are {', '.join(KNOWN)}"
    )


def _kind_of_content(raw: Raw) -> str:
    """The kind of standard input, which has no name."""
    if raw.content.startswith(b"PAR1"):
        return "parquet"
    if raw.content.startswith(b"PK\x03\x04"):
        return "xlsx"
    if b"M  END" in raw.content[: 2**21]:
        return "sdf"
    return "smi" if _is_list(raw) else "csv"


def _is_list(raw: Raw) -> bool:
    """True for a .txt whose first line is a SMILES and not the names of columns."""
    first = raw.content[: 2**16].partition(b"\n")[0].decode("utf-8", "replace").split()
    return (
        bool(first) and not any(mark in first[0] for mark in ",;") and looks_like_smiles(first[0])
    )


def read_cells(raw: Raw, kind: str) -> MoleculeTable:
    """The cells of a table or a list of SMILES. Raises UserError where it can't be read as a whole."""
    if kind == "smi":
        return _read_list(raw)
    return table_rows(table_of(raw, kind, headless=_is_headless))


def table_rows(table: Table) -> MoleculeTable:
    """A table as molecules; rows with another number of cells than there are columns are errors."""
    errors = {row: table.why_ragged(row) for row in table.ragged}
    return MoleculeTable(table, table.row_names(), errors)


def _is_headless(records: Sequence[Sequence[str]]) -> bool:
    """True where the first of some records holds a molecule in the column that has molecules below it.

    Names such as S, IC or BBB are SMILES too: a first record that names a column of SMILES, or that has a word in front
    of numbers, holds names. Where no column has molecules, a number makes it values.
    """
    first, *body = [[cell.strip() for cell in record] for record in records]
    if any(is_smiles_name(name) for name in first):
        return False
    columns = [[row[k] for row in body if k < len(row) and row[k]] for k in range(len(first))]
    shares = [_share(looks_like_molecule, cells) for cells in columns]
    best = max(range(len(first)), key=lambda k: (shares[k], sum(map(len, columns[k]))), default=0)
    if not body:
        return any(_is_number(name) or looks_like_molecule(name) for name in first if name)
    if shares[best] < 0.5:
        return any(_is_number(name) for name in first)
    return looks_like_molecule(first[best]) and not any(
        _is_name_of_numbers(name, cells) for name, cells in zip(first, columns, strict=True)
    )


def _is_name_of_numbers(name: str, cells: Sequence[str]) -> bool:
    """Whether a word stands over numbers."""
    word = bool(name) and name.lower() not in MISSING and take_apart(name) is None
    return word and _share(lambda cell: take_apart(cell) is not None, cells) >= 0.5


def _share(test: Callable[[str], bool], cells: Sequence[str]) -> float:
    return sum(map(test, cells)) / len(cells) if cells else 0.0


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


def _read_list(raw: Raw) -> MoleculeTable:
    """One molecule a line: SMILES, a name, and columns behind it. Lines that begin with # are comments."""
    text, findings = decode(raw)
    numbers: list[int] = []
    smiles: list[str] = []
    behind: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        first, rest = _split_line(line)
        if not numbers and plain_name(first) in SMILES_NAMES:
            if "\t" in rest or "," in rest:
                return read_cells(raw, "csv")  # a table with a header, under another ending
            findings.append(Finding(f"line {number} of {raw.name} names the columns"))
            continue
        numbers.append(number)
        smiles.append(first)
        behind.append(_behind(rest))
    labels, more = _split_names(behind)
    columns = {"smiles": text_column(smiles), "name": text_column(labels)}
    columns |= {f"column {k}": text_column(cells) for k, cells in enumerate(more, 3)}
    if more:
        said = some([f'"column {k}"' for k in range(3, 3 + len(more))])
        findings.append(Finding(f"what stands behind the names are columns: {said}"))
    table = Table(raw.origin, raw.name, "csv", columns, numbers, sha256=raw.sha256, said=findings)
    return MoleculeTable(table, table.row_names(), smiles="smiles")


def _split_line(line: str) -> tuple[str, str]:
    """(SMILES, what stands behind it) of a line of a list: behind a tab, else a blank, a comma or a semicolon."""
    mark = "\t" if "\t" in line else " "
    word = line.partition(mark)[0]
    if mark == " " and not is_inchi(line):  # no SMILES has either
        mark = next((one for one in word if one in ",;"), mark)
    first, _, rest = line.partition(mark)
    return first, rest


def text_column(cells: Sequence[str]) -> TextColumn | Typed:
    """A column of a `Table`."""
    return PackedText(["\0".join(cells)] if cells else [])


def _split_names(behind: list[str]) -> tuple[list[str], list[list[str]]]:
    """(names, columns) of what stands behind the SMILES, divided by tabs, or by blanks, which names hold too.

    Behind a tab any column counts that most lines fill; behind a blank only numbers do, if every line has as many.
    """
    tabs = any("\t" in one for one in behind)
    cells = [one.split("\t") if tabs else one.split() for one in behind]
    width = max(map(len, cells), default=0)
    if not tabs and (any(len(one) != width for one in cells) or not _are_numbers(cells)):
        return behind, []
    # Most lines fill no column behind the middle one's last: a single long line makes no table of its width.
    width = sorted(map(len, cells), reverse=True)[len(cells) // 2] if cells else 0
    cells = [[*map(str.strip, one[:width]), *[""] * (width - len(one))] for one in cells]
    columns = [list(column) for column in zip(*cells, strict=True)] or [[]]
    return columns[0], [one for one in columns[1:] if 2 * sum(map(bool, one)) > len(one)]


def _are_numbers(cells: Sequence[Sequence[str]]) -> bool:
    """Whether all but the first cell of every line are numbers, and there are some."""
    return all(len(one) > 1 and all(map(_is_number, one[1:])) for one in cells)


def _behind(rest: str) -> str:
    """What stands behind a SMILES; a CXSMILES extension may stand before it."""
    rest = rest.strip()
    if rest.startswith("|") and "|" in rest[1:]:
        rest = rest[rest.index("|", 1) + 1 :].strip()
    return rest
