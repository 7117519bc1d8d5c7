"""Whether a molecule is like those that a run learned from: one plain word, by a rule that is stored with the run.

Of evenly spread training molecules the similarity to their nearest other one is taken; nineteen in twenty of these are
at or above the floor (`familiar` in task.json). A molecule is "inside" where its own nearest training molecule is at
least that similar, else "outside": then it is more of a stranger than all but one in twenty of those that were learned
from are to each other, and errors are larger than validation tells. Tanimoto's coefficient of Morgan fingerprints, as
in nearest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import DataStructs
from rdkit.Chem import rdFingerprintGenerator

from isoform.molecules.data.parsing import parse_smiles
from isoform.molecules.nearest import BITS, RADIUS

SHARE = 0.05  # of the training molecules that are strangers to the others
ASKED, COMPARED = (
    300,
    5000,
)  # training molecules whose nearest is sought, and among how many at most
FEWEST = 20  # training molecules of which one in twenty is one


def floor_of(training: Sequence[str]) -> float | None:
    """The lowest similarity of a molecule inside; None for fewer than FEWEST molecules."""
    some = [training[i] for i in _spread(len(training), COMPARED)]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    mols = [mol for mol in map(parse_smiles, some) if not isinstance(mol, str)]
    if len(mols) < FEWEST:
        return None
    prints = [generator.GetFingerprint(mol) for mol in mols]
    nearest = []
    for i in _spread(len(prints), ASKED):
        alike = DataStructs.BulkTanimotoSimilarity(prints[i], prints)
        alike[i] = -1.0
        nearest.append(max(alike))
    floor = float(np.quantile(nearest, SHARE, method="lower"))
    return round(floor - 5e-5, 4)  # not above it, in the digits that similarity is shown with


def word_of(row: dict[str, Any], floor: float | None) -> dict[str, Any]:
    """{"domain": "inside" or "outside"} of a row with `similarity`; empty where either is unknown."""
    if floor is None or "similarity" not in row:
        return {}
    return {"domain": "inside" if row["similarity"] >= floor else "outside"}


def _spread(size: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int)).tolist() if size else []
