"""Measures of generated systems: each against a value worked out by hand, and each able to fail."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from isoform.molecules.generation.measure import Measure, measure, shuffled, table
from isoform.molecules.generation.molecules import (
    bond_angles,
    bond_lengths,
    judge,
    molecule_measures,
    shape_distance,
)
from isoform.molecules.generation.reconstruction import reconstruction_measures, rmsd
from isoform.molecules.systems.augment import augment, random_rotation, rotated
from isoform.molecules.systems.bonds import Undetermined, bonded, smiles_of
from isoform.molecules.systems.system import Records, Unread, crystal, molecule
from small_systems import relaxed, salt, triclinic


def test_undetermined_is_not_bad() -> None:
    found = measure([True, False, None, True], 7)
    assert found == Measure(pytest.approx(2 / 3), 3, 4, 7)
    assert found.of_all() == pytest.approx(2 / 7)
    answered = measure([True, None, False, True], 7).of_answered()
    assert answered == pytest.approx(2 / 6), "three of no system fail, the undetermined one doesn't"
    assert measure([None], 1).of_answered() is None and measure([], 2).of_answered() == 0
    assert str(measure([], 2)) == "- (0/0/2)" and measure([], 2).of_all() == 0
    text = table({"a": {"x": found}, "b": {"y": measure([1.0])}})
    assert text.splitlines()[2:] == ["| a | 0.6667 (3/4/7) |  |", "| b |  | 1 (1/1/1) |"]


def test_the_floor_keeps_places_and_the_count_of_elements() -> None:
    systems = [salt(), triclinic(), salt(4.2, (12, 8))]
    floor = shuffled(systems, 3)
    before = np.concatenate([one.numbers for one in systems])
    after = np.concatenate([one.numbers for one in floor])
    assert (np.sort(before) == np.sort(after)).all() and (before != after).any()
    for one, other in zip(systems, floor, strict=True):
        assert (one.positions == other.positions).all() and len(one) == len(other)


@pytest.mark.parametrize("smiles", ["CC(N)C(=O)O", "c1ccc2[nH]ccc2c1", "CC#N", "O", "N#N"])
def test_bonds_come_back_from_coordinates(smiles: str) -> None:
    from rdkit import Chem

    plain = Chem.MolToSmiles(Chem.MolFromSmiles(smiles))
    system = relaxed(smiles)
    found = smiles_of(bonded(augment(system, np.random.default_rng((1, 0, 5)))))
    assert Chem.MolToSmiles(Chem.MolFromSmiles(found), isomericSmiles=False) == plain
    order = np.random.default_rng(0).permutation(len(system))
    permuted = molecule(system.numbers[order], system.positions[order])
    assert smiles_of(bonded(permuted)) == found


def test_the_rule_of_proximity_is_more_lenient() -> None:
    """No bond orders fit C=C=C without one of its hydrogens, but single bonds do."""
    allene = relaxed("C=C=C")
    poor = molecule(allene.numbers[:-1], allene.positions[:-1])
    assert judge(poor).whole is False and judge(poor).reason
    assert judge(poor, "proximity").whole is True


def test_what_is_too_large_is_undetermined() -> None:
    many = np.stack([np.arange(401) * 1.5, np.zeros(401), np.zeros(401)], 1)
    chain = molecule(np.full(401, 6), many)
    with pytest.raises(Undetermined):
        bonded(chain)
    found = molecule_measures(Records([chain, relaxed("O"), Unread("x", "y")]), ())
    assert str(found["valid"]) == "1 (1/2/3)"


def test_lengths_alone_give_the_published_stability() -> None:
    methane = molecule(
        np.array([6, 1, 1, 1, 1]),
        1.09 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    )
    assert judge(methane).lengths == [True] * 5
    stretched = molecule(methane.numbers, methane.positions * [1, 1, 1.5])
    assert not any(judge(stretched).lengths or [True])
    silane = relaxed("[SiH4]")
    assert judge(silane).lengths is None


def test_uniqueness_novelty_and_what_all_of_it_leaves() -> None:
    water, methanol = relaxed("O"), relaxed("CO")
    found = molecule_measures(Records([water, water, methanol, Unread("x", "y")]), {"O"})
    assert str(found["unique"]) == "0.6667 (3/3/4)" and str(found["novel"]) == "0.3333 (3/3/4)"
    assert str(found["valid_unique_novel"]) == "0.3333 (3/3/4)"


def test_shapes_of_bonds_and_angles() -> None:
    mols = [judge(relaxed(smiles)).mol for smiles in ("O", "CC=O")]
    lengths = bond_lengths(mol for mol in mols if mol is not None)
    assert set(lengths) == {"H-O", "C-C", "C=O", "C-H"} and len(lengths["C-H"]) == 4
    assert lengths["C=O"][0] == pytest.approx(1.22, abs=0.03)
    angles = bond_angles(mol for mol in mols if mol is not None)
    assert angles["H-O-H"][0] == pytest.approx(104, abs=2)
    longer = {kind: values + 0.1 for kind, values in lengths.items() if kind != "C=O"}
    found = shape_distance(longer, lengths)
    assert found == Measure(pytest.approx(0.1), 7, 8, 8)


def test_kabsch_finds_the_rotation_but_no_reflection() -> None:
    random = np.random.default_rng(2)
    points = random.normal(size=(7, 3))
    turned = points @ random_rotation(random).T + [3, -1, 2]
    assert rmsd(turned, points) == pytest.approx(0, abs=1e-6)
    assert rmsd(turned * [1, 1, -1], points) > 0.3
    assert rmsd(points[:1], points[1:2]) == 0
    noise = 1e-3 * random.normal(size=(7, 3))
    assert 0 < rmsd(turned + noise, points) <= np.sqrt((noise**2).sum() / 7)


def test_reconstruction_of_molecules() -> None:
    truth = [relaxed("CC(N)C(=O)O"), relaxed("O")]
    made = [
        augment(truth[0], np.random.default_rng((0, 0, 1))),
        molecule(np.array([8, 1, 9]), truth[1].positions),
    ]
    found = reconstruction_measures(made, truth)
    assert found["types"] == Measure(pytest.approx(15 / 16), 16, 16, 16)
    assert found["rmsd"].value == pytest.approx(0, abs=1e-6) and found["rmsd"].scored == 2
    with pytest.raises(ValueError, match="3 atoms of a molecule for 8 of a crystal"):
        reconstruction_measures([truth[1]], [salt()])


def test_reconstruction_of_crystals() -> None:
    pytest.importorskip("pymatgen.core")
    pytest.importorskip("ase")
    truth = [triclinic(), salt()]
    exact = reconstruction_measures(
        [augment(one, np.random.default_rng((0, 0, 3))) for one in truth], truth
    )
    assert exact["displacement"].value == pytest.approx(0, abs=1e-6)
    assert exact["lengths"].value == pytest.approx(0, abs=1e-9)
    assert exact["matched (loose)"].value == 1
    longer = [crystal(one.numbers, one.fractional, one.lattice * 1.1) for one in truth]
    found = reconstruction_measures(longer, truth)
    mean = np.mean([one.cell()[:3].mean() for one in truth])
    assert found["lengths"].value == pytest.approx(0.1 * mean)
    assert found["angles"].value == pytest.approx(0, abs=1e-9)
    assert found["matched (loose)"].value == 1  # the matcher scales volumes
    turned = rotated(truth[0], random_rotation(np.random.default_rng(0)))
    assert reconstruction_measures([turned], truth[:1])["displacement"].value == pytest.approx(
        0, abs=1e-9
    )


def test_posebusters(capfd) -> None:
    pytest.importorskip("posebusters")
    from isoform.molecules.generation.poses import pose_measures

    good, water = relaxed("CC(N)C(=O)O"), relaxed("O")
    poor = molecule(water.numbers[:-1], water.positions[:-1])
    found = pose_measures([judge(good), judge(poor)], 3)
    assert {name for name, one in found.items() if one.value != 0.5} == set()
    assert str(found["pass"]) == "0.5 (2/2/3)" and len(found) > 9
    assert pose_measures([judge(poor)], 1)["pass"].value == 0
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C(C)(C)(C)(C)C")
    assert "Explicit valence" in capfd.readouterr().err, "RDKit writes its log by itself again"
