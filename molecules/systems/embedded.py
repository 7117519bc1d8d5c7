"""Systems that come inside installed packages, read as files: QM9's geometries and the AFLOW prototypes of crystals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable

import numpy as np
from rdkit import Chem

from isoform.core.data.embedded import read_embedded
from isoform.molecules.data.qm9 import qm9_files
from isoform.molecules.systems.packed import Systems
from isoform.molecules.systems.system import System, crystal

PYMATGEN = "2026.10.24"
PROTOTYPES = "pymatgen/analysis/prototypes/aflow_prototypes.json.gz"
PROTOTYPES_SHA256 = "a1b349b062f1734f2ed248bdc117db143f0da4a9f5b43d9e14d3f2505d664f97"
_ELEMENTS = {b"H": 1, b"C": 6, b"N": 7, b"O": 8, b"F": 9}


def qm9_systems(files: Iterable[bytes] | None = None) -> tuple[Systems, list[str]]:
    """(130,831 molecules of QM9 relaxed by B3LYP, their SMILES as published), hydrogens included; names gdb_1 and on.

    files   the package's own if None. Raises UserError where qm9pack isn't installed as it is known.
    """
    names: list[str] = []
    smiles: list[str] = []
    elements: list[bytes] = []
    places: list[np.ndarray] = []
    for raw in qm9_files() if files is None else files:
        texts: list[bytes] = []
        for line in raw.split(b"\n")[1:]:
            if not line:
                continue
            # The file's name, SMILES, InChI, composition, elements and coordinates stand in quotation marks.
            _, _, index, smi, _, _, _, _, _, symbols, _, coordinates, _ = line.split(b'"', 12)
            names.append(f"gdb_{int(index.strip(b','))}")
            smiles.append(smi.decode("ascii"))
            elements.append(symbols[2:-2])
            texts.append(coordinates.translate(None, b"[]"))
        numbers = np.array(b",".join(texts).split(b","), "S24").astype(np.float64)
        places.append(numbers.reshape(-1, 3).astype(np.float32))
    return _molecules(names, [one.split(b"','") for one in elements], places), smiles


def _molecules(names: list[str], symbols: list[list[bytes]], places: list[np.ndarray]) -> Systems:
    n = len(names)
    numbers = np.array([_ELEMENTS[one] for row in symbols for one in row], np.int16)
    positions = np.concatenate([np.zeros((0, 3), np.float32), *places])
    return Systems(
        numbers,
        positions,
        np.zeros_like(positions),
        np.zeros((n, 3, 3), np.float32),
        np.zeros(n, bool),
        np.zeros(n, np.int16),
        np.concatenate([[0], np.cumsum([len(row) for row in symbols])]).astype(np.int64),
        names,
    )


def prototypes() -> list[System]:
    """288 crystals, one a prototype of the AFLOW library (Mehl et al. 2017), with their space groups.

    pymatgen is read as files, not imported. Raises UserError where it isn't installed as it is known.
    """
    packed = read_embedded(
        "pymatgen",
        PYMATGEN,
        PROTOTYPES,
        PROTOTYPES_SHA256,
        "AFLOW's prototypes come",
    )
    return [_of_entry(entry) for entry in json.loads(gzip.decompress(packed))]


def _of_entry(entry: dict) -> System:
    """The third part of a label such as AB_cF8_225_a_b is the space group."""
    table = Chem.GetPeriodicTable()
    sites = entry["snl"]["sites"]
    label = entry["tags"]["aflow"]
    return crystal(
        np.array([table.GetAtomicNumber(site["species"][0]["element"]) for site in sites]),
        np.array([site["abc"] for site in sites]),
        np.array(entry["snl"]["lattice"]["matrix"]),
        label,
        int(label.split("_")[2]),
    )
