"""Sampling into files: by seed, in any batch, killed and taken up again, and opened by what others read them with."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem

from isoform.core.cli import main
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.molecules import DOMAIN
from isoform.molecules.adit.config import SamplingConfig, app_of_size
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling import command, items, records, scoring
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.adit.sampling.items import generate
from isoform.molecules.adit.sampling.journal import Journal, part_of
from isoform.molecules.adit.sampling.request import Request
from isoform.molecules.state import MoleculesState
from isoform.molecules.systems.read import read_systems
from isoform.molecules.systems.system import System, Unread, crystal, molecule
from isoform.molecules.systems.write import write_systems
from small_systems import relaxed, salt, triclinic

SIZES = SizeCounts({"molecule": {2: 1, 5: 3, 7: 2}, "crystal": {1: 1, 3: 2, 11: 1}})
FEW = SamplingConfig(steps=3, guidance=1.5)


def tiny(seed: int = 5) -> TrainedModel[Any, Any]:
    """A run of both stages, none of whose weights is at rest."""
    config = app_of_size("tiny", "tiny", sampling=FEW)
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.autoencoder.head.lattice.weight.mul_(0.05).add_(0.1)  # some cells close
    return TrainedModel(config, MoleculesState(), model.eval(), Path("run"), 7)


RUN = tiny()


def table_of(out: Path) -> Path:
    return records.beside(out, "records.csv")


def asked(count: int = 23, kind: Any = "molecule", **more: Any) -> Request:
    return Request(count=count, kind=kind, sampling=FEW, **{"seed": 3, "batch": 3, **more})


def contents(out: Path) -> list[bytes]:
    assert not part_of(out).exists() and not part_of(table_of(out)).exists()
    return [out.read_bytes(), table_of(out).read_bytes()]


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table_of(out).read_text().splitlines()))


# Items --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_an_item_is_a_function_of_seed_and_number_in_any_batch(kind: Any) -> None:
    reference = list(generate(RUN, asked(kind=kind), SIZES))
    assert [one.name for one in reference] == [f"{kind}_{k}" for k in range(1, 24)]
    for batch, count in ((1, 7), (5, 23), (64, 23)):
        found = list(generate(RUN, asked(count, kind, batch=batch), SIZES))
        assert len(found) == count
        for one, other in zip(found, reference, strict=False):
            assert type(one) is type(other)
            if isinstance(one, System) and isinstance(other, System):
                assert one.numbers.tolist() == other.numbers.tolist()
                assert np.abs(one.positions - other.positions).max() < 1e-4
    again = list(generate(RUN, asked(kind=kind), SIZES))
    assert repr(again) == repr(reference)
    assert repr(list(generate(RUN, asked(kind=kind, seed=4), SIZES))) != repr(reference)


def test_sizes_are_those_of_training_or_as_asked() -> None:
    sizes = [items.size_of(k, asked(), SIZES) for k in range(1, 200)]
    assert set(sizes) == {2, 5, 7}
    alike = [items.size_of(k, asked(atoms=(4, 9)), SIZES) for k in range(1, 200)]
    assert set(alike) == {5, 7} and abs(alike.count(5) / 199 - 0.6) < 0.12
    assert {items.size_of(k, asked(atoms=(4, 4)), SIZES) for k in range(9)} == {4}
    assert items.only_kind(SizeCounts({"crystal": {3: 1}, "molecule": {}})) == "crystal"
    with pytest.raises(UserError, match="both kinds: add --kind"):
        items.only_kind(SIZES)


def test_what_is_no_system_says_why() -> None:
    atoms = {
        "numbers": np.array([3, 8]),
        "positions": np.zeros((2, 3)),
        "fractional": np.zeros((2, 3)),
    }

    def why(cell: list[float], **changes: Any) -> str:
        found = items._item({**atoms, **changes}, np.array(cell), True, "x")
        return found.reason if isinstance(found, Unread) else ""

    box = [3.0, 4.0, 5.0, 90.0, 90.0, 90.0]
    assert why(box) == ""
    assert why([-0.5, *box[1:]]) == "lengths -0.5, 4, 5 make no cell"
    assert why([*box[:3], -60, 90, 90]) == "angles -60, 90, 90 make no cell"
    assert why([*box[:3], 20, 60, 120]) == "angles 20, 60, 120 close no cell"
    assert why([*box[:3], np.nan, 90, 90]) == "its cell is not six finite numbers"
    assert why(box, numbers=np.array([0, 8])) == "1 atom of 2 of no known element"
    assert "not finite" in why(box, fractional=np.full((2, 3), np.inf))


# Killed, and taken up again -----------------------------------------------------------------------------------------


def test_a_fault_at_any_moment_leaves_what_an_undisturbed_call_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.sdf", tmp_path / "broken.sdf"
    request = asked(37, batch=3)  # four windows
    assert sample_into(whole, RUN, request, SIZES) == 0
    write, place = Journal._write, Journal._put_in_place
    befores = []
    for fatal in (
        2,
        3,
        0,
    ):  # which writing of the journal, of each call, fails: texts are on the disk, it isn't
        calls = iter(range(1, 99))

        def dying(self: Journal, fatal: int = fatal, calls: Any = calls) -> None:
            if next(calls) == fatal:
                raise KeyboardInterrupt
            write(self)

        monkeypatch.setattr(Journal, "_write", dying)
        if fatal:
            with pytest.raises(KeyboardInterrupt):
                befores.append(sample_into(out, RUN, request, SIZES))
            assert part_of(out).exists() and not out.exists()
            continue

        def half(self: Journal) -> None:
            part_of(self.files[1]).replace(self.files[1])
            raise KeyboardInterrupt

        monkeypatch.setattr(Journal, "_put_in_place", half)
        with pytest.raises(KeyboardInterrupt):
            sample_into(out, RUN, request, SIZES)
        monkeypatch.setattr(Journal, "_put_in_place", place)
    told = []
    assert sample_into(out, RUN, request, SIZES, say=told.append) == 37 and not told
    assert contents(out) == contents(whole)


def test_what_a_killed_process_wrote_behind_its_journal_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "a.xyz", tmp_path / "whole.xyz"
    sample_into(whole, RUN, asked(30), SIZES)
    drawn = items.windows(RUN, asked(30), SIZES)
    journal = items.WINDOW

    class Enough(Exception):
        pass

    def track(parts: Any, doing: str) -> Any:
        for k, part in enumerate(parts):
            if k == journal + 2:
                raise Enough
            yield part

    def nothing(parts: Any, doing: str) -> Any:
        raise Enough

    with pytest.raises(Enough):
        sample_into(out, RUN, asked(30), SIZES, track=track)
    assert len(next(iter(drawn))) == 12
    with part_of(out).open("ab") as stream:
        stream.write(b"5\nhalf a record\nC 0 0")
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(command, "_computer", lambda: "an abacus")
        with pytest.raises(Enough):
            sample_into(out, RUN, asked(30), SIZES, say=told.append, track=nothing)
    assert told == [
        f"{out}: goes on behind 12 of 30 records",
        f"{out}: was begun by {command._computer()}, now it is an abacus: the last digits may differ",
    ]
    assert sample_into(out, RUN, asked(30), SIZES, say=told.append) == 12 and len(told) == 3
    assert contents(out) == contents(whole)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from isoform.core.domain import TrainedModel
from isoform.molecules.adit.config import SamplingConfig, app_of_size
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.adit.sampling.request import Request
from isoform.molecules.state import MoleculesState
few = SamplingConfig(steps=3)
config = app_of_size("tiny", "tiny", sampling=few)
torch.manual_seed(5)
run = TrainedModel(config, MoleculesState(), build_model(config).eval(), Path("run"), 7)
request = Request(count=403, kind="molecule", sampling=few, seed=3, batch=5)
def main(out):
    return sample_into(Path(out), run, request, SizeCounts({{"molecule": {{2: 1, 5: 3, 7: 2}}}}))
"""


def test_kill_9_and_the_same_command_give_the_same_bytes(tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).resolve().parents[2]))
    killed, whole = tmp_path / "killed.sdf", tmp_path / "whole.sdf"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{script}\nmain({str(killed)!r})"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    journal = tmp_path / "killed.sampling.json"
    while process.poll() is None:
        if journal.exists() and json.loads(journal.read_text())["done"] > 50:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert not killed.exists() and part_of(killed).exists()
    there: dict[str, Any] = {}
    exec(script, there)
    assert 50 < there["main"](killed) < 403
    assert there["main"](whole) == 0
    assert contents(killed) == contents(whole)
    assert len(rows_of(whole)) == 403


def test_other_arguments_another_run_and_files_in_the_way_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.sdf"
    sample_into(out, RUN, asked(7), SIZES)
    before = contents(out)
    assert sample_into(out, RUN, asked(7), SIZES) == 7  # again: nothing is drawn
    for request, run, said in (
        (asked(7, seed=4), RUN, r"tells of 7 records of another sampling \(seed 3, now 4\)"),
        (asked(7), tiny(6), r"another sampling \(model \w+, now \w+\)"),
        (asked(8, atoms=(3, 4)), RUN, r"n 7, now 8; atoms None, now \[3, 4\]"),
    ):
        with pytest.raises(UserError, match=said):
            sample_into(out, run, request, SIZES)
    with pytest.raises(UserError, match=r"another sampling \(file a.sdf, now a.xyz\)"):
        sample_into(tmp_path / "a.xyz", RUN, asked(7), SIZES)
    assert contents(out) == before
    assert sample_into(out, RUN, asked(7, seed=4), SIZES, overwrite=True) == 0
    assert contents(out) != before
    with out.open("a") as stream:
        stream.write("mine")
    with pytest.raises(UserError, match=r"a.sdf: was changed since"):
        sample_into(out, RUN, asked(7, seed=4), SIZES)
    out.unlink(), table_of(out).unlink()
    assert sample_into(out, RUN, asked(7, seed=4), SIZES) == 0  # taken away: made again
    foreign = tmp_path / "b.sdf"
    foreign.write_text("mine")
    with pytest.raises(UserError, match=r"b.sdf: exists already"):
        sample_into(foreign, RUN, asked(7), SIZES)
    assert foreign.read_text() == "mine" and not part_of(foreign).exists()


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "a.sdf"

    def track(parts: Any, doing: str) -> Any:
        with pytest.raises(UserError, match="another process is sampling into it"):
            sample_into(out, RUN, asked(7), SIZES)
        sample_into(tmp_path / "b.sdf", RUN, asked(2), SIZES)
        yield from parts

    sample_into(out, RUN, asked(7), SIZES, track=track)
    assert len(rows_of(out)) == 7
    assert {one.name for one in tmp_path.iterdir()} == {
        f"{stem}.{end}" for stem in "ab" for end in ("sdf", "records.csv", "sampling.json")
    }


# Files --------------------------------------------------------------------------------------------------------------

MOLECULES = [
    relaxed("CC(N)C(=O)O", "molecule_1"),
    Unread("molecule_2", "1 atom of 2 of no known element"),
    molecule(np.array([6, 8, 6, 1]), np.arange(12.0).reshape(4, 3) ** 1.3 / 3, "molecule_3"),
    relaxed("c1ccncc1", "molecule_4"),
    molecule(np.array([2, 10]), np.array([[0, 0, 0], [3e5, 0, 0]]), "molecule_5"),
]
CRYSTALS = [
    salt(),
    Unread("crystal_2", "angles 20, 60, 120 close no cell"),
    crystal(np.array([3, 8]), np.array([[0, 0, 0], [0.01, 0, 0]]), 4 * np.eye(3)),
    triclinic(),
    crystal(np.array([11]), np.zeros((1, 3)), np.zeros((3, 3))),
]


def written(
    out: Path, made: list[System | Unread], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, str]]:
    """The rows of the table beside a file of these items."""
    kind = "crystal" if made is CRYSTALS else "molecule"
    monkeypatch.setattr(command, "windows", lambda *a: iter([made[:2], made[2:]]))
    sample_into(out, RUN, asked(len(made), kind), SIZES)
    return rows_of(out)


def test_molecules_open_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ase = pytest.importorskip("ase.io")
    rows = written(tmp_path / "a.sdf", MOLECULES, monkeypatch)
    assert [row["valid"] for row in rows] == ["1", "0", "0", "1", "0"]
    assert [row["atoms"] for row in rows] == ["13", "", "4", "11", "2"]
    assert rows[0]["formula"] == "C3H7NO2" and rows[3]["smiles"] == "c1ccncc1"
    assert all(bool(row["reason"]) == (row["valid"] != "1") for row in rows)
    mols = list(Chem.SDMolSupplier(str(tmp_path / "a.sdf"), sanitize=False, removeHs=False))
    assert [mol.GetNumAtoms() for mol in mols] == [13, 0, 4, 11, 2]
    for row, mol, item in zip(rows, mols, MOLECULES, strict=True):
        assert (mol.GetProp("_Name"), mol.GetProp("valid")) == (item.name, row["valid"])
        if row["valid"] == "1":
            assert Chem.SanitizeMol(mol) == Chem.SanitizeFlags.SANITIZE_NONE
            assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False) == Chem.CanonSmiles(
                row["smiles"], useChiral=0
            )
        else:
            assert mol.GetProp("reason") == row["reason"]
    read = read_systems(tmp_path / "a.sdf")
    assert len(read) == 5 and [one.name for one in read.unread] == ["molecule_2"]
    for name in ("b.extxyz", "c.xyz"):
        assert written(tmp_path / name, MOLECULES, monkeypatch)[0]["valid"] == "1"
        frames = ase.read(tmp_path / name, index=":")
        assert [len(one) for one in frames] == [13, 0, 4, 11, 2]
        assert np.abs(frames[3].positions - MOLECULES[3].positions).max() < 1e-6
    marks = [one.info.get("valid") for one in ase.read(tmp_path / "b.extxyz", index=":")]
    assert marks == [1, 0, 0, 1, 0]


def test_crystals_open_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cif = pytest.importorskip("pymatgen.io.cif")
    ase = pytest.importorskip("ase.io")
    pytest.importorskip("smact")
    rows = written(tmp_path / "a.cif", CRYSTALS, monkeypatch)
    assert [row["valid"] for row in rows] == ["1", "0", "0", rows[3]["valid"], "0"]
    assert (rows[0]["formula"], rows[0]["spacegroup"]) == ("NaCl", "225")
    assert "0.04 Angstrom apart" in rows[2]["reason"] and "no volume" in rows[4]["reason"]
    with pytest.warns(UserWarning):
        opened = cif.CifParser(tmp_path / "a.cif").parse_structures(primitive=False)
    assert [len(one) for one in opened] == [8, 5]  # pymatgen leaves out what collides
    assert read_systems(tmp_path / "a.cif").systems[0].name == "salt"
    text = (tmp_path / "a.cif").read_text()
    assert text.count("data_") == 5 and text.count("# valid: 0") >= 3
    written(tmp_path / "b.extxyz", CRYSTALS, monkeypatch)
    frames = ase.read(tmp_path / "b.extxyz", index=":")
    assert [len(one) for one in frames] == [8, 0, 2, 5, 1]
    assert frames[0].cell.lengths() == pytest.approx([5.64] * 3) and all(frames[0].pbc)
    written(tmp_path / "c.csv", CRYSTALS, monkeypatch)
    table = read_systems(tmp_path / "c.csv")
    assert len(table) == 5 and [len(one) for one in table.systems] == [8, 2, 5]


def test_what_a_model_draws_opens_in_every_format(tmp_path: Path) -> None:
    ase = pytest.importorskip("ase.io")
    pytest.importorskip("smact")
    for name, kind in (("m.sdf", "molecule"), ("n.extxyz", "molecule"), ("c.extxyz", "crystal")):
        out = tmp_path / name
        sample_into(out, RUN, asked(19, kind), SIZES)
        rows = rows_of(out)
        assert [row["number"] for row in rows] == [str(k) for k in range(1, 20)]
        assert {row["kind"] for row in rows} == {kind}
        if out.suffix == ".sdf":
            opened: Any = [mol.GetNumAtoms() for mol in Chem.SDMolSupplier(str(out), False, False)]
        else:
            opened = [len(one) for one in ase.read(out, index=":")]
        assert opened == [int(row["atoms"] or 0) for row in rows]
        out.unlink(), table_of(out).unlink()


# The command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs the command on the tiny run; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_load", lambda run, checkpoint: RUN)
    monkeypatch.setattr(command, "sizes_learned", lambda trained: SIZES)

    def run(*words: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(
            ["molecules", "sample", "run", *map(str, words)], domains={"molecules": lambda: DOMAIN}
        )
        return code, *capsys.readouterr()

    return run


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


def test_a_cif_without_any_crystal_is_scored_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("smact")
    made: list[System | Unread] = [Unread(f"crystal_{k}", "no cell") for k in (1, 2, 3)]
    monkeypatch.setattr(command, "windows", lambda *a: iter([made]))
    sample_into(tmp_path / "a.cif", RUN, asked(3, "crystal"), SIZES)
    read = scoring.read_back(tmp_path / "a.cif", 3)
    assert len(read) == 3 and not read.systems


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


def test_a_run_that_draws_nothing_is_named(tmp_path: Path) -> None:
    config = app_of_size("tiny", "tiny", model={"part": "autoencoder"})
    first = TrainedModel(config, MoleculesState(), build_model(config), Path("vae"), 1)
    with pytest.raises(UserError, match=r"vae: holds the autoencoder alone"):
        next(generate(first, asked(), SIZES))
    narrow = app_of_size("tiny", "tiny", model={"spacegroups": 13})
    second = TrainedModel(narrow, MoleculesState(), build_model(narrow), Path("x"), 1)
    with pytest.raises(UserError, match="knows those up to 13"):
        sample_into(
            tmp_path / "new" / "a.cif",
            second,
            asked(kind="crystal", spacegroup=14),
            SIZES,
        )
    with pytest.raises(UserError, match="trained on no molecule"):
        sample_into(tmp_path / "a.sdf", RUN, asked(), SizeCounts({"crystal": {3: 1}}))
    assert not list(tmp_path.iterdir())
