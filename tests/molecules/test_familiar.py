"""Inside or outside of what a run learned from, by the training molecules' own similarities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rdkit import DataStructs
from rdkit.Chem import MolFromSmiles
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

import isoform
from isoform.molecules.familiar import floor_of, word_of

from .runs import TEXTS, trained


def test_nineteen_in_twenty_training_molecules_are_inside() -> None:
    floor = floor_of(TEXTS)
    generator = GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(MolFromSmiles(text)) for text in TEXTS]
    nearest = []
    for i, one in enumerate(prints):
        others = prints[:i] + prints[i + 1 :]
        nearest.append(max(DataStructs.BulkTanimotoSimilarity(one, others)))
    assert np.mean(np.array(nearest) >= floor) >= 0.95
    assert np.mean(np.array(nearest) > floor + 1e-3) <= 0.97  # and not by calling everything inside
    assert floor_of(TEXTS[:19]) is None and floor_of([]) is None
    assert floor_of([*TEXTS[:19], "no molecule"]) is None


def test_words() -> None:
    assert word_of({"similarity": 0.3}, 0.3) == {"domain": "inside"}
    assert word_of({"similarity": 0.2999}, 0.3) == {"domain": "outside"}
    assert word_of({"similarity": 0.3}, None) == word_of({}, 0.3) == {}


def test_predictions_say_it(tmp_path: Path) -> None:
    run = trained(tmp_path)
    state = json.loads((run / "task.json").read_text())
    assert state["familiar"] == floor_of(state["training"])
    known, strange = isoform.load(run).predict([state["training"][7], "[Xe]"])
    assert (known["similarity"], known["domain"]) == (1.0, "inside")
    assert strange["domain"] == "outside"
    columns = list(known)
    assert columns.index("domain") == columns.index("similarity") + 1
