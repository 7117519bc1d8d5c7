"""Inputs on which public tools of generation went wrong without a word, each built here, with the right answer."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from isoform.molecules.generation.measure import shuffled, table, with_bounds
from isoform.molecules.generation.molecules import keys_of, molecule_measures
from isoform.molecules.generation.stability import (
    legacy_valences,
    stable_atoms,
    strict_valences,
)
from isoform.molecules.systems.bonds import bonded
from isoform.molecules.systems.crystals import cif_of, read_cif
from isoform.molecules.systems.notes import Notes
from isoform.molecules.systems.system import Records, System, Unread, crystal
from small_systems import cif, relaxed, repeated_cell, salt, triclinic


@pytest.fixture
def materials() -> None:
    """What needs the extra is skipped where it isn't installed."""
    for name in ("pymatgen.core", "ase", "smact"):
        pytest.importorskip(name)


# Aromatic bonds counted as single -------------------------------------------------------------------------------------

RINGS = ["c1ccccc1", "c1ccncc1", "c1ccc2[nH]ccc2c1", "c1ccccc1[N+](=O)[O-]"]


@pytest.mark.parametrize("smiles", RINGS)
def test_aromatic_molecules_are_stable_under_both_conventions(smiles: str) -> None:
    mol = bonded(relaxed(smiles))
    assert any(bond.GetIsAromatic() for bond in mol.GetBonds())
    assert all(stable_atoms(mol)) and all(stable_atoms(mol, legacy=True))


def test_bond_orders_alone_are_enough() -> None:
    """A file may give aromatic bonds without flags of atoms."""
    mol = bonded(relaxed("c1ccc2[nH]ccc2c1"))
    bare = Chem.RWMol()
    for atom in mol.GetAtoms():
        bare.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in mol.GetBonds():
        bare.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType())
    for bond in bare.GetBonds():
        if bond.GetBondType() == Chem.BondType.AROMATIC:
            bond.SetIsAromatic(True)
            bond.GetBeginAtom().SetIsAromatic(True)
            bond.GetEndAtom().SetIsAromatic(True)
    assert all(stable_atoms(bare))


def test_a_phenyl_without_one_hydrogen_is_not_stable() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("[c]1ccccc1"))
    for legacy in (False, True):
        stable = stable_atoms(mol, legacy=legacy)
        assert stable.count(False) == 1 and not stable[0]


def test_the_legacy_table_has_the_mistake_in_it_and_the_strict_one_has_not() -> None:
    methyl = Chem.AddHs(Chem.MolFromSmiles("[CH3]"))
    assert stable_atoms(methyl, legacy=True)[0] and not stable_atoms(methyl)[0]
    strict, legacy = strict_valences(), legacy_valences()
    assert strict[6, 0] == {4} and legacy[6, 0] == {3, 4}
    assert strict[7, 1] == {4} and strict[8, -1] == {1} and strict[5, -1] == {4}
    assert strict[1, 0] == {1} and strict[16, 0] == {2, 4, 6}
    assert all(strict[key] <= legacy[key] for key in strict)


# The reference's own score --------------------------------------------------------------------------------------------


def test_molecules_have_a_ceiling_and_a_floor() -> None:
    training = [relaxed(smiles) for smiles in (*RINGS, "CC(N)C(=O)O", "CC#N", "CCO")]
    known = keys_of(training)
    made = Records([relaxed("CO"), Unread("second", "can't be read")])
    rows = with_bounds(lambda records: molecule_measures(records, known), made, training, seed=1)
    generated, ceiling, floor = rows.values()
    assert str(generated["novel"]) == "1 (1/1/2)"
    assert ceiling["valid"].value == ceiling["molecule_stable_strict"].value == 1
    assert ceiling["novel"].value == 0 and ceiling["unique"].value == 1
    assert floor["valid"].value == 0 and floor["atom_stable_strict"].value < 0.5
    assert ceiling["charged"].value == pytest.approx(1 / 7)
    assert floor["connected"].scored == 7
    text = table(rows)
    assert "1 (7/7/7)" in text and text.count("\n") == 4


def test_crystals_have_a_ceiling_and_a_floor(materials: None) -> None:
    from isoform.molecules.generation.crystals import crystal_measures

    training = [salt(), salt(6.3, (19, 17)), salt(4.21, (12, 8)), salt(4.8, (20, 8))]
    ceiling = crystal_measures(Records(training), training)
    floor = crystal_measures(Records(shuffled(training, 2)), training)
    assert ceiling["valid"].value == 1 and ceiling["novel (loose)"].value == 0
    assert floor["compositional"].value < 1 and floor["novel (loose)"].value == 1


def test_fragments_are_reported_beside_validity() -> None:
    water, ethane = relaxed("O"), relaxed("CC")
    numbers = np.concatenate([water.numbers, ethane.numbers])
    places = np.concatenate([water.positions + np.array([40, 0, 0]), ethane.positions])
    found = molecule_measures(Records([System(numbers, places)]), ())
    assert found["valid"].value == found["connected"].value == 0
    assert found["largest_valid"].value == 1
    assert found["atom_stable_strict"].value == 1


# Polymorphs, duplicates, order ----------------------------------------------------------------------------------------


def test_order_and_duplicates_do_not_change_many_to_reference(materials: None) -> None:
    from isoform.molecules.generation.matching import LOOSE, same_index, to_reference

    reference = [salt(), triclinic(), salt(4.21, (12, 8)), salt()]  # one twice
    generated = [salt(5.7), salt(4.3, (12, 8)), salt(6, (3, 9)), salt(5.6)]
    rate, error = to_reference(generated, reference)
    assert rate.value == 0.75 and rate.scored == rate.generated == 4
    assert error.value == pytest.approx(LOOSE.stol / 4, abs=1e-6)
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        permuted = [generated[row] for row in order]
        assert to_reference(permuted, reference) == (rate, error)
    assert same_index(generated, reference)[0].value == 0.5
    assert same_index([generated[row] for row in (1, 0, 2, 3)], reference)[0].value == 0.25


def test_copies_of_one_structure_are_one(materials: None) -> None:
    from isoform.molecules.generation.matching import groups

    random = np.random.default_rng(5)
    base = salt()
    assert base.fractional is not None and base.lattice is not None
    copies = [
        crystal(
            base.numbers,
            base.fractional + random.normal(0, 0.002, (8, 3)) + random.random(3),
            base.lattice * (1 + 0.001 * k),
        )
        for k in range(24)
    ]
    assert [len(group) for group in groups(copies)] == [24]


def test_other_cells_and_numbers_of_atoms_are_one_structure(materials: None) -> None:
    from isoform.molecules.generation.crystals import crystal_measures
    from isoform.molecules.generation.matching import groups

    base = salt()
    shapes = [(1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 2, 1), (1, 1, 2), (1, 1, 3)]
    copies = []
    for k in range(24):
        one = repeated_cell(base, shapes[k % 6])
        shear = np.eye(3)
        shear[0, 1] = k // 6  # another choice of vectors for the same lattice
        assert one.lattice is not None
        lattice = shear @ one.lattice
        copies.append(crystal(one.numbers, one.positions @ np.linalg.inv(lattice), lattice))
    assert {len(one) for one in copies} == {8, 16, 24}
    assert [len(group) for group in groups(copies)] == [24]
    found = crystal_measures(Records(copies[:6]), [])["unique (loose)"]
    assert found.value == pytest.approx(1 / 6) and found.scored == 6


def test_duplicates_between_splits_are_counted(materials: None) -> None:
    from isoform.molecules.generation import matching, molecules

    train, test = [salt(), triclinic()], [salt(5.7), salt(4.21, (12, 8)), salt(4.8, (20, 8))]
    assert str(matching.repeated(train, test)) == "0.3333 (3/3/3)"
    known = [relaxed("CCO"), relaxed("CC")]
    assert molecules.repeated(known, [relaxed("OCC"), relaxed("CO")]).value == 0.5


def test_the_matcher_says_what_it_is() -> None:
    from isoform.molecules.generation.matching import LOOSE, STRICT

    assert "ltol=0.3, stol=0.5, angle_tol=10" in str(LOOSE) and "mirror images" in str(LOOSE)
    assert "ltol=0.2, stol=0.3, angle_tol=5" in str(STRICT)


# Denominators ---------------------------------------------------------------------------------------------------------


def test_rates_keep_their_denominator(materials: None) -> None:
    """20 asked for: 3 unreadable, promethium and helium, a single atom, a flat cell, and 13 good ones."""
    from isoform.molecules.generation.crystals import crystal_measures

    good = [salt(5 + 0.1 * k) for k in range(13)]
    flat = crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.zeros((3, 3)))
    odd = [
        salt(5.0, (61, 8)),
        salt(5.0, (2, 8)),
        crystal(np.array([26]), np.zeros((1, 3)), 2.5 * np.eye(3)),
        flat,
    ]
    unread = [Unread(f"cif {k}", "can't be read") for k in range(3)]
    found = crystal_measures(Records([*unread, *odd, *good]), [])
    assert {one.generated for one in found.values()} == {20}
    assert {one.read for one in found.values()} == {17}
    structural, compositional = found["structural"], found["compositional"]
    assert structural.scored == 17 and structural.value == pytest.approx(16 / 17)
    assert compositional.scored == 15 and compositional.value == 1  # two undetermined, none invalid
    valid = found["valid"]
    assert valid.scored == 15 and valid.value == pytest.approx(14 / 15)
    assert valid.of_all() == pytest.approx(14 / 20)
    assert found["novel (loose)"].scored == 16


def test_unreadable_cifs_keep_their_place(materials: None) -> None:
    bad = cif("Na1 Na 0 0 0", cell="_cell_length_a zero\n")
    records = read_cif(cif_of(salt()) + bad + cif("Xx1 Qq 0 0 0") + cif_of(salt(6)), Notes())
    assert [isinstance(one, System) for one in records] == [True, False, False, True]
    assert all(one.reason for one in records if isinstance(one, Unread))


# Periodic wrap --------------------------------------------------------------------------------------------------------


def test_atoms_on_both_sides_of_a_face_collide(materials: None) -> None:
    from isoform.molecules.generation.crystals import judge

    two = np.array([11, 17])
    near = crystal(two, np.array([[0.01, 0, 0], [0.99, 0, 0]]), 5 * np.eye(3))
    assert judge(near).distance == pytest.approx(0.1) and judge(near).structural is False
    places = np.array([[-0.2, 0.3, 0], [1.3, 0.1, 0.7]])
    outside = crystal(two, places, triclinic().lattice)
    inside = crystal(two, places % 1, triclinic().lattice)
    assert judge(outside) == judge(inside)


def test_the_nearest_image_in_a_skewed_cell(materials: None) -> None:
    """Angle 20 degrees: the nearest image is not in one of the 26 cells around."""
    from isoform.molecules.generation.crystals import smallest_distance

    angle = np.radians(20)
    lattice = np.array([[4, 0, 0], [13 * np.cos(angle), 13 * np.sin(angle), 0], [0, 0, 6.0]])
    places = np.array([[0.02, 0.05, 0.01], [0.42, 0.50, 0.06]])
    cells = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), -1).reshape(-1, 3)
    lengths = np.linalg.norm((places[1] - places[0] + cells) @ lattice, axis=1)
    around = np.abs(cells).max(1) <= 1
    assert lengths[around].min() > lengths.min() + 0.4
    system = crystal(np.array([11, 17]), places, lattice)
    assert (
        smallest_distance(system) == pytest.approx(lengths.min()) == pytest.approx(2.215, abs=1e-3)
    )


def test_a_single_atom_meets_its_own_images(materials: None) -> None:
    from isoform.molecules.generation.crystals import judge

    thin = crystal(np.array([26]), np.zeros((1, 3)), np.diag([0.4, 5.0, 6.0]))
    assert judge(thin).distance == pytest.approx(0.4) and judge(thin).structural is False


# Dialects -------------------------------------------------------------------------------------------------------------

SYMMETRY = (
    "_symmetry_space_group_name_H-M 'P 1'\nloop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
    "'-x, -y, -z'\n"
)


def one_of(text: str, notes: Notes | None = None) -> System | Unread:
    records = read_cif(text, Notes() if notes is None else notes)
    assert len(records) == 1
    return records[0]


def test_disorder_is_refused(materials: None) -> None:
    columns = "_atom_site_occupancy\n"
    half = one_of(cif("Na1 Na 0 0 0 0.5\nCl1 Cl .5 .5 .5 1", columns=columns))
    mixed = one_of(cif("Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5", columns=columns))
    full = one_of(cif("Na1 Na 0 0 0 1\nCl1 Cl .5 .5 .5 1", columns=columns))
    assert isinstance(half, Unread) and "disordered" in half.reason
    assert isinstance(mixed, Unread) and "Fe" in mixed.reason and "Ni" in mixed.reason
    assert isinstance(full, System)


def test_listed_symmetry_counts_more_than_the_label(materials: None) -> None:
    notes = Notes()
    made = one_of(cif("Na1 Na .1 .2 .3\nCl1 Cl .5 .5 .5", head=SYMMETRY), notes)
    assert isinstance(made, System) and made.numbers.tolist() == [
        11,
        11,
        17,
    ]  # one lies on the centre
    assert sorted(made.fractional[:2, 0].round(6)) == [0.1, 0.9]
    assert any("symmetry" in line for line in notes.lines())


def test_comments_deuterium_and_wrapping(materials: None) -> None:
    notes = Notes()
    text = "# Größe in Å, naïve\n" + cif("D1 D -0.2 0 0\nO1 O 1.3 .5 .5")
    made = one_of(text, notes)
    assert isinstance(made, System) and made.numbers.tolist() == [1, 8]
    assert made.fractional[:, 0] == pytest.approx([0.8, 0.3])
    assert [("hydrogen" in line, "wrapped" in line) for line in notes.lines()] == [
        (True, False),
        (False, True),
    ]


def test_negative_angles_are_their_absolute_values(materials: None) -> None:
    lengths = "_cell_length_a 4.1\n_cell_length_b 5.3\n_cell_length_c 6.7\n"
    angles = "_cell_angle_alpha {}70\n_cell_angle_beta 80\n_cell_angle_gamma {}65\n"
    sites = "Na1 Na 0 0 0\nCl1 Cl .5 .4 .3"
    notes = Notes()
    minus = one_of(cif(sites, cell=lengths + angles.format("-", "-")), notes)
    plus = one_of(cif(sites, cell=lengths + angles.format("", "")))
    assert isinstance(minus, System) and isinstance(plus, System)
    assert minus.cell() == pytest.approx(plus.cell()) and "negative" in notes.lines()[0]


def test_every_data_block_is_a_system(materials: None) -> None:
    """Two of one name, one without atoms, and a text field that looks as if it began one."""
    text = cif("Na1 Na 0 0 0") + "data_global\n_journal 'x'\n"
    text += cif("K1 K 0 0 0", head="_note\n;\ndata_three\n;\n")
    records = read_cif(text, Notes())
    assert [one.numbers.tolist() for one in records if isinstance(one, System)] == [[11], [19]]
    assert len(records) == 2


def test_an_extxyz_without_pbc_is_periodic_with_a_lattice_alone(materials: None) -> None:
    from isoform.molecules.systems.molecule_files import read_xyz

    head = 'Lattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3'
    frames = [head, head + ' pbc="F F F"', "Properties=species:S:1:pos:R:3", head + ' pbc="T T F"']
    notes = Notes()
    records = read_xyz("".join(f"2\n{one}\nNa 0 0 0\nD 1 1 -1\n" for one in frames), notes)
    assert [getattr(one, "kind", None) for one in records] == [
        "crystal",
        "molecule",
        "molecule",
        None,
    ]
    assert "some directions" in records[3].reason
    assert records[0].numbers.tolist() == [11, 1] and records[0].positions[1, 2] == pytest.approx(5)
    assert any("box" in line for line in notes.lines())


def test_selective_dynamics_are_dropped_and_elements_never_guessed(materials: None) -> None:
    from isoform.molecules.systems.crystals import read_poscar

    body = "1 1\nSelective dynamics\nDirect\n0 0 0 T T F\n.5 .5 .5 F F F\n"
    notes = Notes()
    made = read_poscar(f"salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n{body}", "x", notes)
    assert isinstance(made, System) and made.numbers.tolist() == [11, 17]
    assert notes.lines() == ["1 system: selective dynamics, dropped"]
    old = read_poscar(f"salt\n1.0\n4 0 0\n0 4 0\n0 0 4\n{body}", "x", Notes())
    assert isinstance(old, Unread) and "elements" in old.reason
