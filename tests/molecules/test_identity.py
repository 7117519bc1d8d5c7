"""Which rows are one molecule where canonical SMILES don't tell, and what a graph can't hold of a molecule."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from isoform.molecules import DOMAIN
from isoform.molecules.data.clean import clean, clean_and_split, compare
from isoform.molecules.data.duplicates import identities, leaks
from isoform.molecules.data.parsing import canonical, has_stereo_groups, inchikey, parse_smiles
from isoform.molecules.data.splits import split_rows
from isoform.molecules.data.standardise import standardise

from .miniatures import case, data, refusal, write
from .smiles import MOLECULES
from .test_data_standardise import table

# Two spellings of one molecule that RDKit's canonical form leaves apart, and tautomers of mobile hydrogens.
APART = (
    ("O=C(c1ccccc1C(=O)N1C(=O)c2ccccc2C1=O)N1C(=O)c2ccccc2C1=O",
     "O=C1c2ccccc2C(=O)N1C(=O)c1ccccc1C(=O)N1C(=O)c2ccccc2C1=O"),
    ("Cc1c[nH]cn1", "Cc1cnc[nH]1"),
    ("Oc1ccccn1", "O=c1cccc[nH]1"),
    ("NCC(=O)O", "[NH3+]CC(=O)[O-]"),
)  # fmt: skip
# Molecules that are two although they are alike.
TWO = (
    ("C[C@H](F)Cl", "C[C@@H](F)Cl"), ("CC(=O)O", "CC(=O)[O-]"), ("F/C=C/F", "F/C=C\\F"), ("C", "[13CH4]"),
    ("N[Pt@SP1](N)(Cl)Cl", "N[Pt@SP2](N)(Cl)Cl"), ("*C", "*CC"), ("CCO", "COC"),
)  # fmt: skip


def key(text):
    mol = parse_smiles(text)
    return inchikey(mol, canonical(mol))


def test_two_spellings_of_one_inchikey_are_one_molecule_with_a_conflict():
    report = DOMAIN.check(DOMAIN.app_of_path(case("M9_phthalimide.csv")))
    assert report.data["duplicates"] == [["line 2", "line 3"]] == report.data["conflicting_labels"]
    assert report.data["molecules"] == 12 and report.data["leaks"] == []
    assert any('"y" 2 to 2.5 (line 2, line 3)' in line for line in report.lines)


@pytest.mark.parametrize("pair", APART)
def test_spellings_of_one_inchikey_merge_keep_together_and_leak(pair):
    source = table(
        "CCCCC", pair[0], "CCCCCC", pair[1], targets=np.array([[1.0], [2], [3], [5]]),
        target_names=["y"], units=[""],
    )  # fmt: skip
    parsed = compare(source, data())
    assert len(set(parsed.keys)) == 4, "the pair should be one that canonical SMILES leave apart"
    assert identities(parsed).tolist() == [0, 1, 2, 1]
    merged = clean(source, data())
    assert merged.targets[:, 0].tolist() == [1, 3.5, 3] and len(merged.skipped) == 1
    assert any(
        "1 of them has several canonical SMILES and one InChIKey" in f for f in merged.findings
    )
    given = np.array(["train", "train", "val", "test"], dtype=object)
    torn = table(
        *source.smiles, targets=source.targets, target_names=["y"], units=[""], split=given
    )
    said = refusal(clean_and_split, torn, data(split="given"))
    assert "is in train (line 3) and in test (line 5, as " in said and "InChIKey" in said
    parsed = standardise(torn, data())
    assert leaks(parsed, {"train": np.array([0, 1]), "test": np.array([3])}) == [
        [("train", 1), ("test", 3)]
    ]


@pytest.mark.parametrize("pair", APART)
@pytest.mark.parametrize("split", ["random", "scaffold", "cluster"])
def test_kept_duplicates_of_one_inchikey_share_a_split(pair, split):
    settings = data(split=split, duplicates="keep", val_fraction=0.3, test_fraction=0.3)
    for seed in range(5):
        texts = [*MOLECULES[:14], *pair]
        random.Random(seed).shuffle(texts)
        parsed = standardise(
            table(*texts, targets=np.arange(16.0)[:, None], target_names=["y"], units=[""]),
            settings,
        )
        part = {
            row: name
            for name, rows in split_rows(parsed, settings).items()
            for row in rows.tolist()
        }
        assert part[texts.index(pair[0])] == part[texts.index(pair[1])]


@pytest.mark.parametrize("pair", TWO)
def test_what_is_two_molecules_stays_two(pair):
    parsed = standardise(table(*pair), data())
    assert identities(parsed).tolist() == [0, 1]


@given(st.sampled_from(MOLECULES), st.integers(0, 2**31))
def test_an_inchikey_does_not_depend_on_the_spelling(text, seed):
    mol = parse_smiles(text)
    order = list(range(mol.GetNumAtoms()))
    random.Random(seed).shuffle(order)
    spelled = Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)
    assert key(spelled) == key(text)


def test_what_has_no_inchikey_is_compared_by_its_smiles():
    assert key("*CC") == "" and key("N[Pt@SP1](N)(Cl)Cl") == ""
    assert identities(standardise(table("*CC", "CC*", "*CO"), data())).tolist() == [0, 0, 1]


def test_stereo_groups_are_counted_and_said(tmp_path):
    report = DOMAIN.check(DOMAIN.app_of_path(case("enhanced_stereo.smi")))
    assert any("1 molecule is marked as a racemate" in line for line in report.lines)
    rows = [f"{smiles},{k}.5" for k, smiles in enumerate(MOLECULES[:11])]
    rows += [
        "C[C@H](N)C(=O)OC |o1:1|,20.5",
        "C[C@@H](O)CCl |&1:1|,21.5",
        "C[C@@H](O)CBr |a:1|,22.5",
    ]
    path = write(tmp_path / "a.csv", "smiles,y\n" + "\n".join(rows) + "\n")
    said = [line for line in DOMAIN.check(DOMAIN.app_of_path(path)).lines if "racemate" in line]
    assert len(said) == 1
    assert said[0].startswith("2 molecules are marked") and "(line 13, line 14)" in said[0]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("F[C@H](Cl)NC |&1:1|", True), ("C[C@H](F)[C@H](F)C |o1:1,3,r|", True), ("CC[C@H](F)O |a:2|", False),
        ("CCO", False), ("F[C@H](Cl)NC |(0,0,;1,0,),&1:1|", True), ("CCO |$;;R1$|", False),
    ],
)  # fmt: skip
def test_marks_of_stereo_groups(text, marked):
    assert has_stereo_groups(text) is marked


@pytest.mark.parametrize(
    ("kind", "marked"), [("STERAC1", True), ("STEREL2", True), ("STEABS", False)]
)
def test_marks_of_stereo_groups_in_v3000_blocks(kind, marked):
    assert has_stereo_groups("", f"M  V30 MDLV30/{kind} ATOMS=(1 2)\nM  END\n") is marked
