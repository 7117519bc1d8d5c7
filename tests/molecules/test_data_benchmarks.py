"""Miniatures of every benchmark's official files: read, split, chosen from, refused where something is missing."""

import gzip
import shutil

import numpy as np
import pytest
import torch

from isoform.molecules.data.read import read_molecules

from .miniatures import (
    PARTS,
    SMILES,
    bace,
    bbbp,
    data,
    esol,
    load_molecules,
    molhiv,
    molpcba,
    pcqm4mv2,
    refusal,
    write,
)


def read(name, root, **settings):
    return read_molecules(data(source=name, root=root, **settings))


def part(found, name):
    return np.flatnonzero(found.split == name).tolist()


def test_esol(tmp_path):
    found = read("esol", esol(tmp_path))
    assert found.smiles == list(SMILES) and found.task == "regression" and found.split is None
    assert found.target_names == ["measured log solubility in mols per litre"] and found.units == [
        "log(mol/L)"
    ]
    assert (
        found.targets[:, 0].tolist() == [-k / 2 for k in range(20)] and found.names[0] == "line 2"
    )
    more = read(
        "esol", tmp_path, targets=("Molecular Weight", "measured log solubility in mols per litre")
    )
    assert more.units == ["", "log(mol/L)"] and more.targets[3].tolist() == [103.5, -1.5]
    assert "has no split" in refusal(lambda: read("esol", tmp_path, split="given"))


def test_bbbp_and_bace(tmp_path):
    found = read("bbbp", bbbp(tmp_path))
    assert (
        found.task == "binary" and found.target_names == ["p_np"] and found.smiles == list(SMILES)
    )
    assert found.targets[:, 0].tolist() == [k % 2 for k in range(20)]
    found = read("bace", bace(tmp_path), split="given")
    assert found.task == "binary" and found.target_names == ["Class"]
    assert (part(found, "train"), part(found, "val"), part(found, "test")) == tuple(
        map(list, PARTS.values())
    )
    assert read("bace", tmp_path, targets=("pIC50",)).task == "regression"


@pytest.mark.parametrize(
    ("name", "make", "file"), [("esol", esol, "delaney-processed.csv"), ("bbbp", bbbp, "BBBP.csv")]
)
def test_a_csv_may_lie_where_torch_geometric_keeps_it_or_be_named(tmp_path, name, make, file):
    make(tmp_path / "flat")
    (tmp_path / "pyg" / name / "raw").mkdir(parents=True)
    shutil.copy(tmp_path / "flat" / file, tmp_path / "pyg" / name / "raw" / file)
    assert read(name, tmp_path / "pyg").smiles == list(SMILES)
    assert read_molecules(data(source=name, path=tmp_path / "flat" / file)).smiles == list(SMILES)
    said = refusal(lambda: read(name, tmp_path))
    assert f"{tmp_path / file}: no such file; it is part of {file} (https://" in said


def test_molhiv(tmp_path):
    found = read("molhiv", molhiv(tmp_path))
    assert (
        found.target_names == ["HIV_active"] and found.task == "binary" and found.names[3] == "HIV3"
    )
    assert found.targets[:, 0].tolist() == [k % 2 for k in range(20)] and found.smiles == list(
        SMILES
    )
    assert (part(found, "train"), part(found, "val"), part(found, "test")) == tuple(
        map(list, PARTS.values())
    )
    (tmp_path / "ogbg_molhiv").rename(tmp_path / "hiv")
    assert (
        read("molhiv", tmp_path).smiles == read("molhiv", tmp_path / "hiv").smiles == found.smiles
    )


def test_molpcba_has_128_targets_and_most_labels_missing_stay_missing(tmp_path):
    found = read("molpcba", molpcba(tmp_path))
    assert found.targets.shape == (20, 128) and found.target_names[127] == "PCBA-1127"
    k, t = np.mgrid[:20, :128]
    np.testing.assert_array_equal(found.targets, np.where((k + t) % 3 == 0, np.nan, (k * t) % 2))
    few = read("molpcba", tmp_path, targets=("PCBA-1005", "PCBA-1002"))
    np.testing.assert_array_equal(few.targets, found.targets[:, [5, 2]])
    prepared = load_molecules(
        data(source="molpcba", root=tmp_path, split="given", duplicates="keep")
    )
    assert len(prepared) == 20


@pytest.mark.parametrize("new", [True, False])
def test_pcqm4mv2(tmp_path, new):
    found = read("pcqm4mv2", pcqm4mv2(tmp_path, new=new), split="given")
    assert (
        found.smiles == list(SMILES[:18]) and found.units == ["eV"] and found.names[-1] == "pcqm_17"
    )
    assert found.targets[:, 0].tolist() == [1 + k / 8 for k in range(18)]
    assert part(found, "train") == list(range(13)) and part(found, "test") == list(range(13, 18))
    assert (
        "2 molecules of the official test sets without a published label: left out"
        in found.findings
    )
    prepared = load_molecules(
        data(source="pcqm4mv2", root=tmp_path, split="given", duplicates="keep")
    )
    assert [int((prepared.split == split).sum()) for split in ("train", "val", "test")] == [
        12,
        1,
        5,
    ]
    below = tmp_path / "pyg"
    (below / "raw").mkdir(parents=True)
    shutil.move(tmp_path / "pcqm4m-v2", below / "raw" / "pcqm4m-v2")
    assert read("pcqm4mv2", below).smiles == found.smiles


@pytest.mark.parametrize(
    ("name", "make", "gone", "source"),
    [
        ("molhiv", molhiv, "ogbg_molhiv/mapping/mol.csv.gz", "hiv.zip"),
        ("molhiv", molhiv, "ogbg_molhiv/split/scaffold/valid.csv.gz", "hiv.zip"),
        ("molpcba", molpcba, "ogbg_molpcba/split/scaffold/test.csv.gz", "pcba.zip"),
        ("pcqm4mv2", pcqm4mv2, "pcqm4m-v2/raw/data.csv.gz", "pcqm4m-v2.zip"),
        ("pcqm4mv2", pcqm4mv2, "pcqm4m-v2/split_dict.pt", "pcqm4m-v2.zip"),
    ],
)
def test_a_missing_file_is_named_with_its_source(tmp_path, name, make, gone, source):
    (make(tmp_path) / gone).unlink()
    said = refusal(lambda: read(name, tmp_path))
    assert f"{tmp_path / gone}: no such file" in said and source in said


@pytest.mark.parametrize("name", ["esol", "molhiv", "molpcba", "pcqm4mv2"])
def test_the_folder_has_to_be_named_and_there(tmp_path, name):
    assert "data.root is not set: give the folder with" in refusal(
        read_molecules, data(source=name)
    )
    assert "no such file or folder (data.root); it should hold" in refusal(
        lambda: read(name, tmp_path / "none")
    )
    said = refusal(lambda: read(name, tmp_path, smiles="smiles"))
    assert 'data.smiles is set, but data.source = "' in said


def test_damaged_and_foreign_files_are_refused(tmp_path):
    root = molhiv(tmp_path)
    table = root / "ogbg_molhiv" / "mapping" / "mol.csv.gz"
    whole = gzip.decompress(table.read_bytes()).decode()
    write(table, whole.replace("\n1,", "\n2,", 1))
    assert "line 3: the label '2' is neither 0 nor 1" in refusal(lambda: read("molhiv", root))
    write(table, whole.replace("HIV5", "HIV5,9"))
    assert "line 7: has 4 cells where there are 3 columns" in refusal(lambda: read("molhiv", root))
    write(table, whole.replace("mol_id", "id"))
    assert "should name the columns smiles and mol_id" in refusal(lambda: read("molhiv", root))
    write(table, whole)
    write(root / "ogbg_molhiv" / "split" / "scaffold" / "test.csv.gz", "5\n99\n")
    assert "names row 99 and the table has 20" in refusal(lambda: read("molhiv", root))
    write(root / "ogbg_molhiv" / "split" / "scaffold" / "test.csv.gz", "5\nx\n")
    assert "should hold a row number in each line" in refusal(lambda: read("molhiv", root))


def test_a_split_of_pcqm4mv2_that_runs_something_is_inert(tmp_path):
    class Danger:
        def __reduce__(self):
            return (__import__("os").system, (f"touch {tmp_path / 'ran'}",))

    root = pcqm4mv2(tmp_path)
    torch.save({"train": np.arange(13), "valid": Danger()}, root / "pcqm4m-v2" / "split_dict.pt")
    assert 'has no "valid" rows' in refusal(lambda: read("pcqm4mv2", root))
    assert not (tmp_path / "ran").exists()
    torch.save({"train": np.arange(13)}, root / "pcqm4m-v2" / "split_dict.pt")
    assert 'has no "valid" rows' in refusal(lambda: read("pcqm4mv2", root))
    write(root / "pcqm4m-v2" / "raw" / "data.csv.gz", "smiles,gap\nC,1\n")
    assert "its first line should be idx,smiles,homolumogap, not smiles,gap" in refusal(
        lambda: read("pcqm4mv2", root)
    )


def test_the_published_files(golden_data):
    root = golden_data / "molecules"
    assert [len(read(name, root)) for name in ("esol", "bbbp", "bace")] == [1128, 2050, 1513]
    given = read("bace", root, split="given")
    assert [len(part(given, split)) for split in ("train", "val", "test")] == [203, 45, 1265]
    assert "line 61" in dict(load_molecules(data(source="bbbp", root=root)).skipped)
