"""Featurising against golden values, RDKit asked one atom at a time, and texts that are no molecules."""

import json
import os
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, RDLogger
from safetensors.numpy import load_file

from isoform.molecules.data.featurise import Graph, featurise, featurise_many
from isoform.molecules.data.graphs import OGB_BONDS

from .smiles import MOLECULES, broken

# Categories of each atom column, "misc" among them, in OGB's order; those of bonds are OGB_BONDS.
OGB_ATOMS = (119, 5, 12, 12, 10, 6, 6, 2, 2)


def same(a, b):
    return type(a) is type(b) and all(
        np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True)
    )


def place(value, known, other):
    return known.index(value) if value in known else other


def by_the_book(mol):
    """OGB's features by its published lists, one question at a time."""
    atoms = [
        (
            place(a.GetAtomicNum(), range(1, 119), 118),
            place(
                str(a.GetChiralTag()),
                ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER"),
                4,
            ),
            place(a.GetTotalDegree(), range(11), 11),
            place(a.GetFormalCharge(), range(-5, 6), 11),
            place(a.GetTotalNumHs(), range(9), 9),
            place(a.GetNumRadicalElectrons(), range(5), 5),
            place(str(a.GetHybridization()), ("SP", "SP2", "SP3", "SP3D", "SP3D2"), 5),
            int(a.GetIsAromatic()),
            int(a.IsInRing()),
        )
        for a in mol.GetAtoms()
    ]
    bonds, ends = [], []
    for b in mol.GetBonds():
        stereo = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
        row = (
            place(str(b.GetBondType()), ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"), 4),
            place(str(b.GetStereo()), stereo, 5),
            int(b.GetIsConjugated()),
        )
        i, j = b.GetBeginAtomIdx(), b.GetEndAtomIdx()
        bonds += [row, row]
        ends += [(i, j), (j, i)]
    return Graph(
        np.array(atoms, np.int16),
        np.array(bonds, np.int16).reshape(-1, 3),
        np.array(ends, np.int32).reshape(-1, 2),
    )


@pytest.mark.parametrize(
    "case", ["graphormer_preln", "graphormer_postln", "graphormer_attn_bias_twice"]
)
def test_golden_raw_features(golden_dir, case):
    path = golden_dir / "graphormer" / f"{case}.json"
    if not path.exists():
        pytest.skip(f"no stored case {path}")
    smiles, tensors = (
        json.loads(path.read_text())["smiles"],
        load_file(path.with_suffix(".safetensors")),
    )
    found = featurise_many(smiles)
    assert found.kept.tolist() == list(range(len(smiles)))
    for m in range(len(smiles)):
        atoms, bonds, ends = found.graphs.graph(m)
        assert np.array_equal(atoms, tensors[f"input/raw/{m}/atom_features"])
        assert np.array_equal(bonds, tensors[f"input/raw/{m}/bond_features"])
        assert np.array_equal(ends.T, tensors[f"input/raw/{m}/edge_index"])


@pytest.mark.parametrize("text", MOLECULES)
def test_features_by_the_book(text):
    assert same(featurise(text), by_the_book(Chem.MolFromSmiles(text)))
    assert same(featurise(text, explicit_h=True), by_the_book(Chem.AddHs(Chem.MolFromSmiles(text))))


def test_values_that_ogb_has_no_category_for():
    assert featurise("*").atoms[0].tolist() == [118, 0, 0, 5, 0, 0, 5, 0, 0]
    assert featurise("[Fe+7]").atoms[0, 3] == 11
    assert featurise("[Fe]" + "(C)" * 12).atoms[0, 2] == 11
    assert set(featurise("[NH3]->[Pt+2]").bonds[:, 0]) == {4}
    assert featurise("F[Pt@SP1](Cl)(Br)N").atoms[1, 1] == 4  # square planar


def test_isotopes_and_map_numbers_are_not_features():
    assert same(featurise("[13CH3:7]O"), featurise("CO"))


def test_chirality_can_be_left_out():
    left, right = (featurise(text) for text in ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"))
    assert not same(left, right)
    plain = [
        featurise(text, chirality=False)
        for text in ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O", "NC(C)C(=O)O")
    ]
    assert same(plain[0], plain[1]) and same(plain[1], plain[2])


CHIRAL = "C[C@H](N)C(=O)N1CCC[C@H]1C(=O)O/N=C/c1ccc(O)cc1"


def spellings(text, count):
    mol = Chem.MolFromSmiles(text)
    Chem.rdBase.SeedRandomNumberGenerator(11)
    return {Chem.MolToSmiles(mol, doRandom=True) for _ in range(count)}


def test_canonical_graphs_do_not_depend_on_the_spelling():
    many = spellings(CHIRAL, 20)
    assert len(many) > 15
    graphs = [featurise(text, canonical=True) for text in sorted(many)]
    assert all(same(graph, graphs[0]) for graph in graphs)
    assert not all(same(featurise(text), graphs[0]) for text in many)  # the test would miss nothing
    mapped = Chem.MolFromSmiles(CHIRAL)
    for atom in mapped.GetAtoms():
        atom.SetAtomMapNum(29 - atom.GetIdx())
    assert same(featurise(Chem.MolToSmiles(mapped), canonical=True), graphs[0])
    enantiomer = CHIRAL.replace("[C@H]", "[C@@H]")
    assert not same(featurise(enantiomer, canonical=True), graphs[0])


def test_mol_blocks_keep_their_stereo_chemistry():
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("N[C@@H](C)/C=C/Cl"))
    AllChem.EmbedMolecule(mol, randomSeed=5)
    for version in (Chem.MolToMolBlock(mol), Chem.MolToV3KMolBlock(mol)):
        found = featurise(version, canonical=True)
        assert same(found, featurise("N[C@@H](C)/C=C/Cl", canonical=True))
    assert len(featurise(Chem.MolToMolBlock(mol), explicit_h=True).atoms) == mol.GetNumAtoms()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("C(C", "parentheses"),
        ("C)C", "is no SMILES"),
        ("C1CC", "is no SMILES"),
        ("[CH4", "brackets"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5"),
        ("c1cccc1", "kekulize"),
        ("CC CC", "blank"),
        ("CCé", "character"),
        ("C\0C", "character"),
        ("CC>>CO", "reaction"),
        ("hello", "is no SMILES"),
        (None, "NoneType"),
        (float("nan"), "float"),
        ("C" * 257, "257 atoms, more than 256"),
        ("C\n\n\nnot a block\nM  END", "mol block"),
    ],
)
def test_what_is_wrong_is_said(text, why):
    assert why in featurise(text)


def test_molecules_at_the_limit():
    assert len(featurise("C" * 256).atoms) == 256
    assert len(featurise("C" * 11, max_atoms=11).atoms) == 11
    assert featurise("C" * 11, max_atoms=11, explicit_h=True) == "has 35 atoms, more than 11"


@pytest.mark.parametrize(
    "text", ["C" + "1" * 100_000, "C(" * 50_000 + ")" * 50_000, "C" * 1_000_000, "c" * 5000]
)
def test_texts_that_would_take_rdkit_hours_come_back_soon(text):
    start = time.process_time()
    assert isinstance(featurise(text), str)
    assert time.process_time() - start < 5


def test_atoms_bonded_all_to_all_come_back_soon():
    labels = {
        pair: number
        for number, pair in enumerate(
            ((i, j) for i in range(60) for j in range(i + 2, 60)), start=1
        )
    }
    rings = {i: [number for pair, number in labels.items() if i in pair] for i in range(60)}
    text = "".join("*" + "".join(f"%({number})" for number in rings[i]) for i in range(60))
    assert "rings" in featurise(text) or "longer" in featurise(text)


def test_the_log_of_rdkit_is_as_before(capfd):
    RDLogger.EnableLog("rdApp.error")
    featurise("C(C)(C)(C)(C)C")
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C(C)(C)(C)(C)C")
    assert "Explicit valence" in capfd.readouterr().err


def test_many_are_what_each_is():
    texts = [*MOLECULES, "C(", None, *reversed(MOLECULES)]
    found = featurise_many(texts)
    assert [number for number, _ in found.skipped] == [len(MOLECULES), len(MOLECULES) + 1]
    assert sorted([*found.kept, *(number for number, _ in found.skipped)]) == list(
        range(len(texts))
    )
    for row, number in enumerate(found.kept):
        assert same(Graph(*found.graphs.graph(row)), featurise(texts[number]))


def test_nothing_at_all_gives_empty_graphs():
    for texts in ([], ["C("]):
        found = featurise_many(texts)
        assert (
            len(found.graphs) == 0
            and found.graphs.atoms.shape == (0, 9)
            and found.graphs.bonds.shape == (0, 3)
        )


def consistent(found):
    """A graph whose features are categories and whose bonds join its atoms, or a reason in one line."""
    if isinstance(found, str):
        return 0 < len(found) < 300 and found.isprintable()
    atoms, bonds, ends = found
    return (
        len(atoms) > 0
        and ((atoms >= 0) & (atoms < OGB_ATOMS)).all()
        and ((bonds >= 0) & (bonds < OGB_BONDS)).all()
        and ((ends >= 0) & (ends < len(atoms))).all()
        and (ends[::2] == ends[1::2, ::-1]).all()
    )


@given(st.text())
def test_any_text_gives_a_graph_or_a_reason(text):
    assert consistent(featurise(text))


def test_mutated_molecules_give_a_graph_or_a_reason():
    # The full count: ISOFORM_FUZZ=100000 pytest tests/molecules/test_data_featurise.py -k mutated
    rng = random.Random(int(os.environ.get("ISOFORM_FUZZ_SEED", "3")))
    graphs = 0
    for number in range(int(os.environ.get("ISOFORM_FUZZ", "3000"))):
        text, canonical = broken(rng), number % 5 == 0
        start = time.process_time()
        found = featurise(text, canonical=canonical)
        assert time.process_time() - start < 5, ascii(text)
        assert consistent(found), ascii(text)
        graphs += not isinstance(found, str)
    assert 0.1 < graphs / (number + 1) < 0.9
