"""What a run was trained on is known again by --init, eval --data and predict; the metric without it is given."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from rdkit import Chem

from answers import rows_in
from commands import exit_code
from isoform.core import api
from isoform.core.engine.train import train
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.molecules import DOMAIN
from isoform.molecules.data.parsing import parse_smiles

from .runs import Plain, app, table, task_of


def respelled(text):
    """The same molecule, written from its last atom."""
    mol = parse_smiles(text)
    spelled = Chem.MolToSmiles(mol, rootedAtAtom=mol.GetNumAtoms() - 1, canonical=False)
    return spelled


def run_on(path, folder, **tables):
    said = []
    train(task_of(app(path, **tables), Plain), RunFolder(folder), progress=False, say=said.append)
    return said


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on 67 molecules, all of the table's."""
    folder = tmp_path_factory.mktemp("seen")
    said = run_on(table(folder / "molecules.csv"), folder / "run")
    return folder, said


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_an_ordinary_run_keeps_digests_and_has_nothing_to_say(first):
    folder, said = first
    seen = RunFolder(folder / "run").seen()
    sizes = task_of(app(folder / "molecules.csv")).sizes()
    assert seen.dtype == np.uint64 and len(seen) >= 2 * (sizes["train"] + sizes["val"])
    assert not any("trained on" in line for line in said)
    assert "unseen" not in RunFolder(folder / "run").results()
    task = (folder / "run" / "task.json").read_text()
    assert str(int(seen[0])) not in task


def test_test_molecules_of_the_starting_run_are_counted_and_left_out(first, tmp_path):
    folder, _ = first
    known = set(RunFolder(folder / "run").seen().tolist())
    # Other data whose split is given: five molecules of the first run are tested on, in another spelling.
    task = task_of(app(folder / "molecules.csv"))
    old = [task.data.molecules.smiles[row] for row in task.data.rows["train"][:5]]
    new = ["CCCCCCCC" + "C" * k for k in range(29)]
    texts = [*map(respelled, old), *new]
    split = ["test"] * 12 + ["val"] * 7 + ["train"] * 15
    rows = [
        {"id": k, "smiles": text, "label": 0.25 * k, "split": split[k]}
        for k, text in enumerate(texts)
    ]
    path = write_rows(tmp_path / "new.csv", rows)
    said = run_on(
        path, tmp_path / "run", data={"split": "given"}, train={"init": str(folder / "run")}
    )
    text = "\n".join(said)
    assert "5 of 12 molecules of test are among those that the starting run was trained on" in text
    results = RunFolder(tmp_path / "run").results()
    unseen = results["unseen"]
    assert (unseen["split"], unseen["samples"], unseen["known"]) == ("test", 12, 5)
    made = rows_in(tmp_path / "run" / "predictions.csv")
    errors = [abs(float(row["target"]) - float(row["prediction"])) for row in made]
    assert unseen["metrics"]["mae"] == pytest.approx(np.mean(errors[5:]), rel=1e-4)
    assert results["metrics"]["test"]["mae"] == pytest.approx(np.mean(errors), rel=1e-4)
    line = next(line for line in said if line.startswith("test without 5 of 12 molecules that"))
    assert f"mae {unseen['metrics']['mae']:.4g}" in line
    assert "test without 5 of 12" in (tmp_path / "run" / "card.md").read_text()
    # The second run knows all that the first one knew, and its own test is judged so again.
    assert known < set(RunFolder(tmp_path / "run").seen().tolist())
    again = api_eval(tmp_path / "run")
    assert again["unseen"]["known"] == 5


def api_eval(run, data=None):
    return evaluate_run(DOMAIN, run, data=data)


def test_other_data_are_judged_without_what_the_run_was_trained_on(first, tmp_path):
    folder, _ = first
    every = rows_in(folder / "molecules.csv")
    result = api_eval(folder / "run", folder / "molecules.csv")
    task = task_of(app(folder / "molecules.csv"))
    sizes = task.sizes()
    assert result["unseen"]["samples"] == 67
    assert result["unseen"]["known"] == sizes["train"] + sizes["val"]
    own = api_eval(folder / "run")
    assert own["unseen"] is None and not any("trained on" in note for note in own["notes"])
    # What is left of all is the run's own test.
    assert result["unseen"]["metrics"]["mae"] == pytest.approx(own["metrics"]["mae"], rel=1e-5)
    names = {task.data.molecules.names[row] for row in task.data.rows["train"]}
    part = write_rows(tmp_path / "t.csv", [row for row in every if row["id"] in names])
    notes = api_eval(folder / "run", part)["notes"]
    assert any(f"was trained on all {len(names)} molecules of test" in note for note in notes)


def test_predict_and_eval_say_it_on_the_command_line(first, capsys):
    folder, _ = first
    task = task_of(app(folder / "molecules.csv"))
    texts = [task.data.molecules.smiles[row] for row in task.data.rows["train"][:3]]
    inputs = [*map(respelled, texts), "CCCCCCCCCCCCCC", "no molecule"]
    assert exit_code("molecules", "predict", folder / "run", *inputs) == 0
    assert "3 of 4 molecules are among those that the run was trained on" in capsys.readouterr().err
    data = str(folder / "molecules.csv")
    assert exit_code("molecules", "eval", folder / "run", "--data", data, "--json") == 0
    found = capsys.readouterr()
    assert "that the run was trained on: mae" in found.err
    assert json.loads(found.out)["unseen"]["known"] > 40


def test_digests_know_other_spellings_and_tautomers(tmp_path):
    texts = ["Cc1c[nH]cn1", "OCC", "CCN", "CCCC"]
    others = ["Cc1cnc[nH]1", "CCO", "CCNC", "[CH3]CCC"]
    found = []
    for k, (one, keep) in enumerate([(texts, "mean"), (others, "keep")]):
        rows = [
            {"id": i, "smiles": t, "label": i, "split": "train" if i < 3 else "val"}
            for i, t in enumerate(one)
        ]
        path = write_rows(tmp_path / f"{k}.csv", rows)
        task = task_of(app(path, data={"split": "given", "duplicates": keep, "canonical": False}))
        found.append(np.concatenate([task.digests("train"), task.digests("val")]))
    assert found[0].shape == (4, 3)
    assert [bool(np.isin(row, found[0]).any()) for row in found[1]] == [True, True, False, True]


def test_a_run_without_a_record_says_nothing(first, tmp_path):
    folder, _ = first
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "seen.npz").unlink()
    assert RunFolder(tmp_path / "run").seen() is None
    result = api_eval(tmp_path / "run", folder / "molecules.csv")
    assert result["unseen"] is None
    assert api.load_predictor(DOMAIN, tmp_path / "run").remarks([{"smiles": "CCO"}]) == []
