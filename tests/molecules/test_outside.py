"""Molecules from outside: one reader for train, eval, predict and embed, and nothing of a file is lost on the way."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.data import writers
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.molecules.data.cells import cut_name, smiles_of_inchi
from isoform.molecules.data.file import read_file, read_structures
from isoform.molecules.data.inputs import expand_inputs
from isoform.molecules.task import task_from_run

from .miniatures import SMILES, case, data, sd_record, write
from .runs import TEXTS, app, task_of, trained

INCHI = [Chem.MolToInchi(Chem.MolFromSmiles(text)) for text in SMILES]
NUMBERS = "\n".join(f"{text},{k / 4}" for k, text in enumerate(SMILES)) + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose molecules are in the column `ligand`, beside another column of SMILES."""
    folder = tmp_path_factory.mktemp("ligand")
    path = folder / "molecules.csv"
    labels = [0.5 * text.upper().count("C") for text in TEXTS]
    columns = {"id": [f"m{k}" for k in range(len(TEXTS))], "smiles": "CCO", "ligand": TEXTS}
    pd.DataFrame({**columns, "label": labels}).to_csv(path, index=False)
    return train_on(folder, {"path": str(path), "smiles": "ligand"})


def train_on(folder: Path, source: dict[str, str]) -> Path:
    """The folder of a tiny run on a table, by settings of `data`."""
    made = task_of(app(Path(source["path"]), data=source))
    train(made, RunFolder(folder / "run"), progress=False, say=lambda line: None)
    return folder / "run"


# One reader ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own", "case"])
def test_every_verb_reads_the_column_of_the_run(run: Path, name: str, tmp_path, capsys) -> None:
    path = tmp_path / "new.csv"
    if name == "case":
        path.write_text(case("two_smiles_columns.csv").read_text().replace("ID", "id", 1))
        path.write_text(path.read_text().replace(",y\n", ",label\n", 1))
    else:
        path.write_text("id,smiles,ligand,label\na,CCO,CCN,1.5\nb,CCO,c1ccccc1,2.5\n")
    given = rows_in(path)
    want = [row["ligand"] for row in given]
    said = f'{path}: SMILES are in the column "ligand" (data.smiles)'
    assert exit_code("molecules", "predict", run, path, "--out", tmp_path / "p.csv") == 0
    rows = rows_in(tmp_path / "p.csv")
    assert said in capsys.readouterr().err
    canonical = [Chem.CanonSmiles(text) for text in want]
    assert [row["smiles"] for row in rows] == canonical
    alone = [row["prediction"] for row in isoform.load(run).predict(want)]
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], alone, atol=1e-5)
    assert exit_code("molecules", "embed", run, path, "--out", tmp_path / "e.npz") == 0
    assert said in capsys.readouterr().err
    made = np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(made["features"], isoform.load(run).embed(want), atol=1e-5)
    assert made["column ligand"].tolist() == want
    assert exit_code("molecules", "eval", run, "--data", path) == 0
    assert said in capsys.readouterr().err
    judged = rows_in(next(run.glob("predictions*.new.csv")))
    assert [row["smiles"] for row in judged] == canonical


def test_labels_in_another_unit_are_judged_in_that_of_the_run(tmp_path) -> None:
    def saved(name: str, unit: str, factor: float) -> Path:
        labels = [round(0.5 * text.upper().count("C") * factor, 9) for text in TEXTS]
        columns = {"id": range(len(TEXTS)), "smiles": TEXTS, "label": labels, "units": unit}
        pd.DataFrame(columns).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    task = task_of(app(saved("run.csv", "nM", 1)))
    state = task.inference_state()
    assert list(state.units) == ["nM"]
    same, other = (
        task_from_run(task.config, state, saved(f"{unit}.csv", unit, factor))
        for unit, factor in (("nM", 1), ("uM", 1e-3))
    )
    np.testing.assert_allclose(other.data.labels, same.data.labels, rtol=1e-9)
    assert any('"label" was converted from uM to nM, the run\'s unit' in n for n in other.notes)
    assert not any("converted" in note for note in same.notes)
    with pytest.raises(UserError, match='"label" is in ug/mL, and the run learned it in nM'):
        task_from_run(task.config, state, saved("mass.csv", "ug/mL", 1))


def test_a_file_without_the_column_of_the_run_is_refused_by_name(run: Path, tmp_path) -> None:
    path = write(tmp_path / "a.csv", "id,smiles\na,CCN\n")
    (row,) = isoform.load(run).predict(path)
    assert 'has no column "ligand" (data.smiles)' in row["error"]
    (row,) = isoform.load(run).predict(f"{path}:smiles")
    assert row["smiles"] == "CCN" and not row["error"] and row["input"] == "a"


def test_names_come_from_the_column_of_the_run_where_the_file_has_it(run: Path, tmp_path) -> None:
    named = write(tmp_path / "a.csv", "ID,ligand\nfirst,CCN\n,CCO\n")
    plain = write(tmp_path / "b.smi", "CCN\n")
    rows = isoform.load(run).predict([named, plain])
    names = ["first", f"{named} line 3", f"{plain} line 1"]
    assert [row["input"] for row in rows] == names


# All of a file stays -------------------------------------------------------------------------------------------------


def test_a_vendors_table_keeps_its_columns_and_its_order(run: Path, tmp_path, capsys) -> None:
    """A thousand rows, one of them no molecule: one row, one reason."""
    count, wrong = 1000, 617
    columns = {
        "Catalog ID": [f"Z{k * 7919 % 100_003:06d}" for k in range(count)],
        "ligand": [TEXTS[k * 31 % len(TEXTS)] for k in range(count)],
        "price, EUR": [f"{k % 97}.50" for k in range(count)],
        "prediction": [str(k % 3) for k in range(count)],
        "salt; note": ["" if k % 5 else 'two\n"lines", here' for k in range(count)],
        "error": ["none"] * count,
        "smiles": ["CCO"] * count,
    }
    columns["ligand"][wrong] = "C1CC"
    path = tmp_path / "vendor.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    assert exit_code("molecules", "predict", run, path, "--out", tmp_path / "p.csv") == 0
    err = capsys.readouterr().err
    rows = rows_in(tmp_path / "p.csv")
    renamed = ["prediction (input)", "error (input)", "smiles (input)"]
    front = ["Catalog ID", "ligand", "price, EUR", renamed[0], "salt; note", *renamed[1:]]
    assert list(rows[0])[:9] == [*front, "input", "smiles"] and list(rows[0])[-1] == "error"
    for ours, theirs in zip(front, columns, strict=True):
        assert [row[ours] for row in rows] == columns[theirs], ours
    failed = [k for k, row in enumerate(rows) if row["error"]]
    assert failed == [wrong] and rows[wrong]["prediction"] == ""
    assert err.count(f"{path} line ") == 1 and "999 of 1000" not in err
    assert [row["smiles"] for row in rows if row["smiles"]] == [
        Chem.CanonSmiles(text) for k, text in enumerate(columns["ligand"]) if k != wrong
    ]


def test_rows_of_the_wrong_length_keep_what_they_have(tmp_path) -> None:
    path = write(tmp_path / "a.csv", "id,smiles,y\na,CCO,1\nb\nc,CCN,2,9\n")
    found = read_structures(path, data())
    assert [one.cells["id"] for one in found] == ["a", "b", "c"]
    assert [one.error for one in found][1:] == [
        "has 1 cell where there are 3 columns", "has 4 cells where there are 3 columns",
    ]  # fmt: skip


def test_several_files_side_by_side(run: Path, tmp_path) -> None:
    a = write(tmp_path / "a.csv", "id,ligand\n1,CCO\n")
    b = write(tmp_path / "b.csv", "ligand,dose\nCCN,3\n")
    c = write(tmp_path / "c.sdf", sd_record("CCC", "propane", {"batch": "7"}))
    rows = isoform.load(run).predict([a, "CC", b, c])
    assert list(rows[0])[:6] == ["id", "ligand", "dose", "title", "batch", "input"]
    assert [row["dose"] for row in rows] == [None, None, "3", None]
    assert [row["batch"] for row in rows] == [None, None, None, "7"]
    assert writers.csv_text(writers.columns_of(rows)).startswith("id,ligand,dose,title,batch,input")


def test_features_keep_the_columns_too(run: Path, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write(tmp_path / "a.csv", "id,input,ligand\nx,1,CCO\ny,2,CCN\n")
    assert exit_code("molecules", "embed", run, path, "C", "--out", tmp_path / "e.parquet") == 0
    found = parquet.read_table(tmp_path / "e.parquet")
    assert found.column_names == ["id", "input (input)", "ligand", "input", "features"]
    assert found.column("id").to_pylist() == ["x", "y", ""]


# One input -----------------------------------------------------------------------------------------------------------


def test_a_text_a_path_and_a_table_are_one_input(run: Path, tmp_path) -> None:
    predictor = isoform.load(run)
    listed = predictor.predict(["CCO"])
    assert predictor.predict("CCO") == listed and len(listed) == 1
    assert len(predictor.predict(Chem.MolFromSmiles("CCO"))) == 1
    path = write(tmp_path / "a.csv", "id,ligand\na,CCO\nb,CCN\n")
    rows = predictor.predict(path)
    assert predictor.predict(str(path)) == rows == predictor.predict([path])
    assert [row["id"] for row in rows] == ["a", "b"]
    frame = pd.read_csv(path)
    assert [row["smiles"] for row in predictor.predict(frame)] == ["CCO", "CCN"]
    assert [row["id"] for row in predictor.predict([frame, "C"])] == ["a", "b", None]
    assert [row["input"] for row in predictor.predict(frame["ligand"])] == ["CCO", "CCN"]
    np.testing.assert_array_equal(predictor.embed(frame), predictor.embed(path))
    assert predictor.embed("CCO").shape == (1, 16)
    with pytest.raises(UserError, match="a dict is no list of inputs"):
        predictor.predict({"smiles": "CCO"})
    (row,) = predictor.predict(pd.DataFrame({"name": ["CCO"]}))
    assert 'has no column "ligand"' in row["error"]


# Spellings and formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["BBB", "PPB", "IC", "S", "BCF", "CNS", "C", "No.", "Ki"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_names_of_columns_may_be_molecules(tmp_path, word: str, order: str) -> None:
    lines = [("drug", word), *((text, str(k / 4)) for k, text in enumerate(SMILES))]
    lines = lines if order == "first" else [line[::-1] for line in lines]
    found = read_file(write(tmp_path / "a.csv", "\n".join(map(",".join, lines))), data())
    assert found.smiles == list(SMILES) and found.target_names == [word]


def test_the_column_of_molecules_may_be_called_as_one(tmp_path) -> None:
    found = read_file(write(tmp_path / "a.csv", f"S,y\n{NUMBERS}"), data())
    assert found.smiles == list(SMILES) and found.target_names == ["y"]
    bare = read_file(write(tmp_path / "b.csv", NUMBERS), data())
    assert bare.smiles == list(SMILES) and bare.target_names == ["column 2"]
    gap = read_file(write(tmp_path / "c.csv", f"CC,NA\n{NUMBERS}"), data())
    assert gap.smiles == ["CC", *SMILES] and np.isnan(gap.targets[0, 0])


@pytest.mark.parametrize("word", ["BBB", "BCF", "IC", "S"])
def test_headers_of_the_cases(word: str) -> None:
    found = read_file(case(f"header_{word}.csv"), data())
    assert len(found) == 20 and found.smiles[0] == "CCO" and found.target_names == [word]
    assert np.isfinite(found.targets).all()


@pytest.mark.parametrize(
    ("name", "first", "targets"),
    [
        ("tsv_commas.tsv", "CNC", ["activity (mean, sd, n)"]),
        ("sep_line.csv", "CNC", ["y"]),
        ("comment_csv.csv", "CNC", ["y"]),
        ("smi_comma.smi", "CCO", []),
        ("tab_trailing_name.csv", "CCO", ["y"]),
        ("inchi.csv", "CCO", ["y"]),
    ],
)
def test_the_cases_are_read(name: str, first: str, targets: list[str]) -> None:
    path = case(name)
    found = read_file(path, data())
    assert found.smiles[0] == first and found.target_names == targets and not found.skipped
    assert len(found) == (60 if first == "CNC" else 20)
    structures = read_structures(path, data())
    assert [one.smiles for one in structures] == found.smiles
    said = "\n".join(found.findings)
    if name == "smi_comma.smi":
        assert read_file(path, data(label="name")).names[:2] == ["mol0", "mol1"]
    if name == "tab_trailing_name.csv":
        assert "20 cells with a name behind the SMILES" in said and "mol0" in said
    if name == "inchi.csv":
        assert "20 InChI" in said


def test_a_name_behind_a_smiles_is_no_part_of_it(tmp_path) -> None:
    text = "smiles,y\nCCO ethanol of mine,1\nCC |$a;b$|,2\nCC O,3\nCCN,4\nfoo bar,5\n"
    found = read_structures(write(tmp_path / "a.csv", text), data())
    texts = [one.smiles for one in found]
    assert texts == ["CCO", "CC |$a;b$|", "CC O", "CCN", "foo bar"]
    assert found[0].cells["smiles"] == "CCO ethanol of mine"
    assert cut_name("c1ccccc1\tbenzene") == ("c1ccccc1", "benzene") and cut_name("") == ("", "")
    (one,) = expand_inputs(["CCO ethanol"])
    assert (one.name, one.smiles, one.error) == ("CCO ethanol", "CCO", "")


@pytest.mark.parametrize("mark", [",", ", ", ";", " ", "\t"])
def test_lists_with_any_mark_behind_the_smiles(tmp_path, mark: str) -> None:
    path = write(tmp_path / "a.smi", "".join(f"{s}{mark}mol{k}\n" for k, s in enumerate(SMILES)))
    found = read_file(path, data(label="name"))
    assert found.smiles == list(SMILES) and found.names[7] == "mol7"


def test_inchi_wherever_a_smiles_may_stand(tmp_path) -> None:
    want = [Chem.CanonSmiles(smiles_of_inchi(text)[0]) for text in INCHI]
    assert [Chem.MolToInchi(Chem.MolFromSmiles(text)) for text in want] == INCHI
    table = pd.DataFrame({"key": INCHI, "y": range(len(INCHI))})
    table.to_csv(tmp_path / "a.csv", index=False)
    write(tmp_path / "b.smi", "".join(f"{text} mol{k}\n" for k, text in enumerate(INCHI)))
    for source in (tmp_path / "a.csv", tmp_path / "b.smi", table):
        assert [one.smiles for one in read_structures(source, data())] == want
    assert [one.smiles for one in expand_inputs(INCHI)] == want
    both = table.assign(smi="C")
    assert {one.smiles for one in read_structures(both, data())} == {"C"}
    bad = write(tmp_path / "c.csv", "InChI,y\n" + '"InChI=1S/C2H6O/c1-2-3",1\nInChI=1S/Xx,2\n')
    found = read_structures(bad, data())
    assert found[1].error == "is no InChI that can be read" and not found[1].smiles
    assert "no InChI" in expand_inputs(["InChI=nonsense"])[0].error
    for text in ("InChI=1S/2003CH4/h2003*1H4", "InChI=1S/H2O.2002H2/h1H2;2002*1H"):
        assert "has 2003 atoms, more than 2000" in expand_inputs([text])[0].error
    assert smiles_of_inchi("InChI=1S/1999H2O/h1999*1H2") == (".".join(["O"] * 1999), "")


def test_a_cell_of_any_length_costs_its_row_alone(run: Path, tmp_path) -> None:
    long = "C" * 131_073
    path = write(tmp_path / "a.csv", f"id,ligand,note\na,CCO,{long}\nb,{long},x\nc,CCN,\n")
    rows = isoform.load(run).predict(path)
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert "is longer than 10,000 characters" in rows[1]["error"] and rows[0]["note"] == long
    listed = read_structures(write(tmp_path / "a.smi", f"CCO {long}\n{long}\nCCN\n"), data())
    assert [one.smiles for one in listed] == ["CCO", long, "CCN"]


def test_spreadsheets(run: Path, tmp_path) -> None:
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame({"id": ["a", "b"], "ligand": ["CCO", "CCN"], "IC": [1.5, 2.5]})
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    rows = isoform.load(run).predict(tmp_path / "a.xlsx")
    assert [(row["id"], row["smiles"], row["IC"]) for row in rows] == [
        ("a", "CCO", "1.5"),
        ("b", "CCN", "2.5"),
    ]
    bare = pd.DataFrame({"x": SMILES, "S": np.arange(len(SMILES)) / 4})
    bare.to_excel(tmp_path / "b.xlsx", index=False)
    found = read_file(tmp_path / "b.xlsx", data())
    assert found.smiles == list(SMILES) and found.target_names == ["S"]


@pytest.mark.parametrize(
    "text",
    [
        "id,ligand\na,CCO\nb,CCN\n",
        "CCO a\nCCN b\n",
        "ligand\tid\nCCO\ta\nCCN\tb\n",
        sd_record("CCO", "a") + sd_record("CCN", "b"),
    ],
)
def test_standard_input(run: Path, text: str, monkeypatch, tmp_path) -> None:
    buffer = io.BytesIO(text.encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=buffer))
    assert exit_code("molecules", "predict", run, "-", "--out", tmp_path / "p.csv") == 0
    assert [row["smiles"] for row in rows_in(tmp_path / "p.csv")] == ["CCO", "CCN"]


def test_folders_give_their_files_of_molecules(tmp_path) -> None:
    folder = tmp_path / "lib"
    write(folder / "b.csv", "id,smiles\n1,CCN\n")
    write(folder / "a" / "x.mol", sd_record("CCO", "x").removesuffix("$$$$\n"))
    write(folder / "c.smi.gz", "CCC\n")
    write(folder / "d.sdf", sd_record("CC", "x"))
    write(folder / "d.sdf.csv", "y\n1\n")
    write(folder / ".hidden.smi", "C\n")
    write(folder / "notes.md", "none")
    said: list[str] = []
    found = expand_inputs([folder], say=said.append)
    left_out = [line for line in said if "left out" in line]
    assert left_out == [
        f"{folder}: 2 files left out, hidden or no molecules by the ending: .hidden.smi, notes.md"
    ]
    assert [one.smiles for one in found] == ["CCO", "CCN", "CCC", "CC"]
    assert found[1].name == f"{folder / 'b.csv'} line 2" and found[3].cells["y"] == "1"
    (tmp_path / "none").mkdir()
    assert "is a folder without" in expand_inputs([tmp_path / "none"])[0].error


# What is written -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own", "case"])
def test_formulas_are_written_as_text(run: Path, name: str, tmp_path) -> None:
    if name == "case":
        path = case("formula.csv")
        formula = '=HYPERLINK("http://x","y")'
    else:
        formula = "@SUM(1)"
        path = write(tmp_path / "a.csv", f'smiles,y,name\nCCO,-1.5,"{formula}"\nCCN,+2,-\n')
    assert (
        exit_code("molecules", "predict", run, f"{path}:smiles", "--out", tmp_path / "p.csv") == 0
    )
    rows = rows_in(tmp_path / "p.csv")
    assert rows[0]["name"] == f"'{formula}"
    assert [row["y"] for row in rows] == [row["y"] for row in rows_in(path)]
    assert (
        exit_code("molecules", "predict", run, f"{path}:smiles", "--out", tmp_path / "p.jsonl") == 0
    )
    assert json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])["name"] == formula


def test_the_names_of_an_evaluation_are_written_as_text(tmp_path) -> None:
    """data.label names the column of formulas: predictions.csv holds them."""
    folder = tmp_path / "run"
    path = tmp_path / "molecules.csv"
    names = [f"=CMD({k})" for k in range(len(TEXTS))]
    pd.DataFrame({"id": names, "smiles": TEXTS, "label": range(len(TEXTS))}).to_csv(path)
    train_on(tmp_path, {"path": str(path)})
    written = [row["input"] for row in rows_in(folder / "predictions.csv")]
    assert written and all(name.startswith("'=CMD(") for name in written)


def test_probabilities_have_all_their_digits(tmp_path) -> None:
    """Molecules that the model tells apart stay apart, in the file too."""
    made = isoform.load(trained(tmp_path, "binary"))
    rows = made.predict(list(TEXTS))
    path = tmp_path / "p.csv"
    writers.write_rows(rows, path)
    values = [float(row["probability"]) for row in rows_in(path)]
    assert values == [row["probability"] for row in rows]
    assert any(round(value, 6) != value for value in values)


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=9)


@given(st.lists(st.tuples(cells, cells), min_size=2, max_size=7))
@settings(max_examples=60)
def test_cells_stay_as_they_are(tmp_path_factory, rows) -> None:
    """Whatever a row holds beside its molecule is what comes out, without the blanks around it."""
    path = tmp_path_factory.getbasetemp() / "given.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", "note", "more"])
        writer.writerows([SMILES[k], *row] for k, row in enumerate(rows))
    found = read_structures(path, data())
    assert [(one.cells["note"], one.cells["more"]) for one in found] == [
        (note.strip(), more.strip()) for note, more in rows
    ]
