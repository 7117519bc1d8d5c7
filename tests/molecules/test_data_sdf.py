"""SD files: records of their own, data items as columns, stereo chemistry from the blocks, tables beside them."""

import gzip

import numpy as np

from isoform.molecules.data.file import read_structures
from isoform.molecules.data.parsing import canonical, parse, parse_smiles

from .miniatures import SMILES, data, read, refusal, sd_record, write


def test_records_items_and_titles(tmp_path):
    items = [{"logS": str(-k / 4), "note": f"n{k}"} for k in range(5)]
    text = "".join(
        sd_record(s, f"mol {k}", items[k], v3000=k % 2 == 1) for k, s in enumerate(SMILES[:5])
    )
    found = read(write(tmp_path / "a.sdf", text))
    assert found.smiles == [canonical(parse_smiles(s)) for s in SMILES[:5]]
    assert found.names == [f"mol {k}" for k in range(5)] and found.target_names == ["logS"]
    assert found.targets[:, 0].tolist() == [-k / 4 for k in range(5)] and len(found.blocks) == 5
    assert all(
        canonical(parse("", block)) == s
        for block, s in zip(found.blocks, found.smiles, strict=True)
    )
    (tmp_path / "b.sdf.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    assert read(tmp_path / "b.sdf.gz").smiles == found.smiles


def test_titles_that_are_no_names_are_numbered(tmp_path):
    found = read(write(tmp_path / "a.sdf", "".join(sd_record(s, "same") for s in SMILES[:3])))
    assert found.names == ["record 1", "record 2", "record 3"]
    assert read(tmp_path / "a.sdf", label="title").names == ["same"] * 3


def test_a_bad_record_costs_itself_alone(tmp_path):
    bad = "bad\n  x\n\n  2  1  0\nM  END\n$$$$\n"
    text = sd_record("CCO", "a", {"y": "1.5"}) + bad + sd_record("CCN", "c", {"z": "9", "y": "2.5"})
    found = read(write(tmp_path / "a.sdf", text), targets=("y",))
    assert found.smiles == ["CCO", "CCN"] and found.targets[:, 0].tolist() == [1.5, 2.5]
    assert found.skipped == [("bad", "is no mol block that can be read")]
    structures = read_structures(tmp_path / "a.sdf", data())
    assert [row.name.split()[-1] for row in structures] == ["a", "bad", "c"]
    assert [bool(row.error) for row in structures] == [False, True, False]
    assert structures[1].block is None and structures[2].block.startswith("c\n")


def test_long_values_repeated_items_and_a_last_record_without_its_mark(tmp_path):
    text = sd_record("CCO", "a", {"note": "two\nlines"})
    text += sd_record("CCN", "b").removesuffix("$$$$\n") + ">  25 <y> (7)\n2.5\n\n> <y>\n9\n\n"
    found = read(write(tmp_path / "a.sdf", text), targets=("y",))
    np.testing.assert_array_equal(found.targets[:, 0], [np.nan, 2.5])
    assert read(tmp_path / "a.sdf", label="note", targets=()).names == ["two lines", "b"]


def test_items_called_like_our_columns_stay_apart(tmp_path):
    text = "".join(sd_record(s, items={"SMILES": "wrong"}) for s in ("CCO", "CCN"))
    assert read(write(tmp_path / "a.sdf", text), targets=()).smiles == ["CCO", "CCN"]


def test_a_single_mol_file(tmp_path):
    block = sd_record("C[C@H](N)C(=O)O", "alanine").removesuffix("$$$$\n")
    assert read(write(tmp_path / "a.mol", block)).smiles == ["C[C@H](N)C(=O)O"]


def test_a_table_beside_the_file_gives_labels_where_its_rows_match(tmp_path):
    path = write(tmp_path / "a.sdf", "".join(sd_record(s) for s in SMILES[:3]))
    write(tmp_path / "a.sdf.csv", "energy\n-1.5\n-2.5\n-0.5\n")
    found = read(path)
    assert found.target_names == ["energy"] and found.targets[:, 0].tolist() == [-1.5, -2.5, -0.5]
    write(tmp_path / "a.sdf.csv", "energy\n-1.5\n-2.5\n")
    found = read(path)
    assert not found.target_names
    assert (
        "a.sdf.csv beside it is left alone: its 2 rows can't be matched with 3 records"
        in found.findings
    )


def test_files_without_molecules(tmp_path):
    assert "holds no molecules" in refusal(read, write(tmp_path / "a.sdf", ""))
    assert "can be read (x: is no mol block" in refusal(
        read, write(tmp_path / "a.sdf", "x\n$$$$\n")
    )
    long = sd_record("CCO").replace("M  END", "M  SKP " + "x" * 2**21 + "\nM  END")
    assert "is longer than 2,097,152 characters" in refusal(read, write(tmp_path / "a.sdf", long))


def test_gdb1k(golden_data):
    found = read(golden_data / "molecules" / "gdb1k.sdf")
    assert (
        len(found) == 1000 and not found.skipped and found.smiles[:2] == ["C#CC#N", "C#CC(=O)C#C"]
    )
    assert any("991 rows can't be matched with 1,000 records" in line for line in found.findings)
