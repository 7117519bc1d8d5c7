"""SD files: mol blocks one behind the other, each with data items, as columns.

The text is cut into records here, so that one bad record costs itself alone, and RDKit sees one block at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoform.core.data.read import read_table
from isoform.core.data.table import Table
from isoform.core.data.text import LIMITS, Raw, decode, lines_of
from isoform.core.errors import UserError, count
from isoform.molecules.data.parsing import MOST_BLOCK, canonical, parse_block
from isoform.molecules.data.tables import MoleculeTable, text_column

_ITEM = re.compile(r"^>[^<]*<(?P<name>[^>]*)>")
_END = "M  END"
SMILES, TITLE = "SMILES", "title"  # the columns that every SD file gets


def read_sdf(raw: Raw) -> MoleculeTable:
    """The records of a .sdf (or a .mol, which is one) as rows: data items as columns, SMILES from the blocks.

    Names are the titles (the blocks' first lines) where every record has its own, else "record 7". A csv called
    FILE.sdf.csv beside it gives more columns, where it has as many rows. Raises UserError where the file is no text.
    """
    text, findings = decode(raw)
    rows = _collect(records_of(lines_of(text)), raw)
    rows.table.said = findings
    if not len(rows):
        raise UserError(
            f"{raw.origin}: holds no molecules; the records of an SD file end in a line $$$$"
        )
    _join_table(rows)
    return rows


def records_of(text: Iterable[str]) -> Iterator[tuple[str, list[str], bool]]:
    """(block with its M  END, the lines behind it, whether it was too long and cut) of every record."""
    block: list[str] = []
    items: list[str] = []
    size, ended = 0, False
    for line in text:
        line = line.rstrip("\r\n")
        if line.startswith("$$$$"):
            yield "\n".join(block) + "\n", items, size > MOST_BLOCK
            block, items, size, ended = [], [], 0, False
            continue
        size += len(line) + 1
        if size > MOST_BLOCK:
            continue
        (items if ended else block).append(line)
        ended = ended or line.startswith(_END)
    if any(line.strip() for line in block):  # the last record may lack its $$$$
        yield "\n".join(block) + "\n", items, size > MOST_BLOCK


def _collect(records: Iterable[tuple[str, list[str], bool]], raw: Raw) -> MoleculeTable:
    blocks: list[str] = []
    names: list[str] = []
    errors: dict[int, str] = {}
    smiles: list[str] = []
    titles: list[str] = []
    columns: dict[str, list[str]] = {}
    for number, (block, lines, cut) in enumerate(records):
        mol = f"is longer than {MOST_BLOCK:,} characters" if cut else parse_block(block)
        if isinstance(mol, str):
            errors[number] = mol
        smiles.append("" if isinstance(mol, str) else canonical(mol))
        blocks.append(block)
        titles.append(block.partition("\n")[0].strip())
        names.append(f"record {number + 1}")
        for name, value in _items(lines):
            column = columns.setdefault(name, [])
            column += [""] * (number - len(column))
            if len(column) == number:  # of an item that comes twice, the first counts
                column.append(value)
        if len(columns) * (number + 1) > LIMITS.cells:
            raise UserError(
                f"{raw.origin}: has more than {LIMITS.cells:,} data items; split the file"
            )
    for column in columns.values():
        column += [""] * (len(titles) - len(column))
    own = [name for name in columns if name in (SMILES, TITLE)]
    for name in own:  # the blocks say it better
        columns[f"{name} (item)"] = columns.pop(name)
    if all(titles) and len(set(titles)) == len(titles):
        names = list(titles)
    every = {
        name: text_column(cells)
        for name, cells in {SMILES: smiles, TITLE: titles, **columns}.items()
    }
    table = Table(raw.origin, raw.name, "sdf", every, range(1, len(smiles) + 1), sha256=raw.sha256)
    return MoleculeTable(table, names, errors, blocks, SMILES)


def _items(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(name, value) of every data item; the lines of a long value are joined by blanks."""
    name = ""
    value: list[str] = []
    for line in [*lines, ">"]:
        found = _ITEM.match(line)
        if found or line == ">":
            if name:
                yield name, " ".join(part for part in value if part)
            name, value = (found["name"].strip() if found else ""), []
        else:
            value.append(line.strip())


def _join_table(rows: MoleculeTable) -> None:
    """Columns of FILE.sdf.csv, row for row; a finding where the counts differ, since no row names its record."""
    beside = Path(f"{rows.origin}.csv")
    if not beside.is_file():
        return
    table = read_table(beside)
    if len(table) != len(rows):
        rows.say(
            f"{beside.name} beside it is left alone: its {count(len(table), 'row')} can't be matched "
            f"with {count(len(rows), 'record')}"
        )
        return
    new = [name for name in table.names if name not in rows.columns]
    rows.table.columns |= {name: table.columns[name] for name in new}
    rows.say(f"{beside.name} beside it gives the columns {', '.join(new)}")
