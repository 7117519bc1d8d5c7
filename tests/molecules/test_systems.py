"""The representation of molecules and crystals: its parts agree, and augmentations, packing and splits keep it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.molecules.generation.reconstruction import rmsd
from isoform.molecules.systems.augment import (
    augment,
    centred,
    posed,
    random_rotation,
    rotated,
    translated,
)
from isoform.molecules.systems.embedded import qm9_systems
from isoform.molecules.systems.libraries import materials
from isoform.molecules.systems.packed import pack
from isoform.molecules.systems.splits import mp20_split, qm9_split
from isoform.molecules.systems.system import System, cell_of, crystal, lattice_of, molecule, wrap
from small_systems import relaxed, salt, triclinic

WATER = molecule(
    np.array([8, 1, 1]), np.array([[0, 0, 0.1], [0.8, 0, 0.6], [-0.8, 0, 0.6]]), "water"
)


def gaps(system: System) -> np.ndarray:
    return np.linalg.norm(system.positions[:, None] - system.positions, axis=-1)


def test_a_crystal_wraps_and_its_parts_agree() -> None:
    made = crystal(np.array([3, 8]), np.array([[-0.2, 1.3, 0.5], [1.0, 0, -1e-18]]), 5 * np.eye(3))
    assert made.fractional.tolist() == [[0.8, pytest.approx(0.3), 0.5], [0, 0, 0]]
    assert made.positions == pytest.approx(made.fractional @ made.lattice)
    assert (made.kind, made.pbc, made.volume) == ("crystal", (True,) * 3, pytest.approx(125))
    assert (WATER.kind, WATER.pbc, len(WATER)) == ("molecule", (False,) * 3, 3)
    assert np.isnan(WATER.volume) and not WATER.cell().any()


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_wrapping_ends_inside(place: list[float]) -> None:
    inside = wrap(np.array(place))
    assert ((inside >= 0) & (inside < 1)).all() and (wrap(inside) == inside).all()


@pytest.mark.parametrize(
    ("numbers", "places", "said"),
    [
        ([], np.zeros((0, 3)), "no atom"),
        ([6, 119], np.zeros((2, 3)), "119 is no atomic number"),
        ([0], np.zeros((1, 3)), "0 is no atomic number"),
        ([6], np.zeros((2, 3)), "1 elements and 2 places"),
        ([6], np.full((1, 3), np.nan), "not finite"),
    ],
)
def test_what_is_no_molecule(numbers: list[int], places: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        molecule(np.array(numbers, np.int16), places)


def test_a_lattice_of_no_numbers() -> None:
    with pytest.raises(ValueError, match="nine finite"):
        crystal(np.array([6]), np.zeros((1, 3)), np.full((3, 3), np.inf))


@settings(deadline=None)
@given(
    st.lists(st.floats(0.5, 50), min_size=3, max_size=3),
    st.lists(st.floats(65, 115), min_size=3, max_size=3),
)
def test_cells_and_lattices_are_inverse(lengths: list[float], angles: list[float]) -> None:
    cell = np.array([*lengths, *angles])
    assert cell_of(lattice_of(cell)) == pytest.approx(cell)
    mirrored = np.array([*lengths, -angles[0], angles[1], -angles[2]])
    assert lattice_of(mirrored) == pytest.approx(lattice_of(cell))


def test_angles_that_close_no_cell() -> None:
    with pytest.raises(ValueError, match="close no cell"):
        lattice_of(np.array([3, 3, 3, 170, 80, 20.0]))
    assert cell_of(np.zeros((3, 3))).tolist() == [0, 0, 0, 90, 90, 90]


def test_augmentation_is_a_function_of_its_seed_and_changes_no_distance() -> None:
    for system in (WATER, triclinic()):
        one, same, other = (
            augment(system, np.random.default_rng(seed))
            for seed in ((1, 2, 3), (1, 2, 3), (1, 2, 4))
        )
        assert (one.positions == same.positions).all()
        assert np.abs(one.positions - other.positions).max() > 0.01
    assert gaps(augment(WATER, np.random.default_rng((0, 0, 0)))) == pytest.approx(gaps(WATER))
    moved = augment(triclinic(), np.random.default_rng((0, 0, 0)))
    assert moved.cell() == pytest.approx(triclinic().cell())
    assert moved.positions == pytest.approx(moved.fractional @ moved.lattice)
    shift = moved.fractional - triclinic().fractional
    shift = (shift - shift[0]) % 1
    assert np.minimum(shift, 1 - shift) == pytest.approx(np.zeros((5, 3)), abs=1e-9)


def test_rotations_are_proper_and_uniform() -> None:
    random = np.random.default_rng(0)
    many = np.array([random_rotation(random) for _ in range(3001)])
    assert many @ many.transpose(0, 2, 1) == pytest.approx(np.broadcast_to(np.eye(3), many.shape))
    assert np.linalg.det(many) == pytest.approx(np.ones(3001))
    assert np.abs(many.mean(0)).max() < 0.05  # uniform: every entry is 0 on average
    assert (many[:, 0, 0] ** 2).mean() == pytest.approx(1 / 3, abs=0.03)


def test_centring_and_turning() -> None:
    away = translated(WATER, np.array([3.0, -2, 7]))
    assert centred(away).positions == pytest.approx(WATER.positions - WATER.positions.mean(0))
    assert centred(salt()) is not None and (centred(salt()).positions == salt().positions).all()
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    assert rotated(WATER, quarter).positions[1] == pytest.approx([0, 0.8, 0.6])


def test_packing_gives_back_what_it_was_given() -> None:
    systems = [WATER, triclinic(), salt()]
    packed = pack(systems)
    assert len(packed) == 3 and packed.sizes.tolist() == [3, 5, 8]
    for one, back in zip(systems, map(packed.__getitem__, range(3)), strict=True):
        assert (one.numbers == back.numbers).all() and one.kind == back.kind
        assert back.positions == pytest.approx(one.positions, abs=1e-6)
        assert (one.name, one.spacegroup) == (back.name, back.spacegroup)
    taken = packed.take(np.array([2, 0, 2]))
    assert taken.sizes.tolist() == [8, 3, 8]
    assert taken[1].positions == pytest.approx(WATER.positions, abs=1e-6)
    assert (taken[2].numbers == salt().numbers).all()
    with pytest.raises(IndexError):
        packed[3]
    assert len(pack([])) == 0 and len(packed.take(np.array([], int))) == 0


def test_the_published_splits() -> None:
    n = 130_831
    labels = qm9_split(n, 7)
    names, counts = np.unique(labels, return_counts=True)
    assert dict(zip(names, counts.tolist(), strict=True)) == {
        "train": 100_000,
        "val": 18_000,
        "test": 12_831,
    }
    assert (labels == qm9_split(n, 7)).all() and (labels != qm9_split(n, 8)).any()
    assert (labels[:1000] != "train").any()  # shuffled
    crystals = mp20_split(45_230)
    assert [crystals[row] for row in (0, 27_137, 27_138, 36_183, 36_184, 45_229)] == [
        "train", "train", "val", "val", "test", "test",
    ]  # fmt: skip
    with pytest.raises(UserError, match="there are 118,000"):
        qm9_split(118_000, 0)
    with pytest.raises(UserError, match="there are 45,229"):
        mp20_split(45_229)


def test_qm9s_geometries_are_read_from_its_lines() -> None:
    head = b"XYZ_file,Index,...\n"
    line = (
        b'"a.xyz",%d,"%s","InChI=1S/x",3,"[2,0,0,1,0]","[\'O\',\'H\',\'H\']",'
        b'"[[0.5,0.,-1.25],[1.,2.,3.],[4.e-05,5.,6.]]","[-0.5]","[1.,2.]",799.,1.,2.\n'
    )
    packed, smiles = qm9_systems([head + line % (3, b"O"), head + line % (9, b"[OH2]")])
    assert smiles == ["O", "[OH2]"] and list(packed.names) == ["gdb_3", "gdb_9"]
    assert packed[1].numbers.tolist() == [8, 1, 1]
    assert packed[1].positions[[0, 2]] == pytest.approx(np.array([[0.5, 0, -1.25], [4e-5, 5, 6]]))


def test_what_is_absent_is_said() -> None:
    with (
        pytest.raises(UserError, match=r"reading a CIF needs nowhere.*isoform\[materials\]"),
        materials("reading a CIF"),
    ):
        import nowhere.io  # noqa: F401


def test_a_posed_molecule_is_the_same_from_every_side() -> None:
    one = relaxed("CC(O)C=O")
    first = posed(one)
    assert rmsd(first.positions, one.positions) < 1e-6  # turned, not mirrored
    for seed in range(5):
        turned = posed(augment(one, np.random.default_rng(seed)))
        assert np.allclose(
            turned.positions - turned.positions.mean(0), first.positions - first.positions.mean(0)
        )
    spread = (first.positions - first.positions.mean(0)).std(0)
    assert spread[0] > spread[1] > spread[2]
    salty = triclinic()
    assert posed(salty) is salty
