"""What a split keeps together: molecules of one framework, or of one cluster of fingerprints. n molecules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from isoform.core.data.splits import number_texts
from isoform.core.errors import UserError
from isoform.molecules.data.parsing import MOST_ATOMS, parse_smiles, quiet

RADIUS, BITS = 2, 2048  # of Morgan's fingerprint (ECFP4)
SIMILAR = 0.35  # Tanimoto similarity from which two molecules belong to one cluster
MOST_CLUSTERED = 20_000  # every pair is compared: 20,000 take about a minute


def scaffold_groups(smiles: Sequence[str]) -> np.ndarray:
    """[n] number of each molecule's Bemis-Murcko framework, in the order of their first molecules.

    A molecule that has none (see `frameworks`) is a group of its own.
    """
    keys: list[object] = []
    for row, text in enumerate(frameworks(smiles)):
        keys.append(row if text is None else text)
    return number_texts(keys)


def frameworks(smiles: Sequence[str]) -> list[str | None]:
    """Bemis-Murcko frameworks as SMILES; None of a molecule that RDKit can't parse, or find the framework of.

    They are without stereo chemistry, as MoleculeNet's split has them; that of an acyclic molecule is "".
    """
    found: list[str | None] = []
    for text in smiles:
        key = None
        mol = parse_smiles(text, MOST_ATOMS)
        if not isinstance(mol, str):
            with suppress(ValueError, RuntimeError), quiet():
                key = MurckoScaffold.MurckoScaffoldSmiles(mol=mol, includeChirality=False)
        found.append(key)
    return found


def cluster_groups(smiles: Sequence[str]) -> np.ndarray:
    """[n] number of each molecule's Taylor-Butina cluster, the largest first (Butina 1999, doi:10.1021/ci9803381).

    The molecule with the most neighbours of at least SIMILAR Tanimoto similarity (the first of several) takes them all
    into its cluster, then the one with the most of what was left at the beginning, and so on.
    Raises UserError for more than MOST_CLUSTERED molecules.
    """
    n = len(smiles)
    if n > MOST_CLUSTERED:
        raise UserError(
            f"data.split = cluster compares every pair of molecules, so at most {MOST_CLUSTERED:,} and not {n:,}; "
            "use scaffold"
        )
    neighbours = similar_rows(fingerprints(smiles), SIMILAR)
    order = np.argsort([-len(rows) for rows in neighbours], kind="stable")
    groups = np.full(n, -1, np.int64)
    number = 0
    for row in order.tolist():
        if groups[row] < 0:
            free = neighbours[row][groups[neighbours[row]] < 0]
            groups[free] = number
            groups[row] = number
            number += 1
    return groups


def fingerprints(smiles: Sequence[str]) -> np.ndarray:
    """bool [n, BITS] Morgan fingerprints; a row of False where there is no molecule."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    bits = np.zeros((len(smiles), BITS), bool)
    for row, text in enumerate(smiles):
        mol = parse_smiles(text, MOST_ATOMS)
        if not isinstance(mol, str):
            with quiet():
                bits[row] = generator.GetFingerprintAsNumPy(mol).astype(bool)
    return bits


def similar_rows(
    bits: np.ndarray,
    similarity: float,
) -> list[np.ndarray]:
    """For each row of bool [n, BITS] the rows of at least that Tanimoto similarity, itself among them; ascending."""
    counts = bits.sum(1).astype(np.float32)
    columns = np.ascontiguousarray(bits.T, np.float32)
    found = []
    for start in range(0, len(bits), 512):
        part = bits[start : start + 512].astype(np.float32)
        shared = part @ columns  # whole numbers up to 2,048: exact
        union = counts[start : start + 512, None] + counts - shared
        near = shared >= np.float32(similarity) * union
        near[np.arange(len(part)), np.arange(start, start + len(part))] = True
        found += [np.flatnonzero(row) for row in near]
    return found
