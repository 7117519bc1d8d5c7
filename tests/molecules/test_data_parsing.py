"""SMILES and mol blocks are untrusted text: a molecule or a reason, within limits, and nothing in the log."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from isoform.molecules.data.parsing import (
    MOST_TEXT,
    canonical,
    looks_like_smiles,
    parse_block,
    parse_smiles,
    quiet,
)

from .miniatures import SMILES, sd_record
from .smiles import MOLECULES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \t ", "is empty"),
        ("CCO ethanol", "holds a blank"),
        ("CCé", "holds the character '\\xe9', which no SMILES has"),
        ("C\0C", "holds the character '\\x00', which no SMILES has"),
        ("CC>>CC", "is a reaction"),
        ("CC(C", "is no SMILES: its parentheses don't match"),
        ("C[NH", "is no SMILES: its brackets don't match"),
        ("C1CC", "is no SMILES: unclosed ring"),
        ("[Xx]", "is no SMILES: syntax error at character 2"),
        ("c1cccc1", "Can't kekulize mol.  Unkekulized atoms: 0 1 2 3 4"),
        ("CN(C)(C)C", "Explicit valence for atom # 1 N, 4, is greater than permitted"),
        ("C" * (MOST_TEXT + 1), "is longer than 10,000 characters"),
        ("C" * 2001, "has 2001 atoms, more than 2000"),
    ],
)
def test_reasons_for_text_that_is_no_molecule(text, why):
    assert parse_smiles(text) == why


def test_extensions_and_surrounding_blanks_are_ignored():
    assert canonical(parse_smiles(" CCO |$a;b;c$| \n")) == "CCO"
    assert canonical(parse_smiles("C%(100)CC%(100)")) == "C1CC1"


@pytest.mark.parametrize(
    "text", ["*", "[2H]O[2H]", "[H][H]", "[H]", "[13CH4]", "[Na+].[Cl-]", "[C+9]", "[U]"]
)
def test_odd_molecules_are_molecules(text):
    assert parse_smiles(text).GetNumAtoms()


def test_limits_hold_before_rdkit_works_on_what_is_too_large():
    """A cage of 40 atoms, each bound to all others, would keep RDKit busy for half a minute."""
    bonds = list(itertools.combinations(range(40), 2))
    marks = {
        i: "".join(f"%({k})" for k, bond in enumerate(bonds, 100) if i in bond) for i in range(40)
    }
    text = ".".join(f"*{marks[i]}" for i in range(40))
    v2000 = f"\n\n\n 40{len(bonds)}  0  0  0  0  0  0  0  0999 V2000\n"
    v2000 += "".join("    0.0000    0.0000    0.0000 *   0  0\n" for _ in range(40))
    v2000 += "".join(f"{i + 1:3}{j + 1:3}  1  0\n" for i, j in bonds) + "M  END\n"
    v3000 = "\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\n"
    v3000 += f"M  V30 COUNTS 40 {len(bonds)} 0 0 0\nM  V30 BEGIN ATOM\n"
    v3000 += (
        "".join(f"M  V30 {i + 1} * 0 0 0 0\n" for i in range(40))
        + "M  V30 END ATOM\nM  V30 BEGIN BOND\n"
    )
    v3000 += "".join(f"M  V30 {k} 1 {i + 1} {j + 1}\n" for k, (i, j) in enumerate(bonds, 1))
    v3000 += "M  V30 END BOND\nM  V30 END CTAB\nM  END\n"
    began = time.process_time()
    assert (
        parse_smiles(text) == "has 780 rings, more than 200"
    )  # every bond is written as a closure here
    assert parse_block(v2000) == parse_block(v3000) == "has 741 rings, more than 200"
    assert time.process_time() - began < 1
    assert (
        parse_smiles("C(" * 500 + "C" + ")" * 500, max_atoms=100) == "has 501 atoms, more than 100"
    )


ELEMENTS = [Chem.GetPeriodicTable().GetElementSymbol(number) for number in range(1, 119)]
HYDROGENS = ["[H]", "[2H]", "[H+]", "[H:7]", "[3H-]"]


@pytest.mark.parametrize(
    "text", [*MOLECULES, ".".join(f"[{element}]" for element in ELEMENTS), ".".join(HYDROGENS)]
)
def test_atoms_are_counted_in_the_text_as_rdkit_counts_them(text):
    raw = Chem.MolFromSmiles(text, sanitize=False)
    heavy = sum(atom.GetAtomicNum() != 1 for atom in raw.GetAtoms())
    times = 48 // len(text) + 1  # short texts aren't looked at
    many, most = ".".join([text] * times), times * heavy - 1
    assert parse_smiles(many, most) == f"has {times * heavy} atoms, more than {most}"
    assert "more than" not in str(parse_smiles(many, times * raw.GetNumAtoms()))


def test_the_log_is_off_for_a_call_and_as_it_was_behind_it(capfd):
    parse_smiles("C1CC")
    with quiet(), quiet():
        Chem.MolFromSmiles("xx")
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("xx")
    assert "SMILES Parse Error" in capfd.readouterr().err
    rdBase.DisableLog("rdApp.error")
    try:
        parse_smiles("C1CC")
        Chem.MolFromSmiles("xx")
        assert capfd.readouterr().err == ""
    finally:
        rdBase.EnableLog("rdApp.error")


def test_canonical_smiles_do_not_depend_on_spelling_or_map_numbers():
    for text in (*SMILES, "C[C@@H](O)[C@H](N)c1ccc(F)cc1"):
        mol = parse_smiles(text)
        spellings = {Chem.MolToSmiles(mol, doRandom=True) for _ in range(11)}
        assert {canonical(parse_smiles(spelling)) for spelling in spellings} == {canonical(mol)}
    assert canonical(parse_smiles("[C@@H:3](F)(Cl)[CH2:1]Br")) == canonical(
        parse_smiles("[C@@H](F)(Cl)CBr")
    )
    assert canonical(parse_smiles("C[C@H](F)Cl")) != canonical(parse_smiles("C[C@@H](F)Cl"))
    assert canonical(parse_smiles("C[C@H](F)Cl"), stereo=False) == "CC(F)Cl"


def test_looks_like_smiles_refuses_numbers_and_words():
    assert all(map(looks_like_smiles, SMILES))
    assert not any(
        map(looks_like_smiles, ["", "1", "-1.5", "3,5", "Propanolol", "2024-01-01", "train", "yes"])
    )


def test_blocks_give_the_molecule_with_its_stereo_chemistry():
    for v3000 in (False, True):
        for text in SMILES:
            block = sd_record(text, v3000=v3000).partition("$$$$")[0]
            assert canonical(parse_block(block)) == canonical(parse_smiles(text)), text
    assert parse_block("") == "is no mol block that can be read"
    assert parse_block("a\0b") == "holds a NUL character"
    assert "longer" in parse_block("C" * (2**21 + 1))


def test_hydrogens_of_a_block_are_taken_up():
    assert parse_block(Chem.MolToMolBlock(Chem.AddHs(parse_smiles("CCO")))).GetNumAtoms() == 3


LETTERS = "CNOPSFIBrclnos123456789%()[]=#+-@/\\.*H:$~ >|"


@given(st.text(LETTERS, max_size=60) | st.text(max_size=30))
@settings(max_examples=400)
def test_no_text_crashes_the_parser(text):
    found = parse_smiles(text)
    assert (isinstance(found, str) and found) or found.GetNumAtoms() > 0


def test_mutated_smiles_give_a_molecule_or_a_reason():
    rng = random.Random(7)
    bad = 0
    for _ in range(2000):
        text = list(rng.choice(SMILES) + rng.choice(SMILES))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 2)] = rng.choice(LETTERS)
        found = parse_smiles("".join(text))
        bad += isinstance(found, str)
        assert not isinstance(found, str) or (found and "\n" not in found)
    assert 500 < bad < 1900  # both kinds were tried


@given(st.text(max_size=200) | st.integers(0, 2000))
@settings(max_examples=150)
def test_no_block_crashes_the_parser(change):
    block = sd_record("C[C@H](N)C(=O)O").partition("$$$$")[0]
    text = (
        change
        if isinstance(change, str)
        else block[: change % len(block)] + "9" + block[change % len(block) + 1 :]
    )
    found = parse_block(text)
    assert (isinstance(found, str) and found) or found.GetNumAtoms() > 0
