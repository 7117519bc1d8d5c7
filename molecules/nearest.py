"""The training molecule that a molecule is most like, by Tanimoto's coefficient of Morgan fingerprints.

M training molecules, F = 2048 bits of a fingerprint.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from isoform.molecules.data.parsing import parse_smiles

RADIUS, BITS = 2, 2048
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


class NearestMolecule:
    """Finds the nearest of some training molecules; their fingerprints are worked out at the first question."""

    def __init__(self, training: Sequence[str]) -> None:
        self.training = training

    def find(self, smiles: str) -> dict[str, Any]:
        """{"nearest": SMILES, "similarity": 0 to 1}; empty without training molecules."""
        texts, bits_FM, counts_M = self._fingerprints
        mol = parse_smiles(smiles)
        if not texts or isinstance(mol, str):
            return {}
        on = _on_bits(mol)
        common_M = bits_FM[on].sum(0, dtype=np.uint16)
        alike_M = common_M / np.maximum(counts_M + len(on) - common_M, 1)
        best = int(alike_M.argmax())
        return {"nearest": texts[best], "similarity": round(float(alike_M[best]), 4)}

    @functools.cached_property
    def _fingerprints(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """SMILES of the training molecules, their fingerprints uint8 [F, M], and how many bits each has.

        Bit by bit, because a molecule has few of them: only their rows are read.
        """
        known: list[str] = []
        on: list[list[int]] = []
        for text in self.training:
            mol = parse_smiles(text)
            if not isinstance(mol, str):
                known.append(text)
                on.append(_on_bits(mol))
        bits_FM = np.zeros((BITS, len(known)), np.uint8)
        for column, bits in enumerate(on):
            bits_FM[bits, column] = 1
        return known, bits_FM, bits_FM.sum(0, dtype=np.int32)


def _on_bits(mol: Chem.Mol) -> list[int]:
    return list(_MORGAN.GetFingerprint(mol).GetOnBits())
