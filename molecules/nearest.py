"""The training molecule that a molecule is most like, by Tanimoto's coefficient of Morgan fingerprints.

M training molecules, n that are asked about, F = 2048 bits of a fingerprint, packed into P = 256 bytes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from isoform.core.errors import UserError
from isoform.molecules.data.parsing import parse_smiles

RADIUS, BITS = 2, 2048
PACKED = BITS // 8
BLOCK = 8192  # training molecules at a time: what a molecule is compared with stays in the processor's cache
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


class NearestMolecule:
    """Finds the nearest of all training molecules.

    training      SMILES [M]
    fingerprints  uint8 [M, P]; worked out of the SMILES if None, where those that RDKit can't read are nobody's nearest
    """

    def __init__(self, training: Sequence[str], fingerprints: np.ndarray | None = None) -> None:
        self.training = training
        if fingerprints is None:
            fingerprints = fingerprints_of(training)
        assert fingerprints.shape == (len(training), PACKED)
        self._bytes_PM = np.ascontiguousarray(fingerprints.T)
        self._counts_M = _ONES[fingerprints].sum(1, dtype=np.int32)

    def find(self, fingerprints: np.ndarray) -> list[dict[str, Any]]:
        """uint8 [n, P] -> {"nearest": SMILES, "similarity": 0 to 1} each; empty without training molecules.

        Of several that are equally near it is the first.
        """
        if not len(self.training):
            return [{} for _ in fingerprints]
        best = [(-1.0, 0)] * len(fingerprints)
        for start in range(0, len(self.training), BLOCK):
            block = slice(start, start + BLOCK)
            bytes_PM, counts_M = self._bytes_PM[:, block], self._counts_M[block]
            for k, one_P in enumerate(fingerprints):
                alike, place = _most_alike(one_P, bytes_PM, counts_M)
                if alike > best[k][0]:
                    best[k] = alike, start + place
        return [
            {"nearest": self.training[place], "similarity": round(alike, 4)}
            for alike, place in best
        ]


def _most_alike(one_P: np.ndarray, bytes_PM: np.ndarray, counts_M: np.ndarray) -> tuple[float, int]:
    """The highest coefficient and whose it is. Only bytes with a bit are read: a molecule has few."""
    some = np.flatnonzero(one_P)
    count = int(_ONES[one_P].sum(dtype=np.int64))
    narrow = np.uint8 if count < 256 else np.uint16  # that no more can be in common than it has
    common_M = _ones(bytes_PM[some] & one_P[some, None]).sum(0, dtype=narrow)
    alike_M = common_M / np.maximum(counts_M + count - common_M, 1)
    place = int(alike_M.argmax())
    return float(alike_M[place]), place


def _ones(values: np.ndarray) -> np.ndarray:
    """How many bits of each byte are set."""
    count = getattr(np, "bitwise_count", None)  # since numpy 2.0
    return _ONES[values] if count is None else np.asarray(count(values))


def fingerprint(mol: Chem.Mol) -> np.ndarray:
    """uint8 [P] of a molecule."""
    return np.packbits(_MORGAN.GetFingerprintAsNumPy(mol))


def fingerprints_of(smiles: Sequence[str]) -> np.ndarray:
    """uint8 [n, P]; without a bit where RDKit can't read one."""
    found = np.zeros((len(smiles), PACKED), np.uint8)
    for row, text in enumerate(smiles):
        mol = parse_smiles(text)
        if not isinstance(mol, str):
            found[row] = fingerprint(mol)
    return found


def to_text(fingerprints: np.ndarray) -> str:
    """uint8 [n, P] as about 120 characters each, for JSON."""
    return base64.b64encode(zlib.compress(fingerprints.tobytes(), 9)).decode()


def from_text(text: str, count: int) -> np.ndarray:
    """uint8 [count, P]; see `to_text`. Raises UserError where the text isn't what was written of so many."""
    try:
        packed = zlib.decompress(base64.b64decode(text, validate=True))
        return np.frombuffer(packed, np.uint8).reshape(count, PACKED)
    except (zlib.error, ValueError) as error:
        raise UserError(
            f"task.json: fingerprints: not those of {count} molecules ({error}); the file was changed"
        ) from None
