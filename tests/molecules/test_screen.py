"""Molecules read once for a prediction: what each becomes is what training made of it, in one process or several."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from rdkit import Chem

from isoform.molecules.config import DataConfig
from isoform.molecules.data import screen as S
from isoform.molecules.data.descriptors import NAMES, compute
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.parsing import canonical, parse, parse_smiles
from isoform.molecules.data.records import PackedGraphs
from isoform.molecules.data.screen import Screened, Wanted, processes_for, read_chunk, screen
from isoform.molecules.data.standardise import Standardiser
from isoform.molecules.nearest import PACKED, fingerprints_of

from .smiles import MOLECULES

TEXTS = [
    *MOLECULES[:31],
    "OC(=O)C1=CC=CC=C1[O-].[Na+]",
    "C(",
    "[CH3:2][C@H:1](N)C(O)=O",
    "F/C=C\\F",
    "",
    "C" * 300,
]
BLOCK = Chem.MolToMolBlock(Chem.MolFromSmiles("C[C@H](O)c1ccccc1"))

# A worker whose RDKit dies of one text.
WORKER = """
import os, sys
from isoform.molecules.data import screen, screen_worker

real = screen_worker.read_chunk

def fragile(texts, wanted):
    if ("CRASH", None) in texts:
        os.abort()
    return real(texts, wanted)

screen_worker.read_chunk = fragile
screen_worker.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


def pairs(texts: list[str]) -> list[tuple[str, str | None]]:
    return [(text, None) for text in texts]


def same(a: Screened, b: Screened) -> None:
    assert a.smiles == b.smiles and a.skipped == b.skipped
    for name in ("kept", "descriptors", "fingerprints"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    same_graphs(a.graphs, b.graphs)


def same_graphs(a: PackedGraphs, b: PackedGraphs) -> None:
    for name in ("atoms", "bonds", "ends", "atom_offsets", "bond_offsets"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [{}, {"canonical": True}, {"canonical": True, "fragment": True, "neutralise": True},
     {"hydrogens": True, "chirality": False}],
)  # fmt: skip
def test_one_reading_gives_what_reading_again_for_each_part_gives(
    settings: dict[str, bool],
) -> None:
    data = DataConfig(**settings)
    found = read_chunk([*pairs(TEXTS), ("", BLOCK)], Wanted(data, True, True))
    clean = Standardiser(data)
    keys, texts, described, wrong = [], [], [], {}
    for number, (text, block) in enumerate([*pairs(TEXTS), ("", BLOCK)]):
        mol = parse(text, block, data.max_atoms)
        if isinstance(mol, str):
            wrong[number] = mol
            continue
        keys.append(canonical(clean(mol)))
        texts.append(keys[-1] if clean.steps or data.canonical else block or text)
        described.append(keys[-1] if "\n" in texts[-1] else texts[-1])
    assert dict(found.skipped) == wrong and found.smiles == keys and found.asked == len(TEXTS) + 1
    graphs = featurise_many(
        texts,
        chirality=data.chirality,
        canonical=data.canonical,
        explicit_h=data.hydrogens,
        max_atoms=data.max_atoms,
    )
    same_graphs(found.graphs, graphs.graphs)
    np.testing.assert_array_equal(found.descriptors, compute(described))
    np.testing.assert_array_equal(found.fingerprints, fingerprints_of(keys))


def test_what_is_not_wanted_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S, "compute_of", lambda mols: pytest.fail("descriptors"))
    monkeypatch.setattr(S, "fingerprint", lambda mol: pytest.fail("fingerprints"))
    found = read_chunk(pairs(TEXTS), Wanted(DataConfig()))
    assert found.descriptors.shape == found.fingerprints.shape == (len(found.kept), 0)


def test_every_smiles_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its canonical form once more where that becomes the graph."""
    seen: list[str] = []

    def counted(text: str, *more: int) -> Chem.Mol | str:
        seen.append(text)
        return parse_smiles(text, *more)

    for module in ("screen", "featurise", "parsing", "descriptors"):
        monkeypatch.setattr(f"isoform.molecules.data.{module}.parse_smiles", counted, raising=False)
    read_chunk(pairs(MOLECULES[:23]), Wanted(DataConfig(), True, True))
    assert seen == list(MOLECULES[:23])
    seen.clear()
    read_chunk(pairs(["OCC", "C(C)N"]), Wanted(DataConfig(canonical=True), True, True))
    assert seen == ["OCC", "CCO", "C(C)N", "CCN"]


def test_workers_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S, "CHUNK", 5)
    monkeypatch.setattr(S, "BLOCK", 10)
    wanted = Wanted(DataConfig(canonical=True), True, True)
    blocks = list(screen(pairs(TEXTS), wanted, workers=2))
    assert [block.asked for block in blocks] == [10, 10, 10, 7]
    for start, block in zip(range(0, len(TEXTS), 10), blocks, strict=True):
        same(block, read_chunk(pairs(TEXTS[start : start + 10]), wanted))


def test_a_crash_costs_one_molecule() -> None:
    wanted = Wanted(DataConfig(), True, True)
    with processes_for(1, wanted, command=(sys.executable, "-c", WORKER)) as processes:
        (found,) = processes.map([pairs(["CCO", "CRASH", "C"])])
    assert found.skipped == [(1, "crashes RDKit")] and found.smiles == ["CCO", "C"]
    assert found.descriptors.shape == (2, len(NAMES)) and found.fingerprints.shape == (2, PACKED)


def test_nothing_is_no_block() -> None:
    assert list(screen([], Wanted(DataConfig()))) == []
    (found,) = screen(pairs(["C("]), Wanted(DataConfig(), True, True))
    assert found.asked == 1 and found.smiles == [] and found.descriptors.shape == (0, len(NAMES))
