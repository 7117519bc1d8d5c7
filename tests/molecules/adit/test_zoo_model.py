"""The weights that come along do what their card says: molecules come back however they are moved and turned."""

from __future__ import annotations

import numpy as np
import pytest

import isoform
from isoform.core.runs import zoo
from isoform.molecules.systems.augment import augment
from small_systems import relaxed

pytestmark = pytest.mark.skipif(
    "adit-joint" not in zoo.names(), reason="zoo/adit-joint doesn't come along yet"
)
STATED = 0.25  # Angstrom, of a molecule given back
SMILES = ("CCO", "CC(=O)N", "C1CC1C", "N#CC", "COC", "CC#C", "OCC=O")


@pytest.fixture(scope="module")
def model():
    return isoform.load("zoo/adit-joint")


def back(model, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    return model.predict([augment(relaxed(text), rng, shift=5.0) for text in SMILES])


@pytest.mark.parametrize("seed", range(3))
def test_a_moved_and_turned_molecule_keeps_its_elements(model, seed: int) -> None:
    rows = back(model, seed)
    assert [row["right"] for row in rows] == [row["atoms"] for row in rows]


@pytest.mark.xfail(
    reason="0.32 to 0.45 Angstrom for N#CC and CC#C, smaller than nearly all of QM9; adit-qm9-vae alone: 0.15",
    strict=True,
)
@pytest.mark.parametrize("seed", range(3))
def test_a_moved_and_turned_molecule_comes_back_as_the_same(model, seed: int) -> None:
    assert max(row["distance"] for row in back(model, seed)) < STATED


def test_embeddings_of_one_molecule_are_alike_from_every_side(model) -> None:
    """Trained on rotations, not built for them: nearer to itself turned than to another molecule, mostly."""
    rng = np.random.default_rng(5)
    first = model.embed([relaxed(text) for text in SMILES])
    second = model.embed([augment(relaxed(text), rng) for text in SMILES])
    gaps = np.linalg.norm(first[:, None] - second[None], axis=-1)
    assert (gaps.argmin(1) == np.arange(len(SMILES))).mean() >= 0.7
