"""Molecules that RDKit is never done with end a process beside this one; usual ones start none."""

import multiprocessing

import numpy as np
import pytest
from rdkit import Chem

from isoform.molecules.config import DataConfig
from isoform.molecules.data import fence, processes
from isoform.molecules.data.descriptors import compute
from isoform.molecules.data.featurise import Options, featurise_chunk
from isoform.molecules.data.parsing import canonical, parse_block, parse_smiles
from isoform.molecules.data.screen import Wanted, read_chunk

LONG = "takes RDKit more than 1 s"


def sheet(rows, columns, nitrogen=()):
    """Mol of aromatic rings fused like graphene's, without the atoms of one neighbour."""
    mol = Chem.RWMol()
    place = {}
    for row in range(rows):
        for column in range(columns):
            atom = Chem.Atom(6)
            atom.SetIsAromatic(True)
            place[row, column] = mol.AddAtom(atom)
    for row, column in place:
        for other in [(row, column + 1)] + [(row + 1, column)] * ((row + column) % 2 == 0):
            if other in place:
                mol.AddBond(place[row, column], place[other], Chem.BondType.AROMATIC)
    for atom in reversed(list(mol.GetAtoms())):
        if atom.GetDegree() == 1:
            mol.RemoveAtom(atom.GetIdx())
    for number in nitrogen:
        mol.GetAtomWithIdx(number).SetAtomicNum(7)
    return mol.GetMol()


def smiles_of(mol):
    return Chem.MolToSmiles(mol, canonical=False)


ENDLESS = smiles_of(sheet(14, 20, [7, 31, 60]))  # of 622 characters
RINGS = ".".join(["C1" + "C" * 21 + "C1"] * 80)  # read at once, described in minutes
FULLERENE = (
    "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2"
    "c2c7c3c3c8c4c4c9c5c1c1c6c2c3c41"
)


@pytest.fixture
def hasty(monkeypatch):
    """Patience of a second, nothing known of any molecule, and the workers that were started."""
    monkeypatch.setattr(fence, "SECONDS", 1.0)
    fence.fence.cache_clear()
    started = []
    monkeypatch.setattr(
        processes.subprocess,
        "Popen",
        lambda *args, real=processes.subprocess.Popen, **how: (
            started.append(1) or real(*args, **how)
        ),
    )
    yield started
    fence.fence.cache_clear()


def test_what_rdkit_is_never_done_with_is_named_once_and_the_rest_goes_on(hasty):
    assert parse_smiles(ENDLESS) == parse_smiles(ENDLESS) == LONG
    assert len(hasty) == 1  # the second time it was known
    assert parse_block(Chem.MolToMolBlock(sheet(14, 20, [7, 31, 60]), kekulize=False)) == LONG
    found = featurise_chunk(["CCO", ENDLESS, FULLERENE], Options(canonical=True, max_atoms=300))
    assert found.skipped == [(1, LONG)] and found.kept.tolist() == [0, 2]


def test_descriptors_that_take_for_ever_are_missing_and_the_molecule_stays(hasty):
    wanted = Wanted(DataConfig(path="x.csv", targets=(), max_atoms=2000), descriptors=True)
    found = read_chunk([("CCO", None), (RINGS, None), ("CCN", None)], wanted)
    assert found.kept.tolist() == [0, 1, 2]
    missing = np.isnan(found.descriptors)
    assert missing[1].all() and not missing[0].all()
    assert np.array_equal(found.descriptors[[0, 2]], compute(["CCO", "CCN"]), equal_nan=True)


def test_many_rings_that_are_done_give_what_rdkit_gives(hasty):
    mol = parse_smiles(FULLERENE)
    assert mol.GetNumAtoms() == 60 and len(hasty) == 1
    assert canonical(mol) == Chem.CanonSmiles(FULLERENE)
    assert not np.isnan(compute([FULLERENE])).all()


def test_usual_molecules_start_no_process(hasty):
    peptide = "N[C@@H](Cc1ccc(O)cc1)C(=O)" * 20 + "O"
    assert not any(isinstance(parse_smiles(text), str) for text in ("CCO", peptide))
    assert not np.isnan(compute([peptide])).all()
    assert hasty == []


def test_a_worker_that_is_ended_in_time_starts_none_of_its_own(hasty):
    processes.limited.set()
    try:
        assert fence.refused("smiles", ENDLESS) == "" and hasty == []
    finally:
        processes.limited.clear()


def test_a_fork_has_a_worker_of_its_own(hasty):
    assert not isinstance(parse_smiles(FULLERENE), str)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=lambda: answers.put(parse_smiles(ENDLESS)))
    child.start()
    assert answers.get(timeout=60) == LONG
    child.join()
    assert not isinstance(parse_smiles(FULLERENE + ".C"), str)
