"""Pictures of generated systems: cells and images on faces, sticks, denominators, property by hand, paths, pairs."""

import numpy as np
import pytest

from isoform.molecules.generation.figures import (
    FILM,
    STRIP,
    balls_of,
    colour_of,
    figures_of,
    formula,
    kinds_of,
    reconstruction_figure,
    spread,
    sticks_of,
)
from isoform.molecules.generation.properties import properties_of, weight
from isoform.molecules.generation.reconstruction import rmsd, superposed
from isoform.molecules.systems.augment import random_rotation, rotated
from isoform.molecules.systems.system import System, crystal, molecule

WATER = molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
SALT = crystal(
    np.array([11] * 4 + [17] * 4),
    np.array([[0, 0, 0], [0, .5, .5], [.5, 0, .5], [.5, .5, 0], [.5, .5, .5], [.5, 0, 0], [0, .5, 0], [0, 0, .5]]),
    np.eye(3) * 5.64,
)  # fmt: skip


def ring(atoms=6):
    angle = np.arange(atoms) * 2 * np.pi / atoms
    places = 1.4 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    return molecule(np.full(atoms, 6), places)


def numbers_of(properties):
    return {one.name.split(" (")[0]: one for one in properties}


def test_a_cell_is_shown_with_the_atoms_of_its_opposite_faces():
    kinds, row = kinds_of([SALT])
    balls = balls_of(SALT, row)
    symbols = [kinds[k].name for k in balls.kind]
    # Rock salt as textbooks draw it: 8 corners and 6 faces of one kind, 12 edges and the middle of the other.
    assert symbols.count("Na") == 14 and symbols.count("Cl") == 13
    assert len(np.unique(balls.places.round(6), axis=0)) == 27
    assert (balls.places > -1e-9).all() and (balls.places < 5.64 + 1e-9).all()
    assert len(balls.sticks) == 54, "every pair of neighbours of a lattice of 3 x 3 x 3"
    np.testing.assert_array_equal(balls.box, np.concatenate([np.zeros((1, 3)), SALT.lattice]))


def test_sticks_are_the_bonds_of_small_molecules():
    assert sticks_of(WATER.numbers, WATER.positions).tolist() == [[0, 1], [0, 2]]
    assert len(sticks_of(ring().numbers, ring().positions)) == 6
    assert sticks_of(np.array([2]), np.zeros((1, 3))).shape == (0, 2)


def test_formulas_follow_hill():
    methanol = molecule(np.array([8, 1, 6, 1, 1, 1]), np.eye(6)[:, :3] * 3)
    assert formula(methanol) == "CH4O" and formula(WATER) == "H2O" and formula(SALT) == "Cl4Na4"


def test_every_element_has_a_colour_and_neighbours_differ():
    colours = [colour_of(number) for number in range(1, 119)]
    assert len(set(colours)) == 118 and all(len(one) == 7 for one in colours)


def test_properties_by_hand():
    found = numbers_of(properties_of("molecule", [WATER, ring(), ring(7)]))
    assert found["atoms"].values.tolist() == [3, 6, 7]
    assert found["independent rings"].values.tolist() == [0, 1, 1]
    assert found["connected pieces"].values.tolist() == [1, 1, 1]
    assert found["element, share of atoms"].shares == {
        "O": 1 / 16,
        "H": 2 / 16,
        "C": 13 / 16,
    }
    assert found["molecular weight"].values[0] == pytest.approx(18.015, abs=1e-3)
    assert len(found["length of bonds"].values) == 2 + 6 + 7
    flat = System(SALT.numbers, SALT.positions * 0, np.zeros((3, 3)), SALT.fractional)
    found = numbers_of(properties_of("crystal", [SALT, flat]))
    assert found["density"].values == pytest.approx([2.164], abs=2e-3), "halite, by handbooks"
    assert found["volume an atom"].values == pytest.approx([5.64**3 / 8])
    assert found["smallest distance"].values == pytest.approx([2.82])
    assert found["elements in a crystal"].values.tolist() == [2, 2]
    assert weight(SALT) == pytest.approx(4 * 58.44, abs=0.02)


def test_rows_that_are_shown_are_spread():
    assert (
        spread(5, 9) == [0, 1, 2, 3, 4] and spread(101, 3) == [0, 50, 100] and spread(1, 7) == [0]
    )


def test_the_best_superposition_has_the_distance_that_is_printed():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(11, 3))
    made = rotated(
        molecule(np.ones(11), truth + 0.1 * rng.normal(size=(11, 3))), random_rotation(rng)
    )
    for sign in (1, -1):  # a mirror image isn't turned into the original
        places = made.positions * (sign, 1, 1)
        laid = superposed(places, truth)
        off = np.sqrt(np.square(laid - truth).sum(1).mean())
        assert off == pytest.approx(rmsd(places, truth))
        np.testing.assert_allclose(rmsd(laid, places), 0, atol=1e-6)
    np.testing.assert_allclose(superposed(truth, truth), truth, atol=1e-12)


def test_figures_say_what_they_show():
    made, real = [WATER] * 17 + [SALT] * 3, [ring()] * 5 + [SALT] * 13
    path = [
        molecule(WATER.numbers, WATER.positions * k, f"t {k}") for k in np.linspace(3, 1, FILM + 5)
    ]
    found = figures_of(made, real, path)
    assert [bool(one.scene) for one in found] == [True, False, True, False, True]
    gallery, shares, solids, _, way = found
    assert "first 12 of 17 generated molecules and the first 5 of 5 training" in gallery.caption
    assert "17 generated and 5 training molecules" in shares.caption
    assert [len(sheet["views"]) for sheet in gallery.scene["sheets"]] == [12, 5]
    assert [sheet["name"] for sheet in solids.scene["sheets"]] == ["generated", "training"]
    assert all(view["steps"][0]["box"] for view in solids.scene["sheets"][0]["views"])
    strip, film = way.scene["sheets"]
    assert len(strip["views"]) == STRIP and len(film["views"]) == 1
    steps = film["views"][0]["steps"]
    assert len(steps) == FILM and steps[0]["caption"] == "t 3.0" and steps[-1]["caption"] == "t 1.0"
    assert strip["views"][0]["steps"] == steps[:1] and strip["views"][-1]["steps"] == steps[-1:]


def test_without_a_training_set_or_samples_there_is_less():
    assert figures_of([], [WATER], None) == []
    (only,) = figures_of([SALT], [WATER], None)
    assert [sheet["name"] for sheet in only.scene["sheets"]] == ["generated"]


def test_reconstructions_lie_on_the_truth():
    rng = np.random.default_rng(5)
    made = rotated(WATER, random_rotation(rng))
    found = reconstruction_figure([made] * 7 + [SALT], [WATER] * 7 + [SALT])
    molecules, crystals = found.scene["sheets"]
    assert len(molecules["views"]) == 12 and len(crystals["views"]) == 2
    truth, ours = molecules["views"][:2]
    assert truth["frame"] == ours["frame"] and "RMSD 0.000" in ours["caption"]
    np.testing.assert_allclose(ours["steps"][0]["places"], truth["steps"][0]["places"], atol=0.0011)
    assert "0.000 Å off" in crystals["views"][1]["caption"]
