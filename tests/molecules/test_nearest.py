"""The nearest training molecule is that of RDKit's own comparison with every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from isoform.core.errors import UserError
from isoform.molecules import nearest as N
from isoform.molecules.nearest import (
    PACKED,
    NearestMolecule,
    fingerprints_of,
    from_text,
    to_text,
)

from .smiles import MOLECULES

TRAINING, ASKED = list(dict.fromkeys(MOLECULES[:53])), ["CCO", "Nc1ccccc1CC", "FS(F)(F)(F)(F)F"]


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("block", [7, 8192])
def test_it_is_rdkits(monkeypatch: pytest.MonkeyPatch, block: int, lookup: bool) -> None:
    monkeypatch.setattr(N, "BLOCK", block)
    if lookup:  # an older numpy
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    made = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [made.GetFingerprint(Chem.MolFromSmiles(text)) for text in TRAINING]
    found = NearestMolecule(TRAINING).find(fingerprints_of([*ASKED, *TRAINING]))
    for text, row in zip([*ASKED, *TRAINING], found, strict=True):
        alike = DataStructs.BulkTanimotoSimilarity(
            made.GetFingerprint(Chem.MolFromSmiles(text)), prints
        )
        assert row["similarity"] == round(max(alike), 4)
        assert row["nearest"] == TRAINING[int(np.argmax(alike))]


def test_one_that_cannot_be_read_is_nobodys_nearest() -> None:
    found = NearestMolecule(["C(", "CCO"]).find(fingerprints_of(["CCN"]))
    assert found[0]["nearest"] == "CCO"


def test_without_training_molecules_there_is_none() -> None:
    assert NearestMolecule([]).find(fingerprints_of(["C", "CC"])) == [{}, {}]


@given(st.lists(st.binary(min_size=PACKED, max_size=PACKED), max_size=5))
def test_fingerprints_survive_being_text(rows: list[bytes]) -> None:
    prints = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, PACKED)
    np.testing.assert_array_equal(from_text(to_text(prints), len(rows)), prints)


@pytest.mark.parametrize("text", ["é", "AAAA", to_text(fingerprints_of(["C"]))])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"task\.json: fingerprints: not those of 2 molecules"):
        from_text(text, 2)
