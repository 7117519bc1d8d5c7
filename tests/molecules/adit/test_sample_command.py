"""`isoform molecules sample`: what it takes, writes, says and scores."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isoform.molecules.adit.sampling import command
from isoform.molecules.systems.write import write_systems
from small_systems import relaxed

from .sampled import RUN, SIZES, rows_of


@pytest.fixture
def sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> Any:
    """Runs the command on the tiny run; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_load", lambda run, checkpoint: RUN)
    monkeypatch.setattr(command, "sizes_learned", lambda trained: SIZES)
    return partial(cli, "molecules", "sample", "run")


def test_the_command(sampling: Any) -> None:
    ask = ("-n", 9, "--kind", "molecule", "--atoms", "4-5", "--seed", 2, "--steps", 4, "--json")
    code, said, _ = sampling(*ask, "--solver", "multistep", "--guidance", 1, "--out", "a.sdf")
    assert code == 0
    told = json.loads(said.splitlines()[-1])
    assert told["records"] == 9 == told["valid"] + told["invalid"] + told["undetermined"]
    journal = json.loads(Path("a.sampling.json").read_text())
    expected = {"steps": 4, "solver": "multistep", "guidance": 1.0, "seed": 2, "atoms": [4, 5]}
    assert {name: journal["asked"][name] for name in expected} == expected
    assert journal["done"] == 9 and journal["told"]["checkpoint"] == 7
    code, said, _ = sampling("-n", 9, "--kind", "molecule", "--out", "a.sdf")
    assert code == 2


def test_scores_stand_between_ceiling_and_floor(sampling: Any) -> None:
    pytest.importorskip("posebusters")
    write_systems([relaxed(smiles) for smiles in ("O", "CO", "CC#N")], "training.sdf")
    ask = ("-n", 9, "--kind", "molecule", "--out", "a.sdf", "--score")
    code, said, warned = sampling(*ask, "--reference", "training.sdf")
    assert code == 0
    assert re.search(r"\(scored/read/generated\) +generated +training data +shuffled atoms", said)
    rows = json.loads(Path("a.metrics.json").read_text())["rows"]
    assert list(rows) == ["generated", "training data", "shuffled atoms"]
    assert (
        rows["generated"]["valid"]["generated"] == 9
        and rows["training data"]["valid"]["value"] == 1
    )
    valid = [row["valid"] for row in rows_of(Path("a.sdf"))].count("1")
    assert valid == round(9 * rows["generated"]["valid"]["value"])
    code, said, warned = sampling(*ask)  # of the same file; an imported run has no data
    assert code == 0 and "is there already" in said and "has no data of its own" in warned
    assert list(json.loads(Path("a.metrics.json").read_text())["rows"]) == ["generated"]
    code, *_ = sampling(*ask[:-1], "--seed", 4, "--overwrite")
    assert code == 0 and not Path("a.metrics.json").exists()
    for words, reason in (
        (("--reference", "nowhere.sdf"), "nowhere.sdf"),
        (("--stability", "chgnet"), "is for crystals"),
    ):
        code, _, error = sampling(*ask[:-3], "--out", "b.sdf", "--score", *words)
        assert code == 2 and reason in error and not Path("b.sdf").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", 0, "--kind", "molecule", "--out", "a.sdf"), "-n 0: should be at least 1"),
        (("-n", 5, "--out", "a.sdf"), "both kinds: add --kind"),
        (("-n", 5, "--kind", "molecule", "--out", "a.cif"), "a molecule, which .cif can't hold"),
        (("-n", 5, "--kind", "crystal", "--out", "a.sdf"), "a crystal, which .sdf can't hold"),
        (("-n", 5, "--kind", "crystal", "--out", "a.pdb"), "--out should end in"),
        (("-n", 5, "--kind", "molecule", "--atoms", "9-4", "--out", "a.sdf"), "--atoms 9-4"),
        (("-n", 5, "--kind", "molecule", "--atoms", "few", "--out", "a.sdf"), "--atoms few"),
        (("-n", 5, "--kind", "molecule", "--steps", 1, "--out", "a.sdf"), "--steps 1"),
        (("-n", 5, "--kind", "molecule", "--seed", -1, "--out", "a.sdf"), "--seed -1"),
        (("-n", 5, "--kind", "molecule", "--guidance", "nan", "--out", "a.sdf"), "--guidance nan"),
        (("-n", 5, "--kind", "molecule", "--spacegroup", 2, "--out", "a.sdf"), "molecules have"),
        (("-n", 5, "--kind", "crystal", "--spacegroup", 231, "--out", "a.cif"), "from 1 to 230"),
        (("-n", 5, "--kind", "molecule", "--reference", "q", "--out", "a.sdf"), "is for --score"),
    ],
)
def test_what_can_not_be_sampled_is_one_sentence(
    words: tuple[Any, ...], said: str, sampling: Any
) -> None:
    code, _, error = sampling(*words)
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1
    assert not list(Path().iterdir())
