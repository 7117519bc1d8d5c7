"""Files of systems: what is written is read back, and opens in the programs that others use."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from isoform.core.errors import UserError
from isoform.molecules.systems.read import read_systems
from isoform.molecules.systems.system import System, Unread, crystal, molecule
from isoform.molecules.systems.write import write_systems
from small_systems import relaxed, salt, triclinic

MOLECULES = [relaxed("CC(N)C(=O)O", "alanine"), relaxed("O"), relaxed("c1ccncc1")]
BROKEN = molecule(np.array([6, 8, 6, 1]), np.arange(12.0).reshape(4, 3) ** 1.3 / 3, "broken")


def by_element(system: System) -> System:
    assert system.fractional is not None and system.lattice is not None
    order = np.lexsort((system.fractional[:, 0], system.numbers))
    return crystal(system.numbers[order], system.fractional[order], system.lattice)


def same(one: System, other: System, tolerance: float) -> None:
    if (one.numbers != other.numbers).any():  # CIF and POSCAR put the atoms of an element together
        one, other = by_element(one), by_element(other)
    assert (one.numbers == other.numbers).all() and one.kind == other.kind
    if one.kind == "molecule":
        assert one.positions == pytest.approx(other.positions, abs=tolerance)
        return
    assert one.cell() == pytest.approx(other.cell(), abs=tolerance)
    gap = np.abs(one.fractional - other.fractional)
    assert np.minimum(gap, 1 - gap).max() < tolerance


def test_sdf(tmp_path: Path) -> None:
    path = tmp_path / "a.sdf"
    write_systems([*MOLECULES, BROKEN], path)
    read = read_systems(path)
    assert read.findings[0] == "a.sdf: 4 records, 0 of them unreadable"
    for one, other in zip([*MOLECULES, BROKEN], read.systems, strict=True):
        same(one, other, 1e-4)
    assert [one.name for one in read.systems] == ["alanine", "O", "c1ccncc1", "broken"]
    sane = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert [Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in sane[1:3]] == ["O", "c1ccncc1"]
    assert [mol.GetProp("valid") for mol in sane] == ["1", "1", "1", "0"]
    assert sane[3].GetProp("reason")


def test_records_of_an_sdf_that_are_no_geometry(tmp_path: Path) -> None:
    flat = Chem.MolFromSmiles("CCCCO")
    Chem.rdDepictor.Compute2DCoords(flat)
    heavy = Chem.AddHs(Chem.MolFromSmiles("[2H]O[2H]"))
    Chem.rdDistGeom.EmbedMolecule(heavy, randomSeed=1)
    blocks = [Chem.MolToMolBlock(flat), Chem.MolToMolBlock(heavy), "x\n\n\nnothing\nM  END\n"]
    path = tmp_path / "a.sdf"
    path.write_text("$$$$\n".join(blocks))
    records = read_systems(path).records
    assert isinstance(records[0], Unread) and "flat" in records[0].reason
    assert isinstance(records[1], System) and sorted(records[1].numbers) == [1, 1, 8]
    assert isinstance(records[2], Unread)
    assert "isotopes" in " ".join(read_systems(path).findings)


def test_crystals_in_every_format(tmp_path: Path) -> None:
    core = pytest.importorskip("pymatgen.core")
    ase = pytest.importorskip("ase.io")
    crystals = [salt(), triclinic()]
    for name in ("a.cif", "a.extxyz", "a.csv"):
        path = tmp_path / name
        write_systems(crystals, path)
        read = read_systems(path)
        assert f"{name}: 2 records, 0 of them unreadable" in read.findings
        for one, other in zip(crystals, read.systems, strict=True):
            same(one, other, 1e-6)
            assert other.name == one.name
    write_systems(crystals[1:], tmp_path / "POSCAR")
    same(triclinic(), read_systems(tmp_path / "POSCAR").systems[0], 1e-6)
    write_systems(crystals[1:], tmp_path / "b.cif")
    assert len(core.Structure.from_file(tmp_path / "b.cif")) == 5
    assert [len(one) for one in ase.read(tmp_path / "a.extxyz", index=":")] == [8, 5]
    packed = tmp_path / "a.cif.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.cif").read_bytes()))
    assert len(read_systems(packed)) == 2


def test_molecules_as_xyz(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    for name in ("a.xyz", "a.extxyz"):
        write_systems([*MOLECULES, BROKEN], tmp_path / name)
        for one, other in zip(
            [*MOLECULES, BROKEN], read_systems(tmp_path / name).systems, strict=True
        ):
            same(one, other, 1e-6)
    path = tmp_path / "b.xyz"
    path.write_text(
        "2\nan odd comment: 'x=1\nC 0 0 0\nO 0 0 1.1\n\n2\n\nC 0 0 0\nQq 0 0 1\n3\n\nC 0 0 0\n"
    )
    records = read_systems(path).records
    assert [isinstance(one, System) for one in records] == [True, False, False]


def test_a_table_of_cifs(tmp_path: Path) -> None:
    pytest.importorskip("pymatgen.core")
    path = tmp_path / "a.csv"
    write_systems([salt(), triclinic()], path)
    lines = path.read_text().replace("material_id,", "material_id,spacegroup.number,", 1)
    lines = lines.replace("salt,", "salt,225,", 1).replace("triclinic,", "triclinic,1,", 1)
    path.write_text(lines + "bad,7,data_x\n")
    read = read_systems(path)
    assert [(one.name, one.spacegroup) for one in read.systems] == [("salt", 225), ("triclinic", 1)]
    assert read.unread == [Unread("bad", "its cell holds 0 data blocks with atoms instead of one")]
    (tmp_path / "b.csv").write_text("smiles,y\nC,1\n")
    with pytest.raises(UserError, match="no column cif"):
        read_systems(tmp_path / "b.csv")


def test_a_folder_of_structures(tmp_path: Path) -> None:
    pytest.importorskip("pymatgen.core")
    write_systems([salt()], tmp_path / "b.cif")
    write_systems(MOLECULES[:2], tmp_path / "a.sdf")
    (tmp_path / "c.cif").write_text("data_x\n")
    (tmp_path / "targets.csv").write_text("id,gap\nb,2.3\n")
    (tmp_path / "notes.md").write_text("x")
    read = read_systems(tmp_path)
    assert [one.name for one in read.records] == ["a.sdf alanine", "a.sdf O", "b.cif", "c.cif"]
    assert [one.kind for one in read.systems] == ["molecule", "molecule", "crystal"]
    assert "3 files, 4 records, 1 of them unreadable, such as c.cif" in read.findings[0]
    same(salt(), read.systems[2], 1e-4)
    (tmp_path / "b.cif").rename(tmp_path / "d.cif")
    assert read_systems(tmp_path).sha256 == read.sha256  # of the contents
    (tmp_path / "d.cif").unlink()
    (tmp_path / "a.sdf").unlink()
    with pytest.raises(UserError, match=r"holds no structure that can be read.*the first: "):
        read_systems(tmp_path)


def test_what_can_not_be_read_or_written(tmp_path: Path) -> None:
    pytest.importorskip("pymatgen.core")
    with pytest.raises(UserError, match="ends in"):
        read_systems(tmp_path / "a.pdf")
    with pytest.raises(UserError, match="no such file"):
        read_systems(tmp_path / "a.cif")
    (tmp_path / "a.cif").write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no molecule"):
        read_systems(tmp_path / "a.cif")
    flat = crystal(np.array([11]), np.zeros((1, 3)), np.zeros((3, 3)))
    for systems, name, said in (
        ([salt()], "b.sdf", "use .extxyz"),
        ([MOLECULES[0]], "b.cif", "is a molecule"),
        ([salt(), salt()], "POSCAR", "holds one crystal"),
        ([flat], "b.cif", "no volume"),
        ([salt()], "b.pdb", "ends in"),
    ):
        with pytest.raises(UserError, match=said):
            write_systems(systems, tmp_path / name)
        assert not (tmp_path / name).exists()
