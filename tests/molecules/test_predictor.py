"""One row a molecule, whatever the input is; a bad one is named and costs nothing but itself."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_model, load_trained
from isoform.molecules import DOMAIN
from isoform.molecules.data.inputs import Named, expand_inputs
from isoform.molecules.nearest import fingerprints_of, from_text
from isoform.molecules.predictor import MoleculePredictor

from .batches import batch_of
from .runs import TEXTS, trained

ODD = (
    "CCO",
    "nonsense",
    "",
    "C1CC",
    "C(C)(C)(C)(C)C",
    "CC>>CC",
    "[Na+].[Cl-]",
    "é",
    "C" * 300,
    "12",
    "CC\0",
)
GOOD = {"CCO", "[Na+].[Cl-]"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("regression"))


@pytest.fixture(scope="module")
def predictor(run: Path):
    return isoform.load(run)


def test_every_input_has_its_row_in_order(predictor) -> None:
    rows = predictor.predict(ODD)
    assert [row["input"] for row in rows] == list(ODD)
    for text, row in zip(ODD, rows, strict=True):
        assert bool(row["error"]) == (text not in GOOD) and (row["prediction"] is None) == bool(
            row["error"]
        )
    assert "nor is there a file" in rows[1]["error"] and "reaction" in rows[5]["error"]
    assert "300 atoms" in rows[8]["error"]


def test_predictions_are_those_of_evaluation(run: Path, predictor) -> None:
    """And so the molecules are cleaned, featurised and scaled as in training."""
    stored = rows_in(run / "predictions.csv")
    rows = predictor.predict([row["smiles"] for row in stored])
    extra = {"nearest", "similarity", "domain", "error"}
    assert set(rows[0]) == {*(stored[0].keys() - {"target"}), *extra}
    for ours, theirs in zip(rows, stored, strict=True):
        for name in ("prediction", "low 0.9", "high 0.9"):
            if name in theirs:
                assert ours[name] == pytest.approx(float(theirs[name]), abs=1e-4)


def test_a_prediction_does_not_depend_on_spelling_or_company(predictor) -> None:
    alone = [
        predictor.predict([text])[0]["prediction"] for text in ("OCC", "CCO", "[CH3][CH2][OH]")
    ]
    among = predictor.predict([*TEXTS, "OCC"])[-1]["prediction"]
    assert alone == pytest.approx([among] * 3, abs=1e-5)


def test_molecules_of_every_kind(predictor) -> None:
    hydrogens = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rows = predictor.predict(["CCO", Chem.MolFromSmiles("CCO"), hydrogens, Named("mine", "OCC"), 7])
    assert [row["prediction"] for row in rows[:4]] == pytest.approx(
        [rows[0]["prediction"]] * 4, abs=1e-5
    )
    assert rows[3]["input"] == "mine" and "int" in rows[4]["error"] and rows[2]["smiles"] == "CCO"


def test_the_nearest_training_molecule(run: Path, predictor) -> None:
    training = json.loads((run / "task.json").read_text())["training"]
    for row in predictor.predict(training[:5]):
        assert row["similarity"] == 1 and row["nearest"] in training
    made = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [made.GetFingerprint(Chem.MolFromSmiles(text)) for text in training]
    for row in predictor.predict(["FS(F)(F)(F)(F)F", "CCCCOC", "Nc1ccccc1CC"]):
        alike = DataStructs.BulkTanimotoSimilarity(
            made.GetFingerprint(Chem.MolFromSmiles(row["smiles"])), prints
        )
        assert row["similarity"] == pytest.approx(max(alike), abs=1e-4)


def test_a_run_keeps_the_fingerprints_of_all_it_was_trained_on(run: Path) -> None:
    state = load_trained(DOMAIN, run).state
    kept = from_text(state.fingerprints, len(state.training))
    np.testing.assert_array_equal(kept, fingerprints_of(state.training))
    assert len(kept) == state.data.sizes["train"]
    rows = MoleculePredictor(load_trained(DOMAIN, run)).predict(["CCO"])
    older = replace(
        load_trained(DOMAIN, run), state=state.model_copy(update={"fingerprints": None})
    )
    assert MoleculePredictor(older).predict(["CCO"]) == rows


def test_files_name_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("# made\nCCO ethanol\nnot_a_molecule\nCCN\n")
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("id,smiles,other\n1,CCC,CO\n2,CCCC,CN\n")
    with Chem.SDWriter(str(tmp_path / "c.sdf")) as writer:
        writer.write(Chem.MolFromSmiles("c1ccccc1"))
    a, b, c = (str(tmp_path / name) for name in ("a.smi", "b.csv.gz", "c.sdf"))
    (tmp_path / "empty").mkdir()
    none, empty = str(tmp_path / "none.smi"), str(tmp_path / "empty")
    found = expand_inputs([a, "CC", b, f"{b}:other", c, none, empty, f"{b}:colour"])
    assert [str(one) for one in found[:4]] == [f"{a} line 2", f"{a} line 3", f"{a} line 4", "CC"]
    assert [one.smiles for one in found[4:9]] == ["CCC", "CCCC", "CO", "CN", "c1ccccc1"] and found[
        8
    ].block
    assert (
        "no such file" in found[9].error
        and "is a folder" in found[10].error
        and "colour" in found[11].error
    )
    assert expand_inputs(found) == found


def test_the_command_line_predicts_and_embeds_files(run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.smi").write_text("CCO\nnot_a_molecule\nCCN\n")
    command = [
        "molecules",
        "predict",
        str(run),
        str(tmp_path / "a.smi"),
        "C#C",
        "--out",
        str(tmp_path / "p.csv"),
    ]
    assert exit_code(*command) == 0
    rows = rows_in(tmp_path / "p.csv")
    assert [row["smiles"] for row in rows] == ["CCO", "", "CCN", "C#C"]
    said = capsys.readouterr().err
    assert f"{tmp_path / 'a.smi'} line 2: is no SMILES" in said and "Traceback" not in said
    assert exit_code(*command, "--strict") == 2
    assert exit_code("molecules", "predict", run, "nonsense") == 2
    out = tmp_path / "e.npz"
    assert exit_code("molecules", "embed", run, tmp_path / "a.smi", "--out", out) == 0
    made = np.load(out)
    values = next(made[name] for name in made.files if made[name].ndim == 2)
    assert np.isnan(values).any(1).tolist() == [False, True, False] and values.dtype == np.float32


def test_features_are_what_the_head_reads(run: Path, predictor) -> None:
    texts = ["CCO", "c1ccccc1", "C#CC"]
    with pytest.warns(UserWarning, match="nonsense"):
        found = predictor.embed([*texts, "nonsense"])
    model = load_model(DOMAIN, run)
    with torch.no_grad():
        want = model.features(batch_of(*texts))
    np.testing.assert_allclose(found[:3], want, atol=1e-5)
    assert np.isnan(found[3]).all()
    with pytest.raises(UserError, match="no molecule"):
        predictor.embed([])


def test_salts_and_charges_go_as_the_run_says(tmp_path: Path) -> None:
    made = isoform.load(trained(tmp_path, data={"fragment": True, "neutralise": True}))
    salt, acid = made.predict(["CC(=O)[O-].[Na+]", "CC(=O)O"])
    assert salt["smiles"] == "CC(=O)O" and salt["prediction"] == acid["prediction"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes_come_with_probabilities(task: str, tmp_path: Path) -> None:
    row, bad = isoform.load(trained(tmp_path, task)).predict(["CCO", "nonsense"])
    assert 0 <= row["uncertainty"] <= 1 and bad["prediction"] is None
    if task == "binary":
        assert row["prediction"] == (row["probability"] >= 0.5)
    else:
        assert sum(row[f"p {name}"] for name in ("few", "some", "many")) == pytest.approx(
            1, abs=1e-5
        )
        assert row["probability"] == row[f"p {row['prediction']}"]


def test_descriptors_are_those_of_training(tmp_path: Path) -> None:
    folder = trained(tmp_path, head={"descriptors": True})
    stored = rows_in(folder / "predictions.csv")
    rows = isoform.load(folder).predict([row["smiles"] for row in stored])
    for ours, theirs in zip(rows, stored, strict=True):
        assert ours["prediction"] == pytest.approx(float(theirs["prediction"]), abs=1e-4)


def test_graphs_that_no_smiles_becomes_are_refused(run: Path) -> None:
    trained_model = load_trained(DOMAIN, run)
    other = trained_model.state.model_copy(update={"kinds": ((0,), (1,))})
    with pytest.raises(UserError, match="SMILES don't give"):
        MoleculePredictor(replace(trained_model, state=other))


def test_twenty_spellings_are_one_prediction_and_the_enantiomer_is_another(predictor) -> None:
    chiral = "C[C@H](N)C(=O)Nc1ccc(Cl)cc1C(F)(F)F"
    spelled = Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(chiral), 60, randomSeed=7)
    spellings = list(dict.fromkeys(spelled))[:20]
    assert len(spellings) == 20
    mirrored = chiral.replace("@", "@@")
    values = [row["prediction"] for row in predictor.predict([*spellings, mirrored])]
    assert max(values[:-1]) - min(values[:-1]) <= 1e-6 < 1e-5 < abs(values[-1] - values[0])
