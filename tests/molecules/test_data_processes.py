"""Featurising in processes of their own: the same graphs, and a crash or a hang costs one text."""

import sys

import numpy as np
import pytest

from isoform.core.errors import RunError
from isoform.molecules.data import featurise as featurising
from isoform.molecules.data.featurise import (
    Options,
    featurise_chunk,
    featurise_many,
    joined,
    processes_for,
)

from .smiles import MOLECULES

# A worker whose RDKit dies of one text and never comes back from another.
WORKER = """
import os, sys, time
from isoform.molecules.data import featurise_worker as worker

real = worker.featurise_chunk

def fragile(texts, options):
    if "CRASH" in texts:
        os.abort()
    if "HANG" in texts:
        time.sleep(600)
    return real(texts, options)

worker.featurise_chunk = fragile
worker.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


def assert_same(a, b):
    for name in ("atoms", "bonds", "ends", "atom_offsets", "bond_offsets"):
        assert np.array_equal(getattr(a.graphs, name), getattr(b.graphs, name)), name
    assert np.array_equal(a.kept, b.kept) and a.skipped == b.skipped


def test_workers_give_what_one_process_gives(monkeypatch):
    texts = [*MOLECULES, "C(", None, "[H]", float("nan"), *MOLECULES[::-1]]
    done = []
    monkeypatch.setattr(featurising, "CHUNK", 17)
    found = featurise_many(texts, 2, explicit_h=True, progress=done.append)
    assert sum(done) == len(texts) and len(done) == -(-len(texts) // 17)
    monkeypatch.undo()
    assert_same(found, featurise_many(texts, explicit_h=True))
    assert len(found.skipped) == 3


def test_a_crash_or_a_hang_costs_one_text():
    chunks = [["C", "CRASH", "CC", "O"], ["CCC", "N", "HANG"], ["C("], ["CO"]]
    with processes_for(
        2, Options(), seconds=2, command=(sys.executable, "-c", WORKER)
    ) as processes:
        starts = np.cumsum([0, *map(len, chunks)])
        found = joined(zip(starts.tolist(), processes.map(chunks), strict=False))
    why = dict(found.skipped)
    assert sorted(why) == [1, 6, 7]
    assert (
        why[1] == "crashes RDKit"
        and why[6] == "takes RDKit more than 2 s"
        and "no SMILES" in why[7]
    )
    assert found.graphs.sizes.tolist() == [1, 2, 1, 3, 1, 2]


def test_a_worker_that_cannot_start_is_an_error():
    with (
        processes_for(
            1, Options(), command=(sys.executable, "-c", "raise SystemExit('no')")
        ) as processes,
        pytest.raises(RunError, match="can't start"),
    ):
        list(processes.map([["C", "CC"]]))


def test_one_chunk_is_featurised_in_order():
    found = featurise_chunk(["CO", "C(", "N"], Options())
    assert found.kept.tolist() == [0, 2] and found.graphs.sizes.tolist() == [2, 1]
