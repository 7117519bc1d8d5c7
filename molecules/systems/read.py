"""Files of molecules and crystals as systems: the ending of the name tells the format."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from isoform.core.data.read import table_of
from isoform.core.data.table import Table
from isoform.core.data.text import LIMITS, Raw, decode, read_bytes
from isoform.core.errors import UserError, count
from isoform.molecules.systems.crystals import blocks_of, read_block, read_cif, read_poscar
from isoform.molecules.systems.molecule_files import read_sdf, read_xyz
from isoform.molecules.systems.notes import Notes
from isoform.molecules.systems.system import Records, System, Unread

KNOWN = (".sdf", ".mol", ".xyz", ".extxyz", ".cif", ".poscar", ".vasp", ".csv")
_STRUCTURES = tuple(one for one in KNOWN if one != ".csv")
_VASP = ("poscar", "contcar")
_GROUP = ("spacegroup.number", "spacegroup_number", "space_group_number", "spacegroup")
_NAME = ("material_id", "id", "name")


def read_systems(source: str | Path, key: str = "data.path") -> Records:
    """All records of a file (each also .gz), or of the files of a folder; those that can't be read keep their place
    with a reason.

    A .csv is one of CIFs, as CDVAE and MP-20 have it: a column cif, and material_id and spacegroup.number where it has
    them. `key` is the setting that named the file. Raises UserError where the file can't be read at all, holds no
    record, or needs a library that is absent.
    """
    notes = Notes()
    if Path(source).is_dir():
        return _read_folder(Path(source), notes)
    raw, records, said = _read_file(source, key, notes)
    unread = sum(isinstance(one, Unread) for one in records)
    said = [f"{raw.name}: {count(len(records), 'record')}, {unread:,} of them unreadable", *said]
    return Records(records, raw.origin, raw.sha256, said + notes.lines())


def _read_file(
    source: str | Path, key: str, notes: Notes
) -> tuple[Raw, list[System | Unread], list[str]]:
    kind = _kind(source)
    raw = read_bytes(source, key=key)
    if kind == "csv":
        records, said = _read_table(raw, notes)
    else:
        text, found = decode(raw)
        said = [str(one) for one in found]
        records = _read_text(text, kind, raw.name, notes)
    if not records:
        raise UserError(f"{raw.origin}: holds no molecule and no crystal")
    return raw, records, said


def _read_folder(folder: Path, notes: Notes) -> Records:
    """Its files in the order of their names, which the records have, too; tables are no structures of such a folder."""
    found = sorted(path for path in folder.iterdir() if path.is_file())
    files = [path for path in found if _is_structure(path)]
    records: list[System | Unread] = []
    digests = []
    for path in files:
        try:
            raw, read, _ = _read_file(path, "data.path", notes)
        except UserError as error:
            records.append(Unread(path.name, str(error)))
            continue
        digests.append(raw.sha256)
        records += [
            _named(one, path.name if len(read) == 1 else f"{path.name} {one.name}") for one in read
        ]
    unread = [one for one in records if isinstance(one, Unread)]
    if len(unread) == len(records):
        why = f"; the first: {unread[0].reason}" if unread else ""
        raise UserError(
            f"{folder}: holds no structure that can be read, in a file ending in {', '.join(_STRUCTURES)}{why}"
        )
    sizes = f"{count(len(files), 'file')}, {count(len(records), 'record')}"
    line = f"{folder.name}: {sizes}, {len(unread):,} of them unreadable"
    line += f", such as {unread[0].name}: {unread[0].reason}" if unread else ""
    digest = hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()
    return Records(records, str(folder), digest, [line, *notes.lines()])


def _named(one: System | Unread, name: str) -> System | Unread:
    return one._replace(name=name) if isinstance(one, Unread) else replace(one, name=name)


def _is_structure(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix in _STRUCTURES or name.startswith(_VASP)


def holds_structures(path: Path) -> bool:
    """Whether a file, or a folder of files called train, val and test, holds structures rather than a table.

    An SD file or a table may hold molecules for either; they aren't told apart from others here.
    """
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    suffixes = {Path(file.name.lower().removesuffix(".gz")).suffix for file in files}
    named = any(file.name.lower().startswith(_VASP) for file in files)
    return named or bool(suffixes & {".xyz", ".extxyz", ".cif", ".poscar", ".vasp"})


def _kind(source: str | Path) -> str:
    name = Path(source).name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix in (".poscar", ".vasp") or name.startswith(_VASP):
        return "poscar"
    if suffix not in KNOWN:
        raise UserError(
            f"{source}: a file of systems ends in {', '.join(KNOWN)}, or is called POSCAR"
        )
    return {".mol": "sdf", ".extxyz": "xyz"}.get(suffix, suffix[1:])


def _read_text(text: str, kind: str, name: str, notes: Notes) -> list[System | Unread]:
    if kind == "cif":
        return read_cif(text, notes)
    if kind == "poscar":
        return [read_poscar(text, name, notes)]
    return read_sdf(text, notes) if kind == "sdf" else read_xyz(text, notes)


def _read_table(raw: Raw, notes: Notes) -> tuple[list[System | Unread], list[str]]:
    table = table_of(raw, "csv", LIMITS)
    table.settle((), "auto")
    column = _find(table, ("cif",))
    if column is None:
        known = ", ".join(table.names[:8])
        raise UserError(f"{raw.origin}: has no column cif, one CIF a row (it has: {known})")
    named, grouped = _find(table, _NAME), _find(table, _GROUP)
    names = table.cells(named) if named else table.row_names()
    groups = table.cells(grouped) if grouped else [""] * len(table)
    records = [
        _of_cell(cell, name, group, notes)
        for cell, name, group in zip(table.cells(column), names, groups, strict=True)
    ]
    return records, [str(one) for one in table.findings]


def _of_cell(cell: str, name: str, group: str, notes: Notes) -> System | Unread:
    """The one data block of a row's cell."""
    blocks = list(blocks_of(cell))
    if len(blocks) != 1:
        return Unread(
            name, f"its cell holds {count(len(blocks), 'data block')} with atoms instead of one"
        )
    read = read_block(name, blocks[0][1], notes)
    known = group.strip().removesuffix(".0")
    if isinstance(read, System) and known.isdigit() and 1 <= int(known) <= 230:
        return System(read.numbers, read.positions, read.lattice, read.fractional, name, int(known))
    return read


def _find(table: Table, wanted: tuple[str, ...]) -> str | None:
    lower = {name.strip().lower(): name for name in table.names}
    return next((lower[name] for name in wanted if name in lower), None)
