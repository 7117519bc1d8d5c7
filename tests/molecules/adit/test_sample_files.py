"""Sampled files, opened by what others read them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem

from isoform.molecules.adit.sampling import command, scoring
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.systems.read import read_systems
from isoform.molecules.systems.system import System, Unread, crystal, molecule
from small_systems import relaxed, salt, triclinic

from .sampled import RUN, SIZES, asked, rows_of, table_of

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


def test_a_cif_without_any_crystal_is_scored_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("smact")
    made: list[System | Unread] = [Unread(f"crystal_{k}", "no cell") for k in (1, 2, 3)]
    monkeypatch.setattr(command, "windows", lambda *a: iter([made]))
    sample_into(tmp_path / "a.cif", RUN, asked(3, "crystal"), SIZES)
    read = scoring.read_back(tmp_path / "a.cif", 3)
    assert len(read) == 3 and not read.systems
