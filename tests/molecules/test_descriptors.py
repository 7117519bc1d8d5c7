"""Descriptors: RDKit's own numbers, in one process or several, kept on disk, and their normaliser."""

import json
import sys

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.molecules.data import descriptors as D
from isoform.molecules.data.descriptors import NAMES, Normaliser, compute, descriptors
from isoform.molecules.data.featurise import featurise

from .smiles import MOLECULES

TEXTS = [
    "CCO",
    "c1ccccc1C(=O)N",
    "C[N+](C)(C)CC([O-])=O",
    "Clc1ccc2ncccc2c1",
    "[Na+].[Cl-]",
    "OC1CC2CC1CC2",
]

# A worker whose RDKit dies of one text.
WORKER = """
import os, sys
from isoform.molecules.data import descriptors

real = descriptors.compute

def fragile(texts):
    if "CRASH" in texts:
        os.abort()
    return real(texts)

descriptors.compute = fragile
descriptors.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


def test_they_are_what_rdkit_gives():
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    listed = dict(Descriptors.descList)
    assert len(set(NAMES)) == len(NAMES) and set(NAMES) <= set(listed)
    found = compute(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), len(NAMES))
    for row, text in enumerate(TEXTS):
        expected = np.array([listed[name](Chem.MolFromSmiles(text)) for name in NAMES], float)
        expected[~np.isfinite(expected)] = np.nan
        np.testing.assert_allclose(found[row], expected, rtol=1e-6, atol=1e-6, err_msg=text)


def test_by_hand():
    ethanol = dict(zip(NAMES, compute(["CCO"])[0], strict=True))
    assert ethanol["MolWt"] == pytest.approx(46.069) and ethanol["HeavyAtomCount"] == 3
    assert (
        ethanol["NumHDonors"] == ethanol["NumHAcceptors"] == ethanol["fr_Al_OH"] == 1
        and ethanol["RingCount"] == 0
    )


@pytest.mark.parametrize("pair", [("CCO", "[13CH3]CO"), ("CCO", "CC[18OH]"), ("CCCl", "CC[37Cl]")])
def test_of_a_heavy_isotope_masses_alone_know(pair):
    plain, heavy = compute(list(pair))
    seen = [
        name
        for name, a, b in zip(NAMES, plain, heavy, strict=True)
        if not np.isclose(a, b, equal_nan=True)
    ]
    masses = ["MolWt", "HeavyAtomMolWt", "ExactMolWt"]
    assert sorted(seen) == sorted(["BCUT2D_MWHI", "BCUT2D_MWLOW", *masses])
    one, other = (featurise(text) for text in pair)
    np.testing.assert_array_equal(one.atoms, other.atoms)


def test_deuterium_is_an_atom_of_the_graph():
    spelled = ("CC(=O)O", "[2H]C([2H])([2H])C(=O)O", "[H]C([H])([H])C(=O)O")
    assert [len(featurise(text).atoms) for text in spelled] == [4, 7, 4]


def test_what_cannot_be_computed_is_missing():
    found = compute(["C(", "CCO", "", "[Pt]", "[U+6]"])
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    assert not np.isinf(found).any() and found[3, NAMES.index("MolWt")] == pytest.approx(
        195.08, abs=0.01
    )
    assert descriptors([]).shape == (0, len(NAMES))


def test_workers_give_what_one_process_gives(monkeypatch, tmp_path):
    texts = [*MOLECULES[:23], "C("]
    monkeypatch.setattr(D, "CHUNK", 7)
    np.testing.assert_array_equal(descriptors(texts, workers=2), compute(texts))


def test_a_crash_costs_one_molecule():
    with D.processes_for(1, command=(sys.executable, "-c", WORKER)) as processes:
        found = np.concatenate(list(processes.map([["CCO", "CRASH", "C"]])))
    assert np.isnan(found).all(1).tolist() == [False, True, False]
    np.testing.assert_array_equal(found[[0, 2]], compute(["CCO", "C"]))


def test_they_are_kept_and_a_damaged_file_is_made_again(tmp_path, monkeypatch):
    first = descriptors(TEXTS, str(tmp_path))
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(D, "compute", lambda texts: pytest.fail("worked out again"))
        np.testing.assert_array_equal(descriptors(TEXTS, str(tmp_path)), first)
    kept.write_bytes(kept.read_bytes()[:-3])
    np.testing.assert_array_equal(descriptors(TEXTS, str(tmp_path)), first)
    assert (
        len(descriptors(TEXTS[::-1], str(tmp_path))) == len(TEXTS)
        and len(list(tmp_path.iterdir())) == 2
    )


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"choose another data\.cache"):
        descriptors(TEXTS, str(tmp_path / "file"))


def table(n=211):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 5)) * [1, 1e6, 1, 1, 1] + [0, 5e6, 0, 0, 3]
    values[:, 2] = 4.0  # alike for all
    values[:, 3] = np.nan  # never there
    values[rng.random(n) < 0.2, 4] = np.nan
    return values.astype(np.float32)


def test_training_molecules_have_unit_size():
    values = table()
    normal = Normaliser.fitted(values)
    found = normal(values)
    assert found.dtype == np.float32 and normal.count == 5
    np.testing.assert_allclose(found[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found[:, :2].std(0), 1, atol=1e-5)
    assert (found[:, 2:4] == 0).all() and (found[np.isnan(values[:, 4]), 4] == 0).all()
    there = found[~np.isnan(values[:, 4]), 4]
    assert there.mean() == pytest.approx(0, abs=1e-5) and there.std() == pytest.approx(1, abs=1e-5)


def test_other_molecules_stay_within_the_training_range():
    values = table()
    normal = Normaliser.fitted(values)
    wild = np.array([[1e30, -1e30, 9, 7, np.nan], [-1e30, 1e30, -9, -7, 1e30]], np.float32)
    found = normal(wild)
    assert (
        np.isfinite(found).all()
        and (abs(found) <= Normaliser.LIMIT).all()
        and (found[:, 2:4] == 0).all()
    )
    inside = normal(values)
    assert found[0, 0] == pytest.approx(inside[:, 0].max()) and found[0, 1] == pytest.approx(
        inside[:, 1].min()
    )


def test_it_survives_json_bit_for_bit():
    values = table()
    normal = Normaliser.fitted(values)
    again = Normaliser.from_json(json.loads(json.dumps(normal.to_json())))
    np.testing.assert_array_equal(again(values), normal(values))


@pytest.mark.parametrize(
    "text",
    [*MOLECULES[31:83:3], "[Pt]", "[U+6]", "[H][H]", "[2H]C([2H])([2H])O", "C1CC1", "CC1CCC1C1CC1", "*CCO",
     "[Na+].[O-]C(=O)c1ccccc1", "F[P-](F)(F)(F)(F)F.[Li+]", "C", "C#N", "N->[Pt]", "[O-][Cl+3]([O-])([O-])[O-]"],
)  # fmt: skip
def test_what_families_share_changes_no_bit(text):
    """Each number is, to the last bit, what RDKit's own function of that name gives of a fresh molecule."""
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    def asked(name):
        try:
            return getattr(Descriptors, name)(Chem.MolFromSmiles(text))
        except D._ERRORS:
            return np.nan

    with np.errstate(all="ignore"):
        expected = np.array([asked(name) for name in NAMES], float)
        expected[~np.isfinite(expected)] = np.nan
        np.testing.assert_array_equal(compute([text])[0], expected.astype(np.float32))
