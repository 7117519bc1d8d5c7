"""Tables as people have them: delimiters, encodings, headers, rows that are wrong, columns to be found."""

import codecs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.molecules.data.file import file_rows, read_structures
from isoform.molecules.data.tables import read_bytes_of

from .miniatures import SMILES, data, read, refusal, write


def test_a_plain_table(tmp_path):
    path = write(
        tmp_path / "a.csv", "name,smiles,logS\nethanol,CCO,-1.5\nwater,O,2\nbenzene,c1ccccc1,\n"
    )
    found = read(path)
    assert found.smiles == ["CCO", "O", "c1ccccc1"] and found.names == [
        "line 2",
        "line 3",
        "line 4",
    ]
    assert found.target_names == ["logS"] and found.units == [""] and found.task == "regression"
    np.testing.assert_array_equal(found.targets, [[-1.5], [2], [np.nan]])
    assert (
        found.origin == "a.csv"
        and len(found.sha256) == 64
        and not found.skipped
        and found.split is None
    )
    assert read(path, label="name").names == ["ethanol", "water", "benzene"]
    assert any("not to be predicted (text): name" in line for line in found.findings)


@pytest.mark.parametrize(
    ("delimiter", "name"), [(",", "a.csv"), (";", "a.csv"), ("\t", "a.tsv"), ("|", "a.txt")]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(tmp_path, delimiter, name, end):
    lines = [("smiles", "y"), ("CCO", "1.5"), ("CCN", "2.5")]
    path = write(tmp_path / name, end.join(delimiter.join(line) for line in lines) + end)
    found = read(path)
    assert found.smiles == ["CCO", "CCN"] and found.targets.tolist() == [[1.5], [2.5]]


def test_decimal_commas(tmp_path):
    path = write(tmp_path / "a.csv", "smiles;y;z\nCCO;1,5;7\nCCN;-2,25;>3,5\n")
    assert read(path).targets.tolist() == [[1.5, 7], [-2.25, 3.5]]


def test_encodings(tmp_path):
    text = "smiles,name,y\nCCO,Äthanol,1.5\nCCN,b,2.5\n"
    for encoding, said in (
        ("utf-8", False),
        ("utf-8-sig", False),
        ("latin-1", True),
        ("utf-16", False),
    ):
        found = read(write(tmp_path / f"{encoding}.csv", text, encoding), label="name")
        assert found.names == ["Äthanol", "b"] and found.targets.tolist() == [[1.5], [2.5]], (
            encoding
        )
        assert any("is not UTF-8" in line for line in found.findings) == said
    (tmp_path / "half.csv").write_bytes(
        codecs.BOM_UTF16_LE + "smiles,y\nC,1".encode("utf-16-le") + b"\n"
    )
    assert "damaged or unreadable" in refusal(read, tmp_path / "half.csv")


def test_packed_tables_and_damaged_ones(tmp_path):
    path = write(tmp_path / "a.csv.gz", "smiles,y\nCCO,1.5\nCCN,2.5\n")
    assert read(path).smiles == ["CCO", "CCN"]
    path.write_bytes(path.read_bytes()[:-9])
    assert "damaged or unreadable" in refusal(read, path)
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip at all")
    assert "damaged or unreadable" in refusal(read, tmp_path / "b.csv.gz")


def test_rows_that_are_wrong_are_named_by_line_and_the_rest_is_read(tmp_path):
    text = 'smiles,name,y\nCCO,"two\nlines",1.5\nCCN,x\n\nCCC,x,2.5,4\nCCF,x,3.5,,\n'
    found = read(write(tmp_path / "a.csv", text))
    assert found.smiles == ["CCO", "CCF"] and found.names == ["line 2", "line 7"]
    assert found.skipped == [
        ("line 4", "has 2 cells where there are 3 columns"), ("line 6", "has 4 cells where there are 3 columns")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line is empty"),
        ("\n\nsmiles,y\n", "the first line is empty"),
        ("smiles,y\n", "holds no molecule that can be read"),
        ("smiles,y\nCCO\n", "holds no molecule that can be read (line 2: has 1 cell"),
        ("smiles,smiles\nC,C\n", 'two columns have the same name, they are called "smiles"'),
        (
            'smiles,y\n"CCO,1\nCC,2\n',
            "line 2: unexpected end of data; is a quotation mark missing?",
        ),
        ("smiles,y\nC\0C,1\n", "is no text"),
        (
            "name,y\nPropanolol,1.5\nAspirin,2.5\n",
            "no column holds SMILES; name it with data.smiles (columns: name, y)",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, words):
    assert words in refusal(read, write(tmp_path / "a.csv", text))


def test_paths_that_are_no_files_of_molecules(tmp_path):
    assert "no such file (data.path)" in refusal(read, tmp_path / "none.csv")
    assert "is a folder" in refusal(read, tmp_path)
    assert "is no file of molecules by its ending" in refusal(read, write(tmp_path / "a.pdf", "x"))


def test_the_column_of_smiles_is_found_by_name_or_content(tmp_path):
    def where(text, **settings):
        found = read(write(tmp_path / "a.csv", text), targets=(), **settings)
        return found.smiles[0], next((line for line in found.findings if "SMILES are" in line), "")

    assert where("Canonical SMILES,smiles,y\nCC,CCO,1\nCC,CCN,2\n")[0] == "CCO"
    assert where("ISO-SMILES,y\nCCO,1\n") == (
        "CCO",
        'SMILES are in the column "ISO-SMILES", by its name',
    )
    assert where("mol,x\nPropanolol,CCO\nAspirin,CCN\n") == (
        "CCO",
        'SMILES are in the column "x", by its content',
    )
    assert where("mol,x\nCC,CCO\n")[0] == "CC"
    assert where("a,b,c\n1,CCO,train\n2,CCN,test\n")[0] == "CCO"
    said = 'SMILES are in the column "other" (data.smiles)'
    assert where("smiles,other\nCC,CCO\n", smiles="other") == ("CCO", said)
    assert where("smiles,Other Name\nCC,CCO\n", smiles="other_name")[0] == "CCO"
    path = write(tmp_path / "a.csv", "smiles,value\nCC,1\n")
    said = refusal(lambda: read(path, smiles="smile"))
    assert (
        'has no column "smile" (data.smiles); did you mean smiles?; its columns are smiles, value'
        in said
    )
    assert "data.label" in refusal(lambda: read(path, label="id"))


def test_tables_without_a_header(tmp_path):
    found = read(write(tmp_path / "a.csv", "CCO,1.5\nCCN,2.5\nCCC,0.5\n"))
    assert (
        found.smiles == ["CCO", "CCN", "CCC"]
        and found.names[0] == "line 1"
        and found.target_names == ["column 2"]
    )
    assert any("the first line of a.csv holds values" in line for line in found.findings)
    # A column may be called like a molecule, where another is called smiles.
    assert read(write(tmp_path / "b.csv", "smiles,CO\nCCO,1.5\n")).target_names == ["CO"]


def test_nameless_index_columns_are_no_targets(tmp_path):
    found = read(write(tmp_path / "a.csv", ",smiles,y\n0,CCO,1.5\n1,CCN,0.5\n2,CCC,0.25\n"))
    assert found.target_names == ["y"]
    assert "not to be predicted (running number): column 1" in found.findings


def test_lists_of_smiles(tmp_path):
    text = "# a comment\nCCO ethanol alone\n\nCCN\tamine\t1.5\nCC |$a;b$| ethane\nC1CC\n"
    found = read(write(tmp_path / "a.smi", text))
    assert found.smiles == ["CCO", "CCN", "CC", "C1CC"] and found.targets.shape == (4, 0)
    assert found.names == ["line 2", "line 4", "line 5", "line 6"]
    assert read(tmp_path / "a.smi", label="name").names == [
        "ethanol alone",
        "amine",
        "ethane",
        "line 6",
    ]
    headed = read(write(tmp_path / "b.smi", "smiles name\nCCO x\n"))
    assert headed.smiles == ["CCO"] and "line 1 of b.smi names the columns" in headed.findings
    table = read(write(tmp_path / "c.smi", "SMILES\tid\tlogP\nCCO\tx\t1.5\nCC\ty\t0.5\n"))
    assert table.target_names == ["logP"] and table.targets.tolist() == [[1.5], [0.5]]


def test_a_txt_is_a_list_or_a_table_by_its_first_line(tmp_path):
    assert read_bytes_of(write(tmp_path / "a.txt", "CCO\nCCN\n"))[1] == "smi"
    assert read_bytes_of(write(tmp_path / "b.txt", "smiles,y\nCCO,1\n"))[1] == "csv"
    assert read_bytes_of(write(tmp_path / "c.txt.gz", "CCO x\nCCN y\n"))[1] == "smi"
    assert read(tmp_path / "c.txt.gz").smiles == ["CCO", "CCN"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({
        "smiles": ["CCO", None, "CCN"], "y": [1.5, 2.5, None], "ok": [True, False, None], "lists": [[1], [2], [3]],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert found.smiles == ["CCO", "", "CCN"] and found.names == ["row 1", "row 2", "row 3"]
    assert found.target_names == ["y", "ok"]
    np.testing.assert_array_equal(found.targets, [[1.5, 1], [2.5, 0], [np.nan, np.nan]])
    assert "columns of lists or bytes are left out: lists" in found.findings
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    assert "is no parquet file that can be read" in refusal(read, tmp_path / "b.parquet")


def test_structures_to_predict_keep_every_row_in_its_place(tmp_path):
    text = "id,mol\na,CCO\nb\nc,no molecule\nd,CCN\n"
    path = write(tmp_path / "a.csv", text)
    found = read_structures(path, data(label="id"))
    assert [row.name for row in found] == ["a", f"{path} line 3", "c", "d"]
    assert [row.smiles for row in found] == ["CCO", "", "no molecule", "CCN"]
    assert [row.error for row in found] == ["", "has 1 cell where there are 2 columns", "", ""]


def test_a_table_of_few_different_texts_is_not_held_twice(tmp_path):
    path = write(tmp_path / "a.csv", "smiles,y\n" + "CCO,0.125\n" * 500)
    cells = file_rows(path).cells("y")
    assert len(cells) == 500 and len({id(cell) for cell in cells}) == 1


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
@settings(max_examples=70)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, raw):
    folder = tmp_path_factory.getbasetemp()
    for name in ("x.csv", "x.smi", "x.txt", "x.csv.gz", "x.sdf", "x.parquet"):
        path = folder / name
        path.write_bytes(raw)
        try:
            found = read(path, targets=())
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert len(found) > 0


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    st.lists(
        st.tuples(st.sampled_from(SMILES), cells, st.floats(-1e9, 1e9)), min_size=3, max_size=9
    )
)
@settings(max_examples=100)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["smiles", "note", "value"])
    writer.writerows([smiles, note, repr(value)] for smiles, note, value in rows)
    path = write(tmp_path_factory.getbasetemp() / "back.csv", buffer.getvalue())
    found = read(path, targets=("value",), task="regression")
    assert found.smiles == [smiles for smiles, _, _ in rows] and not found.skipped
    assert found.targets[:, 0].tolist() == [value for _, _, value in rows]
