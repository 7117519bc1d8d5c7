"""Files of molecules as tables: csv, tsv, txt, parquet and xlsx by core's reader, and lists of SMILES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoform.core.data.delimited import PackedText, TextColumn
from isoform.core.data.findings import Finding, some
from isoform.core.data.read import table_of
from isoform.core.data.table import Table, Typed
from isoform.core.data.text import Raw, decode, lines_of, read_bytes
from isoform.core.errors import UserError
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
    "isosmiles", "smiles_string", "smile", "mol", "molecule", "structure",
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
    """The bytes of a file of molecules, and its kind: "csv", "smi", "parquet", "xlsx" or "sdf". Raises UserError."""
    if Path(path).expanduser().is_dir():
        raise UserError(
            f"{path}: is a folder; give a file of molecules that ends in {', '.join(KNOWN)}"
        )
    raw = read_bytes(path)
    return raw, kind_of(raw)


def kind_of(raw: Raw) -> str:
    """The kind of a file by its name's ending; of a .txt by its first line. Raises UserError."""
    stem = raw.name.lower().removesuffix(".gz")
    for kind, endings in _ENDINGS.items():
        if stem.endswith(endings):
            return "smi" if stem.endswith(".txt") and _is_list(raw) else kind
    raise UserError(
        f"{raw.origin}: is no file of molecules by its ending; known are {', '.join(KNOWN)}"
    )


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
    table = table_of(raw, kind, headless=lambda records: _holds_values(records[0]))
    errors = {row: table.why_ragged(row) for row in table.ragged}
    return MoleculeTable(table, table.row_names(), errors)


def _holds_values(names: Sequence[str]) -> bool:
    """True where a first line holds a number, or a SMILES while no name says which column has them."""
    if any(is_smiles_name(name) for name in names):
        return False
    return any(_is_number(name) for name in names) or any(
        looks_like_smiles(name) for name in names if name
    )


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
        first, _, rest = line.partition("\t") if "\t" in line else line.partition(" ")
        if not numbers and plain_name(first) in SMILES_NAMES:
            if rest.count("\t"):
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
    cells = [[*map(str.strip, one), *[""] * (width - len(one))] for one in cells]
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
