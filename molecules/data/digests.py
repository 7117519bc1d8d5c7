"""By which names a molecule is known again: its text as given, its canonical SMILES, its InChIKey. n molecules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.core.data.digests import digests_of
from isoform.molecules.config import DataConfig
from isoform.molecules.data.labelled import Labelled, take
from isoform.molecules.data.parsing import canonical, inchikey
from isoform.molecules.data.standardise import Standardiser

MOST_PARSED = 50_000  # molecules that are parsed for this alone, about a minute; more are known by their texts


def molecule_digests(molecules: Labelled, rows: np.ndarray, data: DataConfig) -> np.ndarray | None:
    """uint64 [n, 3] of the molecules `rows`; None for graphs without SMILES.

    Keys that cleaning worked out are taken; without them, molecules are parsed and standardised here, as `data` says.
    """
    if molecules.graphs is not None:
        return None
    some = take(molecules, rows)
    keys, inchis = some.keys, some.inchis
    if keys is None or inchis is None:
        keys, inchis = keys_of(some, data) if len(some) <= MOST_PARSED else ([""] * len(some),) * 2
    return np.stack([digests_of(one) for one in (some.smiles, keys, inchis)], 1)


def keys_of(molecules: Labelled, data: DataConfig) -> tuple[list[str], list[str]]:
    """Canonical SMILES and InChIKeys, "" where a text is no molecule."""
    clean = Standardiser(data)
    blocks: Sequence[str | None] = molecules.blocks or [None] * len(molecules)
    found = []
    for text, block in zip(molecules.smiles, blocks, strict=True):
        mol = clean.read(text, block)
        if isinstance(mol, str):
            found.append(("", ""))
            continue
        key = canonical(mol)
        found.append((key, inchikey(mol, key)))
    return [key for key, _ in found], [inchi for _, inchi in found]
