"""Molecules -> the integer features of the Open Graph Benchmark (its smiles2graph; Hu et al. 2020, arXiv:2005.00687).

n molecules, T atoms, U directed bonds.

What RDKit knows of a molecule has to be asked atom by atom; everything that follows is done for thousands of molecules
at once, so each question is one pass of C code over a molecule's atoms and its answers stay plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem

from isoform.molecules.data.graphs import concatenate, offsets_of
from isoform.molecules.data.parsing import canonical as canonical_smiles
from isoform.molecules.data.parsing import parse_block, parse_smiles, quiet
from isoform.molecules.data.processes import Processes
from isoform.molecules.data.records import PackedGraphs

MAX_ATOMS = (
    256  # of a molecule, unless told: it has 65,536 pairs, where a usual one of 25 atoms has 625
)

Mol = Chem.Mol
Question = Callable[[Any], int]


class Graph(NamedTuple):
    """One molecule: atoms int16 [N, 9], bonds int16 [E, 3], ends int32 [E, 2], as in records.PackedGraphs."""

    atoms: np.ndarray
    bonds: np.ndarray
    ends: np.ndarray


class Options(NamedTuple):
    """How molecules become graphs.

    chirality   False: the atoms' chirality tags are all 0
    canonical   RDKit's canonical SMILES is read instead of the text, so that the order of atoms and the sense of their
                tags depend on the molecule alone; atom map numbers play no part
    explicit_h  every hydrogen is an atom
    max_atoms   larger molecules are none
    """

    chirality: bool = True
    canonical: bool = False
    explicit_h: bool = False
    max_atoms: int = MAX_ATOMS


class Featurised(NamedTuple):
    """Graphs of the texts `kept` (int64, ascending), and of every other text its number and what is wrong with it."""

    graphs: PackedGraphs
    kept: np.ndarray
    skipped: list[tuple[int, str]]


def featurise(
    text: object,
    *,
    chirality: bool = True,
    canonical: bool = False,
    explicit_h: bool = False,
    max_atoms: int = MAX_ATOMS,
) -> Graph | str:
    """The graph of one SMILES or mol block, or what is wrong with it ("is no SMILES"); never raises. See `Options`.

    Salts are one graph of several pieces; an isotope of a heavy atom is not told apart, and [2H] is an atom of its own;
    a dummy atom counts as "misc". Values that OGB has no category for go to its "misc"; of bond stereo, where it has
    none, atropisomers go to "any".
    """
    found = featurise_chunk([text], Options(chirality, canonical, explicit_h, max_atoms))
    return found.skipped[0][1] if found.skipped else Graph(*found.graphs.graph(0))


def featurise_many(
    texts: Sequence[object],
    workers: int = 0,
    *,
    chirality: bool = True,
    canonical: bool = False,
    explicit_h: bool = False,
    max_atoms: int = MAX_ATOMS,
    progress: Callable[[int], None] | None = None,
) -> Featurised:
    """`featurise` for many texts, in their order.

    workers   processes of their own, which survive a text that RDKit crashes or hangs on: it is named, the rest goes
              on; 0: this process
    progress  called with the number of texts done since its last call
    """
    options = Options(chirality, canonical, explicit_h, max_atoms)
    starts = range(0, len(texts), CHUNK)
    chunks = [texts[start : start + CHUNK] for start in starts]
    if workers > 0 and chunks:
        with processes_for(min(workers, len(chunks)), options) as processes:
            return joined(_counted(zip(starts, processes.map(chunks), strict=True), progress))
    parts = (featurise_chunk(chunk, options) for chunk in chunks)
    return joined(_counted(zip(starts, parts, strict=True), progress))


def processes_for(workers: int, options: Options, **how: Any) -> Processes[Featurised]:
    """Processes that featurise."""
    module = "isoform.molecules.data.featurise_worker"
    return Processes(
        workers, module, tuple(options), _failed, lambda parts: joined(enumerate(parts)), **how
    )


def _failed(why: str) -> Featurised:
    return featurise_chunk([], Options())._replace(skipped=[(0, why)])


CHUNK = 1000  # texts at a time: about a tenth of a second


def _counted(
    parts: Iterable[tuple[int, Featurised]], progress: Callable[[int], None] | None
) -> Iterator[tuple[int, Featurised]]:
    for start, part in parts:
        yield start, part
        if progress is not None:
            progress(len(part.kept) + len(part.skipped))


def joined(parts: Iterable[tuple[int, Featurised]]) -> Featurised:
    """Consecutive parts as one; each comes with the number of its first text."""
    graphs, kept, skipped = [Answers().packed(True)], [np.zeros(0, np.int64)], []
    for start, part in parts:
        graphs.append(part.graphs)
        kept.append(part.kept + start)
        skipped += [(start + number, why) for number, why in part.skipped]
    return Featurised(concatenate(graphs), np.concatenate(kept), skipped)


def featurise_chunk(texts: Sequence[object], options: Options) -> Featurised:
    """`featurise_many` in this process and in one go."""
    answers, kept, skipped = Answers(), [], []
    with quiet():
        for number, text in enumerate(texts):
            mol = molecule_of(text, options)
            if isinstance(mol, str):
                skipped.append((number, mol))
            else:
                answers.add(mol, str(text))
                kept.append(number)
    return Featurised(answers.packed(options.chirality), np.array(kept, np.int64), skipped)


def molecule_of(text: object, options: Options) -> Mol | str:
    """The molecule whose atoms, in this order, become the graph of a SMILES or mol block, or why there is none."""
    if not isinstance(text, str):
        return f"is no text but {type(text).__name__}"
    mol = (parse_block if _is_block(text) else parse_smiles)(text, options.max_atoms)
    return mol if isinstance(mol, str) else arranged(mol, text, options)


def arranged(mol: Mol, text: str, options: Options) -> Mol | str:
    """The molecule that was parsed from `text` with atoms as `options` says, or why there is none."""
    try:
        if options.canonical and (again := canonical_smiles(mol)) != text:
            found = parse_smiles(again, options.max_atoms)
            if isinstance(found, str):
                return f"has a canonical SMILES that {found}"
            mol = found
        if options.explicit_h:
            mol = Chem.AddHs(mol)
    except (ValueError, RuntimeError) as error:
        return f"can't be worked with ({str(error).strip().partition(chr(10))[0][:160]})"
    n = mol.GetNumAtoms()
    return mol if n <= options.max_atoms else f"has {n} atoms, more than {options.max_atoms}"


def _is_block(text: str) -> bool:
    return "\n" in text and "M  END" in text


class Answers:
    """What RDKit says of every atom and bond, as flat lists of plain numbers."""

    def __init__(self) -> None:
        self.n_atoms: list[int] = []
        self.n_bonds: list[int] = []
        self.atoms: list[tuple[Question, list[int]]] = [(question, []) for question in _ATOM]
        self.bonds: list[tuple[Question, list[int]]] = [(question, []) for question in _BOND]

    def add(self, mol: Mol, text: str) -> None:
        """Asks about one molecule; where its text marks no stereo centre or bond, none need be asked about."""
        flat = _STEREO_MARKS.isdisjoint(text)
        n_atoms, n_bonds = mol.GetNumAtoms(), mol.GetNumBonds()
        self.n_atoms.append(n_atoms)
        self.n_bonds.append(n_bonds)
        atoms = list(map(mol.GetAtomWithIdx, range(n_atoms)))
        for question, answers in self.atoms:
            answers.extend(
                repeat(0, n_atoms) if flat and question is _TAG else map(question, atoms)
            )
        bonds = list(map(mol.GetBondWithIdx, range(n_bonds)))
        for question, answers in self.bonds:
            answers.extend(
                repeat(0, n_bonds) if flat and question is _BOND_STEREO else map(question, bonds)
            )

    def packed(self, chirality: bool) -> PackedGraphs:
        """The features of all that was added."""
        number, tag, charge, hydrogens, radicals, hybrid, aromatic, ring = (
            np.array(answers, np.int32) for _, answers in self.atoms
        )
        begin, end, kind, stereo, conjugated = (
            np.array(answers, np.int32) for _, answers in self.bonds
        )
        atom_offsets, bond_offsets = offsets_of(self.n_atoms), offsets_of(self.n_bonds)
        first = np.repeat(atom_offsets[:-1], self.n_bonds)  # of the molecule that a bond is in
        ends = np.stack([begin, end, end, begin], 1).reshape(-1, 2)
        # Neighbours and hydrogens that are no atoms of the graph: what RDKit calls the total degree.
        degree = (
            np.bincount(np.concatenate([begin + first, end + first]), minlength=len(number))
            + hydrogens
        )
        atoms = np.empty((len(number), 9), np.int16)
        atoms[:, 0] = np.where((number >= 1) & (number <= 118), number - 1, 118)
        atoms[:, 1] = _CHIRALITY[tag] if chirality else 0
        atoms[:, 2] = np.minimum(degree, 11)
        atoms[:, 3] = np.where(np.abs(charge) <= 5, charge + 5, 11)
        atoms[:, 4] = np.minimum(hydrogens, 9)
        atoms[:, 5] = np.minimum(radicals, 5)
        atoms[:, 6] = _HYBRIDISATION[hybrid]
        atoms[:, 7] = aromatic
        atoms[:, 8] = ring
        bonds = (
            np.stack([_BOND_TYPE[kind], _STEREO[stereo], conjugated], 1)
            .astype(np.int16)
            .repeat(2, axis=0)
        )
        return PackedGraphs(atoms, bonds, ends, atom_offsets, 2 * bond_offsets)


_STEREO_MARKS = frozenset("@/\\\n")  # those of a SMILES, and of a mol block its lines
_TAG: Question = Chem.Atom.GetChiralTag
_BOND_STEREO: Question = Chem.Bond.GetStereo
_ATOM: tuple[Question, ...] = (
    Chem.Atom.GetAtomicNum, _TAG, Chem.Atom.GetFormalCharge, Chem.Atom.GetTotalNumHs,
    Chem.Atom.GetNumRadicalElectrons, Chem.Atom.GetHybridization, Chem.Atom.GetIsAromatic, Chem.Atom.IsInRing,
)  # fmt: skip
_BOND: tuple[Question, ...] = (
    Chem.Bond.GetBeginAtomIdx, Chem.Bond.GetEndAtomIdx, Chem.Bond.GetBondType, _BOND_STEREO,
    Chem.Bond.GetIsConjugated,
)  # fmt: skip


def _index(names: Any, known: Sequence[str], other: int) -> np.ndarray:
    """RDKit's number of a category -> its place in OGB's list."""
    table = np.full(max(map(int, names.values())) + 1, other, np.int16)
    for name, value in names.items():
        if name in known:
            table[int(value)] = known.index(name)
    return table


_CHIRALITY = _index(
    Chem.ChiralType.names,
    ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER"),
    4,
)
_HYBRIDISATION = _index(Chem.HybridizationType.names, ("SP", "SP2", "SP3", "SP3D", "SP3D2"), 5)
_BOND_TYPE = _index(Chem.BondType.names, ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"), 4)
_STEREO = _index(
    Chem.BondStereo.names,
    ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY"), 5,
)  # fmt: skip
