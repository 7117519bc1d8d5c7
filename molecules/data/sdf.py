"""SD files: mol blocks one behind the other, each with data items, as columns.

The text is cut into records here, so that one bad record costs itself alone, and RDKit sees one block at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoform.core.errors import UserError
from isoform.molecules.data.parsing import MOST_BLOCK, canonical, parse_block
from isoform.molecules.data.tables import MOST_CELLS, Rows, open_text, read_rows

_ITEM = re.compile(r"^>.*?<(?P<name>[^>]*)>")
_END = "M  END"
SMILES, TITLE = "SMILES", "title"  # the columns that every SD file gets


def read_sdf(path: Path) -> Rows:
    """The records of a .sdf (or a .mol, which is one) as rows: data items as columns, SMILES from the blocks.

    Names are the titles (the blocks' first lines) where every record has its own, else "record 7". A csv called
    FILE.sdf.csv beside it gives more columns, where it has as many rows. Raises UserError where the file is no text.
    """
    with open_text(path) as (text, digest, told):
        rows = _collect(_records(text), str(path))
    rows.sha256 = digest
    rows.findings[:0] = [told] if told else []
    if not len(rows):
        raise UserError(f"{path}: holds no molecules; the records of an SD file end in a line $$$$")
    _join_table(rows, path)
    return rows


def _records(text: Iterable[str]) -> Iterator[tuple[str, list[str], bool]]:
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


def _collect(records: Iterable[tuple[str, list[str], bool]], origin: str) -> Rows:
    rows = Rows(origin, {}, [], blocks=[], smiles=SMILES)
    smiles: list[str] = []
    titles: list[str] = []
    columns: dict[str, list[str]] = {}
    assert rows.blocks is not None
    for number, (block, lines, cut) in enumerate(records):
        mol = f"is longer than {MOST_BLOCK:,} characters" if cut else parse_block(block)
        if isinstance(mol, str):
            rows.errors[number] = mol
        smiles.append("" if isinstance(mol, str) else canonical(mol))
        rows.blocks.append(block)
        titles.append(block.partition("\n")[0].strip())
        rows.names.append(f"record {number + 1}")
        for name, value in _items(lines):
            column = columns.setdefault(name, [])
            column += [""] * (number - len(column))
            if len(column) == number:  # of an item that comes twice, the first counts
                column.append(value)
        if len(columns) * (number + 1) > MOST_CELLS:
            raise UserError(f"{origin}: has more than {MOST_CELLS:,} data items; split the file")
    for column in columns.values():
        column += [""] * (len(titles) - len(column))
    own = [name for name in columns if name in (SMILES, TITLE)]
    for name in own:  # the blocks say it better
        columns[f"{name} (item)"] = columns.pop(name)
    if all(titles) and len(set(titles)) == len(titles):
        rows.names = list(titles)
    rows.columns = {SMILES: smiles, TITLE: titles} | columns
    return rows


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


def _join_table(rows: Rows, path: Path) -> None:
    """Columns of FILE.sdf.csv, row for row; a finding where the counts differ, since no row names its record."""
    beside = path.with_name(f"{path.name}.csv")
    if not beside.is_file():
        return
    table = read_rows(beside)
    if len(table) != len(rows):
        rows.findings.append(
            f"{beside.name} beside it is left alone: its {len(table)} rows can't be matched with {len(rows)} records"
        )
        return
    taken = [name for name in table.columns if name in rows.columns]
    rows.columns |= {name: cells for name, cells in table.columns.items() if name not in taken}
    new = [name for name in table.columns if name not in taken]
    rows.findings.append(f"{beside.name} beside it gives the columns {', '.join(new)}")
