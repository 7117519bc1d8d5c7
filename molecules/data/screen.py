"""Molecules to predict on, each parsed once: canonical SMILES, graph and what else is wanted, all from that molecule.

n molecules asked about, m of them read, F descriptors.

Reading takes ten times as long as the model does, so many molecules are read in processes of their own, a few chunks
ahead of whoever consumes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from isoform.molecules.config import DataConfig
from isoform.molecules.data.cache import processors
from isoform.molecules.data.descriptors import compute_of
from isoform.molecules.data.featurise import Answers, Mol, Options, arranged
from isoform.molecules.data.graphs import concatenate
from isoform.molecules.data.parsing import canonical, parse_smiles, quiet
from isoform.molecules.data.processes import Processes
from isoform.molecules.data.records import PackedGraphs
from isoform.molecules.data.standardise import Standardiser
from isoform.molecules.nearest import PACKED, fingerprint

MANY = 1000  # molecules: from here on processes of their own save more time than they take to start
CHUNK = 128  # molecules that a process is asked about at a time
BLOCK = 1024  # molecules that are handed on together; CHUNK divides it

Text = tuple[str, str | None]  # SMILES, and its mol block where there is one


class Wanted(NamedTuple):
    """What is made of every molecule.

    data          how it is cleaned and becomes a graph, as in training
    descriptors   RDKit's
    fingerprints  those that nearest.py compares
    """

    data: DataConfig
    descriptors: bool = False
    fingerprints: bool = False


class Screened(NamedTuple):
    """Molecules `kept` (int64 [m], ascending) of those asked about; of every other its number and what is wrong.

    smiles        canonical SMILES [m]
    graphs        of m molecules
    descriptors   float32 [m, F], NaN where RDKit can't compute one; [m, 0] where not wanted
    fingerprints  uint8 [m, PACKED]; [m, 0] where not wanted
    """

    kept: np.ndarray
    skipped: list[tuple[int, str]]
    smiles: list[str]
    graphs: PackedGraphs
    descriptors: np.ndarray
    fingerprints: np.ndarray

    @property
    def asked(self) -> int:
        """How many molecules were asked about."""
        return len(self.kept) + len(self.skipped)


def screen(
    texts: Sequence[Text], wanted: Wanted, *, workers: int | None = None, **how: Any
) -> Iterator[Screened]:
    """Blocks of BLOCK molecules in their order; close it to end its processes early.

    workers  processes, which survive a molecule that RDKit crashes or hangs on: it is named, the rest goes on;
             0: this process; by the number of molecules and processors if None
    how      passed on to `Processes`
    """
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    if workers is None:
        workers = processors() if len(texts) >= MANY else 0
    if not workers:
        yield from _blocks(read_chunk(chunk, wanted) for chunk in chunks)
        return
    with processes_for(min(workers, len(chunks)), wanted, **how) as processes:
        yield from _blocks(processes.map(chunks))


def processes_for(workers: int, wanted: Wanted, **how: Any) -> Processes[Screened]:
    """Processes that read molecules."""

    def failed(why: str) -> Screened:
        return read_chunk([], wanted)._replace(skipped=[(0, why)])

    module = "isoform.molecules.data.screen_worker"
    return Processes(workers, module, wanted, failed, _joined, **how)


def _blocks(parts: Iterator[Screened]) -> Iterator[Screened]:
    while some := list(islice(parts, BLOCK // CHUNK)):
        yield _joined(some)


def read_chunk(texts: Sequence[Text], wanted: Wanted) -> Screened:
    """Some molecules, in this process and in one go."""
    clean, answers = Standardiser(wanted.data), Answers()
    kept, skipped, read = [], [], []
    with quiet():
        for number, (smiles, block) in enumerate(texts):
            found = _read(smiles, block, wanted.data, clean)
            if isinstance(found, str):
                skipped.append((number, found))
                continue
            answers.add(found.graph, found.text)
            kept.append(number)
            read.append(found)
    prints = [fingerprint(one.plain) for one in read] if wanted.fingerprints else []
    mols = [one.described for one in read]
    return Screened(
        np.array(kept, np.int64),
        skipped,
        [one.smiles for one in read],
        answers.packed(wanted.data.chirality),
        compute_of(mols) if wanted.descriptors else np.zeros((len(read), 0), np.float32),
        np.array(prints, np.uint8).reshape(len(read), PACKED if wanted.fingerprints else 0),
    )


class _One(NamedTuple):
    """A molecule read: its canonical SMILES, what becomes the graph and the text of that, and what is described."""

    smiles: str
    text: str
    graph: Mol
    plain: Mol
    described: Mol | str


def _read(smiles: str, block: str | None, data: DataConfig, clean: Standardiser) -> _One | str:
    """The molecule, or why there is none."""
    mol = clean.read(smiles, block)
    if isinstance(mol, str):
        return mol
    key, text = canonical(mol), block or smiles
    if clean.steps or data.canonical:
        text, block = key, None
        mol = parse_smiles(key, data.max_atoms)
        if isinstance(mol, str):
            return mol
    options = Options(data.chirality, data.canonical, data.hydrogens, data.max_atoms)
    graph = arranged(mol, text, options)
    if isinstance(graph, str):
        return graph
    # RDKit's numbers of a mol block are those of its SMILES, as in training.
    return _One(key, text, graph, mol, mol if block is None else parse_smiles(key))


def _joined(parts: Sequence[Screened]) -> Screened:
    """Consecutive parts as one."""
    starts = np.cumsum([0, *(part.asked for part in parts)])[:-1].tolist()
    return Screened(
        np.concatenate([part.kept + start for part, start in zip(parts, starts, strict=True)]),
        [
            (start + number, why)
            for part, start in zip(parts, starts, strict=True)
            for number, why in part.skipped
        ],
        [smiles for part in parts for smiles in part.smiles],
        concatenate([part.graphs for part in parts]),
        np.concatenate([part.descriptors for part in parts]),
        np.concatenate([part.fingerprints for part in parts]),
    )
