"""Tables of what was generated, beside training data and shuffled atoms."""

from __future__ import annotations

import numpy as np
import pytest

from isoform.molecules.generation.score import score
from isoform.molecules.systems.augment import augment
from isoform.molecules.systems.system import Records, System, Unread, crystal, molecule
from small_systems import relaxed, salt, triclinic

TRAINING = [relaxed(smiles) for smiles in ("O", "CO", "CC(N)C(=O)O", "c1ccncc1", "CC#N", "C=C=C")]


def moved(system: System) -> System:
    return augment(system, np.random.default_rng(3))


def test_molecules_beside_their_ceiling_and_floor() -> None:
    pytest.importorskip("posebusters")
    methanol, water = moved(TRAINING[1]), moved(TRAINING[0])
    places = np.concatenate([methanol.positions, water.positions + 30])
    two = molecule(np.concatenate([methanol.numbers, water.numbers]), places)
    made = Records([methanol, relaxed("CCO"), two, Unread("x", "no system")])
    found = score(made, "molecule", TRAINING, seed=2)
    assert list(found.rows) == ["generated", "training data", "shuffled atoms"]
    generated, ceiling, floor = found.rows.values()
    assert str(generated["valid"]) == "0.6667 (3/3/4)"
    assert str(generated["novel"]) == "0.5 (2/3/4)"  # methanol is known, though turned
    assert str(generated["largest_valid"]) == "1 (3/3/4)"
    assert str(generated["largest_novel"]) == "0.3333 (3/3/4)"  # so is the largest piece of two
    assert ceiling["valid"].value == 1 and ceiling["novel"].value == 0
    assert floor["valid"].value is not None and floor["valid"].value < 0.5
    assert ceiling["lengths_apart"].value == 0 == ceiling["atoms_apart"].value
    assert generated["lengths_apart"].value and generated["posebusters"].generated == 4
    head, lines = found.table()
    assert head[1:] == list(found.rows) and [line for line in lines if line[0] == "valid"]
    assert found.to_json()["rows"]["generated"]["valid"]["read"] == 3


def test_published_smiles_are_taken_for_what_they_are() -> None:
    pytest.importorskip("posebusters")
    made = Records([moved(TRAINING[1])])
    told = ["", "OCC", "", "", "", ""]  # wrong on purpose
    found = score(made, "molecule", TRAINING, smiles=told)
    assert found.rows["generated"]["novel"].value == 1


def test_only_so_many_are_drawn_but_new_is_what_none_of_all_is() -> None:
    pytest.importorskip("posebusters")
    made = Records([moved(one) for one in TRAINING])
    found = score(made, "molecule", TRAINING, rows=2)
    assert found.rows["training data"]["valid"].read == 2
    assert found.rows["generated"]["novel"].value == 0
    assert "of 2 of 6 molecules, drawn by seed 0" in found.rules[-1]
    assert score(made, "molecule", TRAINING, rows=2) == found
    alone = score(made, "molecule")
    assert list(alone.rows) == ["generated"]
    assert not [name for name in alone.rows["generated"] if "novel" in name]


def test_crystals_beside_their_ceiling_and_floor() -> None:
    for library in ("pymatgen", "smact", "ase"):
        pytest.importorskip(library)
    training = [salt(), triclinic(), salt(4.2, (12, 8))]
    collided = crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.01, 0, 0]]), 4 * np.eye(3))
    potash = salt(6.3, (19, 17))
    made = Records([moved(salt()), collided, potash, Unread("x", "no cell")])
    found = score(made, "crystal", training)
    generated, ceiling, _ = found.rows.values()
    assert str(generated["structural"]) == "0.6667 (3/3/4)"
    for tolerances in ("loose", "strict"):
        assert str(generated[f"novel ({tolerances})"]) == "0.5 (2/3/4)"
        assert ceiling[f"novel ({tolerances})"].value == 0
    assert str(generated["METRe (loose)"]) == "0.3333 (3/3/3)"
    assert ceiling["METRe (loose)"].value == 1 and ceiling["cRMSE (loose)"].value == pytest.approx(
        0
    )
    assert any("ltol=0.2, stol=0.3" in rule for rule in found.rules)


# The proxy of stability ---------------------------------------------------------------------------------------------


def test_energy_above_a_hull_worked_out_by_hand() -> None:
    pytest.importorskip("pymatgen")
    from isoform.molecules.generation.relaxation import Relaxed, above_hull

    def of(counts: dict[int, int], energy: float) -> Relaxed:
        numbers = np.repeat(list(counts), list(counts.values()))
        places = np.random.default_rng(0).random((len(numbers), 3))
        return Relaxed(crystal(numbers, places, 9 * np.eye(3)), energy, energy)

    hull = [of({11: 2}, -1.0), of({17: 4}, -2.0), of({11: 1, 17: 1}, -4.0)]
    assert above_hull(of({11: 2, 17: 2}, -3.7), hull) == pytest.approx(0.3)
    # Halfway between salt (-4 at 1/2) and chlorine (-2): x = 3/4.
    assert above_hull(of({11: 1, 17: 3}, -3.5), hull) == pytest.approx(-0.5)
    assert above_hull(of({19: 1, 17: 1}, -3.5), hull) is None  # no potassium by itself
    assert above_hull(of({11: 1, 17: 1}, -3.5), hull[1:]) is None


def test_chgnet_relaxes_a_stretched_salt() -> None:
    pytest.importorskip("chgnet", exc_type=ImportError)
    from isoform.molecules.generation.relaxation import Relaxer, stability_measures

    stretched = salt(5.9)
    sodium = crystal(np.array([11, 11]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 4.2 * np.eye(3))
    collided = crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.01, 0, 0]]), 4 * np.eye(3))
    made = Records([stretched, collided, Unread("x", "no cell")])
    found = stability_measures(made, [sodium, salt(5.7)], Relaxer())
    assert str(found["relaxed_rmsd"]).endswith("(1/2/3)")
    assert found["relaxed_rmsd"].value == pytest.approx(0, abs=1e-3)
    assert -0.1 < (found["energy_change"].value or 0) < -1e-3
    assert found["above_hull"].scored == 0  # no chlorine by itself
