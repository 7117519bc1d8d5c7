"""The molecules and crystals of an app, read once, and which of them train, validate and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isoform.core.data.digests import content_digest, digests_of
from isoform.core.data.splits import Rows, split_rows
from isoform.core.domain.kept_split import KeptSplit, Samples
from isoform.core.errors import UserError, count
from isoform.molecules.adit.config import SystemsConfig
from isoform.molecules.systems.embedded import prototypes, qm9_systems
from isoform.molecules.systems.packed import Chosen, Systems, join, pack
from isoform.molecules.systems.read import KNOWN, read_systems
from isoform.molecules.systems.splits import qm9_split
from isoform.molecules.systems.system import System

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """One source: its systems, and the split of each ("" where it has none of its own)."""

    name: str
    systems: Systems
    split: np.ndarray
    licence: str
    findings: Sequence[str] = ()
    sha256: str = ""
    unread: int = 0
    smiles: Sequence[str] = ()


@dataclass(frozen=True)
class SystemsData:
    """All systems that are used.

    source   [n] the number of each one's source in config.data.source
    rows     split -> rows of `systems`
    smiles   [n] as published, "" where they aren't
    lost     lines on what could not be used
    """

    systems: Systems
    source: np.ndarray
    rows: Rows
    origin: str
    licence: str
    sha256: str
    findings: Sequence[str]
    lost: Sequence[str]
    left_out: int
    smiles: Sequence[str]

    def sizes(self) -> dict[str, int]:
        """Systems of each split that there is."""
        return {split: len(self.rows[split]) for split in SPLITS if len(self.rows.get(split, ()))}

    def counts(self) -> dict[str, dict[int, int]]:
        """Kind -> number of atoms -> training systems of so many, sizes ascending."""
        train = self.rows["train"]
        found = {}
        for kind, periodic in (("molecule", False), ("crystal", True)):
            sizes = self.systems.sizes[train[self.systems.periodic[train] == periodic]]
            if len(sizes):
                atoms, times = np.unique(sizes, return_counts=True)
                found[kind] = dict(zip(atoms.tolist(), times.tolist(), strict=True))
        return found

    def systems_of(self, split: str, kind: str) -> Sequence[System]:
        """The systems of a split that are molecules, or crystals; each is made when it is asked for."""
        return Chosen(self.systems, self._rows_of(split, kind))

    def smiles_of(self, split: str, kind: str) -> list[str]:
        """Of these systems."""
        return [self.smiles[row] for row in self._rows_of(split, kind).tolist()]

    def _rows_of(self, split: str, kind: str) -> np.ndarray:
        rows = self.rows.get(split, np.zeros(0, np.int64))
        return rows[self.systems.periodic[rows] == (kind == "crystal")]

    def digests(self, split: str) -> np.ndarray:
        """uint64 [n, 1] of a split's systems: of elements, places to 1e-3 Angstrom and lattice."""
        return _digests(self.systems, self.rows[split])[:, None]

    def kept_split(self) -> KeptSplit:
        """What a run on these systems keeps of its split."""
        names = self.systems.names
        splits = {}
        for split, rows in self.rows.items():
            own = [names[row] for row in rows.tolist()]
            splits[split] = Samples(own, self._contents(rows), [""] * len(own))
        return KeptSplit(splits)

    def in_split(self, kept: KeptSplit) -> SystemsData:
        """The same systems in the split that a run keeps; what isn't of it is in none."""
        found = kept.rows_among(
            self.systems.names, lambda row: (self._contents(np.array([row]))[0], "")
        )
        return replace(self, rows={split: np.array(rows) for split, rows in found.items() if rows})

    def _contents(self, rows: np.ndarray) -> list[str]:
        return [content_digest(one.tobytes()) for one in _digests(self.systems, rows)]


def _digests(systems: Systems, rows: np.ndarray) -> np.ndarray:
    """uint64 [n]; see SystemsData.digests."""
    contents = []
    for row in rows.tolist():
        atoms = slice(*systems.offsets[row : row + 2])
        places = np.round(systems.positions[atoms] * 1e3).astype(np.int64)
        cell = np.round(systems.lattices[row] * 1e3).astype(np.int64)
        contents.append(systems.numbers[atoms].tobytes() + places.tobytes() + cell.tobytes())
    return digests_of(contents)


def _equal(systems: Systems, rows: np.ndarray) -> np.ndarray | None:
    """[n] numbers, one for all systems that are equal atom for atom; None where no two are."""
    sums = np.concatenate([systems.numbers[:, None], np.round(systems.positions * 1e3)], 1)
    sums = np.add.reduceat(sums.astype(np.int64), systems.offsets[:-1])[rows]
    _, alike, times = np.unique(sums, axis=0, return_inverse=True, return_counts=True)
    doubtful = np.flatnonzero(times[alike.reshape(-1)] > 1)
    _, same = np.unique(_digests(systems, rows[doubtful]), return_inverse=True)
    if len(np.unique(same)) == len(doubtful):
        return None
    group = np.arange(len(rows))
    group[doubtful] = len(rows) + same.reshape(-1)
    return group


def read_data(config: SystemsConfig, elements: int) -> SystemsData:
    """The systems of every source, cleaned and split.

    elements   rows of the model's table of elements: what has others is left out

    Raises UserError for files that are missing or can't be read, and where nothing is left to learn from.
    """
    sources = [_read(name, config) for name in config.source]
    systems = join([one.systems for one in sources])
    source = np.repeat(np.arange(len(sources)), [len(one.systems) for one in sources])
    given = np.concatenate([one.split for one in sources])
    usable, lost = _usable(systems, config, elements)
    rows: dict[str, list[np.ndarray]] = {}
    for number in range(len(sources)):
        own = np.flatnonzero(usable & (source == number))
        for split, members in _split(systems, own, given, config).items():
            rows.setdefault(split, []).append(members)
    found = {split: np.concatenate(parts) for split, parts in rows.items()}
    origin = " and ".join(one.name for one in sources)
    if not len(found.get("train", ())):
        raise UserError(
            f"{origin}: no system is left to train on{'; ' if lost else ''}{'; '.join(lost)}"
        )
    return SystemsData(
        systems,
        source,
        found,
        origin,
        "; ".join(dict.fromkeys(one.licence for one in sources)),
        " ".join(one.sha256 for one in sources if one.sha256),
        [line for one in sources for line in one.findings],
        lost,
        int((~usable).sum()) + sum(one.unread for one in sources),
        [text for one in sources for text in (one.smiles or [""] * len(one.systems))],
    )


def _read(name: str, config: SystemsConfig) -> Source:
    if name == "qm9":
        systems, smiles = qm9_systems()
        official = config.split == "official"
        split = qm9_split(len(systems), config.split_seed) if official else _none(len(systems))
        return Source("QM9", systems, split, "CC0", smiles=smiles)
    if name == "prototypes":
        found = pack(prototypes())
        return Source("AFLOW prototypes", found, _none(len(found)), "MIT (pymatgen)")
    if name == "mp20":
        if config.root is None:
            raise UserError(
                "data.source = mp20 needs data.root, the folder of train.csv, val.csv and test.csv"
            )
        return _read_place(Path(config.root), "MP-20", "MIT (CDVAE)", config)
    if config.path is None:
        raise UserError(
            "data.source = file needs data.path, a file of molecules or crystals, or a folder of such files"
        )
    return _read_place(Path(config.path), Path(config.path).name, "unknown", config)


def _read_place(path: Path, name: str, licence: str, config: SystemsConfig) -> Source:
    """A file, a folder of one file a split, or one of any such files, as databases hand crystals out."""
    read = {split: read_systems(file) for split, file in _files_of_splits(path).items()}
    read = read or {"": read_systems(path)}
    systems = pack(one for records in read.values() for one in records.systems)
    split = np.repeat([*read], [len(records.systems) for records in read.values()]).astype("U5")
    if config.split == "random":
        split = _none(len(systems))
    findings = [line for records in read.values() for line in records.findings]
    digests = " ".join(one.sha256 for one in read.values())
    unread = sum(len(one.unread) for one in read.values())
    return Source(name, systems, split, licence, findings, digests, unread)


def _files_of_splits(path: Path) -> dict[str, Path]:
    """{split: file}; of a file alone {"": file}, and none of a folder without files of splits."""
    if not path.is_dir():
        return {"": path}
    return {split: file for split in SPLITS for file in _files_called(path, split)}


def _files_called(folder: Path, split: str) -> list[Path]:
    """The one file of a split."""
    names = {f"{split}{suffix}{zipped}" for suffix in KNOWN for zipped in ("", ".gz")}
    found = sorted(file for file in folder.iterdir() if file.name.lower() in names)
    if len(found) > 1:
        raise UserError(f"{folder}: has {found[0].name} and {found[1].name}; leave one of them")
    return found


def _none(n: int) -> np.ndarray:
    return np.full(n, "", "U5")


def _usable(systems: Systems, config: SystemsConfig, elements: int) -> tuple[np.ndarray, list[str]]:
    """([n] bool, lines on the others)."""
    too_large = systems.sizes > config.max_atoms
    heaviest = (
        np.maximum.reduceat(systems.numbers, systems.offsets[:-1])
        if len(systems)
        else systems.sizes
    )
    unknown = heaviest >= elements
    lines = []
    if too_large.any():
        lines.append(
            f"{count(int(too_large.sum()), 'system')} of more than {config.max_atoms} atoms left out (data.max_atoms)"
        )
    if unknown.any():
        lines.append(
            f"{count(int(unknown.sum()), 'system')} with elements beyond {elements - 1} left out (model.elements)"
        )
    return ~(too_large | unknown), lines


def _split(
    systems: Systems, rows: np.ndarray, given: np.ndarray, config: SystemsConfig
) -> Mapping[str, np.ndarray]:
    """{split: rows} of one source, equal systems in one split where it is drawn; to judge, at most data.judged."""
    drawn_here = len(rows) > 0 and not {"train", "val"} <= set(given[rows].tolist())
    drawn = split_rows(
        given[rows].astype(object),
        np.zeros(len(rows), np.int64),
        _equal(systems, rows) if drawn_here else None,
        seed=config.split_seed,
        test_fraction=config.test_fraction,
        val_fraction=config.val_fraction,
        torn_allowed=True,
    )
    found = {split: rows[members] for split, members in drawn.items()}
    for split in ("val", "test"):
        members = found.get(split, rows[:0])
        if config.judged is not None and len(members) > config.judged:
            rng = np.random.default_rng([config.split_seed, SPLITS.index(split)])
            found[split] = np.sort(rng.choice(members, config.judged, replace=False))
    return found
