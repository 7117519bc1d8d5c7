"""Baselines of each kind of label: better than a constant, blind to missing labels."""

import csv
import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from commands import exit_code
from isoform.core import api
from isoform.core.baselines import QUIET, Fitting, chosen
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, UserError
from isoform.core.runs.folder import RunFolder
from isoform.molecules import DOMAIN
from isoform.molecules import baselines as B
from isoform.molecules.config import MoleculesApp, MoleculesEval
from isoform.molecules.data import descriptors
from isoform.molecules.data.dataset import read_data
from isoform.molecules.metrics import score
from isoform.molecules.task import MoleculesTask

from . import runs
from .batches import QM9
from .smiles import MOLECULES

pytest.importorskip("sklearn")
pytest.importorskip("lightgbm")
TEXTS = list(dict.fromkeys([*QM9, *MOLECULES[:20]]))
BETTER = {"regression": ("mae", -1), "binary": ("roc_auc", 1), "multiclass": ("top1", 1)}

CONSTANT = {"regression": "mean", "binary": "majority", "multiclass": "majority"}


class WithBaselines(MoleculesTask):
    """Without the pictures that a finished run has."""

    def figures(self, model, outputs):
        return []


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch):
    monkeypatch.setitem(B.FOREST, "n_estimators", 11)
    monkeypatch.setattr(B, "TREES", 80)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """kind -> molecules whose label the number of carbons nearly decides."""
    folder, found = tmp_path_factory.mktemp("molecules"), {}
    for kind in BETTER:
        with (folder / f"{kind}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [["smiles", "label"], *([text, label_of(kind, text)] for text in TEXTS)]
            )
        data = {
            "path": str(folder / f"{kind}.csv"),
            "cache": str(folder),
            "val_fraction": 0.2,
            "test_fraction": 0.3,
        }
        config = MoleculesApp.model_validate({"domain": "molecules", "app": "made", "data": data})
        found[kind] = read_data(config)
        assert found[kind].kind == kind
    return found


def label_of(kind, text):
    count = text.upper().count("C")
    if kind == "regression":
        return 0.5 * count + 0.01 * (len(text) % 7)
    return (
        int(count > 5)
        if kind == "binary"
        else "few"
        if count < 4
        else "some"
        if count < 7
        else "many"
    )


def offered(data):
    return B.baselines(data, lambda guess, target: score(data, guess, target))


def judged(data):
    fitting = Fitting(say=pytest.fail)
    return {one.name: one.fit(fitting) for one in offered(data) if not one.left_out}


def with_targets(data, targets):
    names = [f"t{k}" for k in range(targets.shape[1])]
    molecules = replace(
        data.molecules, targets=targets, target_names=names, units=[""] * len(names)
    )
    return replace(data, molecules=molecules, scaling=type(data.scaling).identity(len(names)))


@pytest.mark.parametrize("kind", BETTER)
def test_each_learns_what_there_is(made, kind):
    data = made[kind]
    found = judged(data)
    constant = "mean" if kind == "regression" else "majority"
    expected = {constant, "random_forest", "descriptor_boosting"} | (
        {"logistic"} if kind != "regression" else set()
    )
    assert set(found) == expected
    metric, sign = BETTER[kind]
    for name, splits in found.items():
        assert set(splits) == {"val", "test"} and all(map(math.isfinite, splits["test"].values()))
        if name != constant:
            assert sign * splits["test"][metric] > sign * found[constant]["test"][metric], name
    assert judged(data) == found


def test_the_constants_by_hand(made):
    data = made["regression"]
    train, test = data.targets("train"), data.targets("test")
    assert judged(data)["mean"]["test"]["mae"] == pytest.approx(abs(test - train.mean()).mean())
    data = made["multiclass"]
    counts = np.bincount(data.targets("train"), minlength=3) + 1
    expected = -np.log(counts / counts.sum())[data.targets("test")].mean()
    assert judged(data)["majority"]["test"]["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_several_targets_with_missing_labels(made, kind):
    """A target is learned from its own known labels: as if it were alone; one without training labels is left out."""
    data = made[kind]
    label = data.labels[:, 0]
    hidden = np.where(np.arange(len(label)) % 5 == 0, np.nan, label)
    never = label.copy()
    never[data.rows["train"]] = np.nan
    several = judged(with_targets(data, np.stack([label, hidden, never, 1 - label], 1)))
    alone = judged(with_targets(data, np.stack([hidden], 1)))
    metric = BETTER[kind][0]
    for name, splits in several.items():
        assert splits["test"][f"{metric} t1"] == pytest.approx(alone[name]["test"][metric]), name
        assert f"{metric} t2" not in splits["test"] and math.isfinite(splits["test"]["loss"])


def test_targets_that_lack_no_label_share_a_forest(made, monkeypatch):
    data = made["regression"]
    label = data.labels[:, 0]
    monkeypatch.setattr(B, "_each", lambda *_: pytest.fail("a forest a target"))
    both = B.Sample(np.eye(len(label), dtype=np.uint8), np.stack([label, -label, 2 * label], 1))
    guess = B.random_forest(both, None, "regression", 3, QUIET)(both.x)
    assert guess.shape == both.y.shape
    np.testing.assert_allclose(guess[:, 1:], guess[:, :1] * [-1, 2])


def test_labels_all_alike_are_no_obstacle(made):
    for kind in ("binary", "multiclass"):
        data = made[kind]
        found = judged(
            with_targets(data, np.ones_like(data.molecules.targets))
            if kind == "binary"
            else alike(data)
        )
        assert all(0 <= splits["test"]["loss"] < 0.2 for splits in found.values()), kind


def alike(data):
    return replace(
        data, molecules=replace(data.molecules, targets=np.ones_like(data.molecules.targets))
    )


def test_large_data_are_thinned_and_it_is_said(made, monkeypatch):
    monkeypatch.setattr(B, "TRAIN_ROWS", 17)
    monkeypatch.setattr(B, "JUDGED_ROWS", 7)
    data, said = made["regression"], []
    rows = B._drawn(data, ["val", "test"])
    assert [len(rows[split]) for split in ("train", "val", "test")] == [17, 7, 7]
    for one in offered(data):
        one.fit(Fitting(said.append))
    assert len(said) == 3  # once, not once a baseline
    for split, at in rows.items():
        assert (
            len(set(at)) == len(at)
            and at[0] == data.rows[split][0]
            and at[-1] == data.rows[split][-1]
        )
    assert "17 evenly spread molecules of the" in said[0]


def test_graphs_without_smiles_and_many_targets_have_constants_alone(made, monkeypatch):
    data = made["regression"]
    bare = replace(
        data,
        molecules=replace(
            data.molecules, smiles=[""] * len(data.molecules), graphs=data.store.graphs
        ),
    )
    assert set(judged(bare)) == {"mean"}
    assert {one.left_out for one in offered(bare)[1:]} == {"the molecules come without SMILES"}
    monkeypatch.setattr(B, "MOST_TARGETS", 2)
    many = with_targets(made["binary"], np.tile(made["binary"].labels, 3))
    assert set(judged(many)) == {"majority"} and "more than 2 targets" in offered(many)[1].left_out


def test_without_a_split_to_judge_or_to_learn_from_there_is_none(made):
    data = made["regression"]
    for kept in (["train"], ["val", "test"]):
        assert judged(replace(data, rows={split: data.rows[split] for split in kept})) == {}
    assert set(
        judged(replace(data, rows={s: data.rows[s] for s in ("train", "test")}))[
            "descriptor_boosting"
        ]
    ) == {"test"}


def test_a_library_that_is_missing_concerns_one_baseline(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    boosting = offered(made["regression"])[-1]
    with pytest.raises(ImportError, match="lightgbm"):
        boosting.fit(QUIET)


@pytest.mark.parametrize(("name", "what"), [
    ("random_forest", "targets"), ("logistic", "targets"), ("descriptor_boosting", "trees"),
])  # fmt: skip
def test_a_long_fit_stops_where_it_is_told_to(made, name, what):
    """Between the targets' models, and between trees."""
    data, shown = made["binary"], []
    fitting = Fitting(show=shown.append, stopping=lambda: any(what in line for line in shown))
    several = with_targets(data, np.tile(data.labels, 3))
    one = next(one for one in offered(several) if one.name == name)
    with pytest.raises(Preempted):
        one.fit(fitting)
    assert sum(what in line for line in shown) == 1


@pytest.mark.parametrize(("name", "what"), [
    ("random_forest", "trees"), ("descriptor_boosting", "molecules described"),
])  # fmt: skip
def test_a_forest_and_descriptors_stop_halfway(made, name, what, monkeypatch, tmp_path):
    monkeypatch.setattr(B, "TREES_AT_ONCE", 3)
    monkeypatch.setattr(descriptors, "CHUNK", 13)
    data, shown = made["regression"], []
    settings = data.config.data.model_copy(update={"cache": str(tmp_path)})
    data = replace(data, config=data.config.model_copy(update={"data": settings}))
    fitting = Fitting(show=shown.append, stopping=lambda: sum(what in one for one in shown) == 2)
    one = next(one for one in offered(data) if one.name == name)
    with pytest.raises(Preempted):
        one.fit(fitting)
    last = [one for one in shown if what in one][-1]
    assert last.startswith(("trees 3/", "molecules described 26/"))


def test_a_forest_that_grows_in_portions_is_the_same(made, monkeypatch):
    monkeypatch.setattr(B, "TREES_AT_ONCE", 4)
    portions = judged(made["binary"])["random_forest"]
    monkeypatch.setattr(B, "TREES_AT_ONCE", 11)
    assert judged(made["binary"])["random_forest"] == portions


def test_minutes_grow_with_what_is_learned(made):
    data = made["binary"]
    few, many = offered(data), offered(with_targets(data, np.tile(data.labels, 3)))
    assert all(a.minutes < b.minutes for a, b in zip(few[1:], many[1:], strict=True))


@pytest.mark.parametrize("names", [(), ("random_forest",), ("logistic", "majority")])
def test_baselines_are_chosen_by_name(made, names):
    """Each is what it is in the whole table; names of other domains and of numbers are refused."""
    data, whole = made["binary"], judged(made["binary"])
    settings = MoleculesEval(baselines=names)
    found = {one.name: one.fit(QUIET) for one in chosen(offered(data), settings)}
    assert found == {name: whole[name] for name in whole if name in names}
    with pytest.raises(ValidationError, match="did you mean random_forest"):
        MoleculesEval(baselines=("random_forrest",))
    with pytest.raises(
        UserError, match="mean isn't for data of this kind; there are majority, logi"
    ):
        chosen(offered(data), MoleculesEval(baselines=("mean",)))


# What a run stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(BETTER))
def stored(request, tmp_path_factory):
    """(kind, folder) of a small run that was trained with its baselines."""
    folder = tmp_path_factory.mktemp(request.param)
    path = runs.table(folder / "molecules.csv", request.param)
    settings = {"eval": {"baselines": ["descriptor_boosting", CONSTANT[request.param]]}}
    task = runs.task_of(runs.app(path, train={"epochs": 1}, **settings), WithBaselines)
    train(task, RunFolder(folder / "run"), progress=False, say=lambda line: None)
    return request.param, folder / "run", task


def test_a_stored_baseline_predicts_as_it_was_judged(stored):
    kind, run, task = stored
    results = json.loads((run / "results.json").read_text())
    names = ["descriptor_boosting", CONSTANT[kind]]
    assert results["stored_baselines"] == sorted(names)
    rows = task.data.rows["test"]
    texts = [task.data.molecules.smiles[row] for row in rows]
    for name in names:
        made = api.load_baseline(DOMAIN, run, name).predict([*texts, "no molecule"])
        assert made[-1]["error"] and "low 0.9" not in made[0] and "set 0.9" not in made[0]
        columns = {
            "regression": ["prediction"],
            "binary": ["probability"],
            "multiclass": [f"p {name}" for name in task.data.names],
        }[kind]
        guess = np.array([[row[column] for column in columns] for row in made[:-1]])
        for metric, value in task.score(guess, task.data.labels[rows]).items():
            assert value == pytest.approx(results["baselines"][name]["test"][metric], abs=2e-5)


def test_stored_baselines_of_a_logarithm_predict_in_units(tmp_path):
    path = runs.table(tmp_path / "molecules.csv", "decades")
    settings = {
        "data": {"transform": ["log10"]},
        "eval": {"baselines": ["descriptor_boosting", "mean"]},
    }
    task = runs.task_of(runs.app(path, train={"epochs": 1}, **settings), WithBaselines)
    train(task, RunFolder(tmp_path / "run"), progress=False, say=lambda line: None)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = task.data.rows["test"]
    texts = [task.data.molecules.smiles[row] for row in rows]
    for name in ("descriptor_boosting", "mean"):
        made = api.load_baseline(DOMAIN, tmp_path / "run", name).predict(texts)
        found = task.score(np.array([[row["prediction"]] for row in made]), task.data.labels[rows])
        told = results["baselines"][name]["test"]
        assert found["mae_learned"] == pytest.approx(told["mae_learned"], abs=2e-5)
        assert found["mae"] == pytest.approx(told["mae"], rel=1e-4)


def test_baselines_from_the_command_line(stored, tmp_path, capsys):
    _, run, _ = stored
    words = ["molecules", "predict", str(run), "CCO", "c1ccccc1", "--out", str(tmp_path / "p.csv")]
    assert exit_code(*words, "--with", "descriptor_boosting") == 0
    assert "2 of 2 predicted" in capsys.readouterr().out
    assert exit_code(*words, "--with", "random_forest") == 2
    said = capsys.readouterr().err
    assert "stored no baseline 'random_forest'; it has descriptor_boosting, m" in said


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "other"},
        {"targets": []},
        {"targets": [{"file": "../../results.json"}]},
        {"targets": [{"constant": [1, 2, 3, 4, 5]}]},
        {"targets": [{"file": "descriptor_boosting.json"}]},
    ],
)
def test_a_damaged_baseline_is_one_sentence(stored, tmp_path, broken):
    copy = tmp_path / "run"
    shutil.copytree(stored[1], copy)
    path = copy / "baselines" / "descriptor_boosting.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | broken))
    with pytest.raises(UserError, match="descriptor_boosting"):
        api.load_baseline(DOMAIN, copy, "descriptor_boosting")
