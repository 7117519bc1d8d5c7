"""Systems of every source: splits, what is left out, and a user's own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commands import exit_code
from isoform.core.errors import UserError
from isoform.molecules.adit.config import SystemsConfig
from isoform.molecules.adit.dataset import read_data
from isoform.molecules.systems.write import write_systems
from small_systems import relaxed, salt, triclinic

NAMES = ("C", "CC", "CO", "C=O", "N", "CCO", "CC=O", "CN", "COC", "C#N", "CF")


def config(**values: object) -> SystemsConfig:
    return SystemsConfig.model_validate(values)


def folder_of_files(folder: Path) -> Path:
    systems = [relaxed(name) for name in NAMES]
    folder.mkdir()
    for split, members in (("train", systems[:7]), ("val", systems[7:9]), ("test", systems[9:])):
        write_systems(members, folder / f"{split}.xyz")
    return folder


def test_a_folders_own_split_stands_unless_random_is_asked_for(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path / "d")
    data = read_data(config(path=str(folder)), 100)
    assert data.sizes() == {"train": 7, "val": 2, "test": 2}
    assert data.systems.sizes[data.rows["test"]].tolist() == [len(relaxed(n)) for n in NAMES[9:]]
    mixed = read_data(config(path=str(folder), split="random", test_fraction=0.3), 100)
    assert sum(mixed.sizes().values()) == 11 and mixed.sizes()["test"] > 2


def test_what_is_too_large_or_unknown_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "s.extxyz"
    write_systems([*(relaxed(n) for n in NAMES), triclinic(), salt(numbers=(11, 57))], path)
    data = read_data(config(path=str(path), max_atoms=8), 23)
    assert (
        data.left_out == len(data.lost) + 1 == 3
    )  # ethanol of 9 atoms, COC of 9, salt of lanthanum
    assert "data.max_atoms" in data.lost[0] and "model.elements" in data.lost[1]
    used = np.concatenate([*data.rows.values()])
    assert data.systems.sizes[used].max() <= 8 and data.systems.numbers.max() == 57


def test_prototypes_are_split_by_seed_and_judged_in_part() -> None:
    data = read_data(config(source="prototypes", judged=13), 100)
    assert data.sizes() == {"train": 233, "val": 13, "test": 13}
    again = read_data(config(source="prototypes", judged=13), 100)
    other = read_data(config(source="prototypes", judged=13, split_seed=1), 100)
    assert (data.rows["test"] == again.rows["test"]).all()
    assert (data.rows["test"] != other.rows["test"]).any()
    assert data.counts()["crystal"] and "molecule" not in data.counts()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "file"}, "needs data.path"),
        ({"source": "mp20"}, "needs data.root"),
        ({"path": "nowhere.xyz"}, "nowhere.xyz"),
    ],
)
def test_what_is_missing_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_data(config(**values), 100)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "qm8"}, "no source of systems"),
        ({"source": ["file", "file"]}, "once"),
        ({"source": ["qm9", "prototypes"], "shares": [1.0]}, "one number"),
        ({"shares": [1.0]}, "data.epoch"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_check_counts_what_two_splits_share(tmp_path: Path, capsys) -> None:
    folder = folder_of_files(tmp_path / "d")
    write_systems([relaxed("C"), relaxed("CC=O")], folder / "val.xyz")
    assert exit_code("molecules", "check", folder) == 2
    assert "2 systems of val also in train" in " ".join(capsys.readouterr().out.split())


def test_training_stops_where_check_does_unless_it_is_allowed(tmp_path: Path, capsys) -> None:
    folder = folder_of_files(tmp_path / "d")
    write_systems([relaxed("C"), relaxed("CC=O")], folder / "val.xyz")
    words = ["molecules", "train", "adit-tiny-vae", "--set", f"data.path={folder}"]
    words += ["--set", 'data.source=["file"]', "--set", "train.epochs=1", "--run-dir"]
    assert exit_code(*words, tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 systems of val also in train, atom for atom: mend the splits, or set" in said
    allowed = ["--set", "data.allow_leakage=true"]
    assert exit_code(*words, tmp_path / "run", *allowed) == 0
    assert "warning: 2 systems of val also in train" in " ".join(capsys.readouterr().out.split())
    assert exit_code("molecules", "eval", tmp_path / "run") == 0


def test_systems_of_a_split_are_made_when_asked_for(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path / "d")
    data = read_data(config(path=str(folder)), 100)
    molecules = data.systems_of("train", "molecule")
    assert [len(one) for one in molecules] == [len(relaxed(name)) for name in NAMES[:7]]
    assert len(molecules[2:5]) == 3 and molecules[2:5][1].name == molecules[3].name
    assert not len(data.systems_of("train", "crystal"))


def test_systems_that_are_equal_atom_for_atom_are_drawn_into_one_split(tmp_path: Path) -> None:
    """17 crystals, each three times, in another order each time; without doubles the draw is as it ever was."""
    crystals = [triclinic(1 + k / 37) for k in range(17)]
    path = tmp_path / "thrice.extxyz"
    write_systems([*crystals, *crystals[::-1], *crystals[5:], *crystals[:5]], path)
    ask = config(path=str(path), val_fraction=0.2, test_fraction=0.3)
    data = read_data(ask, 119)
    assert sum(data.sizes().values()) == 51 and len(data.sizes()) == 3
    held = {split: set(data.digests(split)[:, 0].tolist()) for split in data.sizes()}
    assert sum(map(len, held.values())) == 17, "no crystal is in two splits"
