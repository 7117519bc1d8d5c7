"""Labels that are bounds, and targets that are learned as their logarithm: training, judging, predicting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import isoform
from answers import rows_in
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.losses import label_loss
from isoform.molecules.baselines import baselines
from isoform.molecules.data.duplicates import merge
from isoform.molecules.data.file import read_file
from isoform.molecules.data.standardise import standardise
from isoform.molecules.prepare import prepare
from isoform.molecules.task import task_from_run

from .miniatures import data, write
from .runs import app, table, task_of

ROWS = 67
SIGNS = [("=", ">", "<")[k % 3] for k in range(ROWS)]


def censored(folder: Path, **tables):
    """The task of a table whose every third label is a lower, every third an upper bound."""
    path = table(folder / "m.csv", relation=SIGNS)
    return task_of(app(path, **{"data": {"censored": "loss"}, **tables}))


def outputs_of(task, split: str, guess: np.ndarray) -> dict[str, np.ndarray]:
    """What `predict` gives for these outputs, in units of the training deviation."""
    batch = task.collate(task.data.rows[split].tolist())
    found = task.predict(lambda batch: torch.from_numpy(guess), batch)
    return {name: value.numpy() for name, value in found.items()}


def test_a_batch_holds_bounds_apart_from_what_is_judged(tmp_path):
    task = censored(tmp_path)
    rows = task.data.rows["train"][:13]
    batch, bounds = task.collate(rows.tolist()), task.data.molecules.bounds[rows]
    assert {-1, 0, 1} == set(bounds[:, 0].tolist())
    np.testing.assert_array_equal(batch["bound"].numpy(), bounds)
    assert batch["target"].isnan().numpy().tolist() == (bounds != 0).tolist()
    labels = torch.from_numpy(task.data.labels[rows])
    torch.testing.assert_close(batch["scaled"], task.scaling.scale(labels).float())
    guess = torch.zeros(13, 1)
    loss = task.loss(lambda batch: guess, batch)["loss"]
    expected = label_loss("l1", guess, batch["scaled"], bound_BK=batch["bound"])
    assert float(loss) == float(expected) < float(label_loss("l1", guess, batch["scaled"]))


def test_metrics_judge_exact_labels_and_count_bounds_that_are_kept(tmp_path):
    task = censored(tmp_path)
    rows = task.data.rows["val"]
    bounds, labels = task.data.molecules.bounds[rows, 0], task.data.labels[rows, 0]
    high = outputs_of(task, "val", np.full((len(rows), 1), 50, np.float32))
    found = task.metrics("val", high)
    exact = bounds == 0
    prediction = high["prediction"][exact, 0]
    assert found["mae"] == pytest.approx(np.abs(prediction - labels[exact]).mean())
    assert found["bounds_kept"] == pytest.approx((bounds[~exact] > 0).mean()), (
        "far above all: > alone"
    )
    low = outputs_of(task, "val", np.full((len(rows), 1), -50, np.float32))
    assert task.metrics("val", low)["bounds_kept"] == pytest.approx((bounds[~exact] < 0).mean())
    assert len(task.calibrate(high)) == 0 or exact.sum() > 1


def test_baselines_are_judged_as_the_model_is(tmp_path):
    task = censored(tmp_path)
    mean = next(one for one in baselines(task.data, task.score) if one.name == "mean")
    rows = task.data.rows["val"]
    exact = task.data.molecules.bounds[rows, 0] == 0
    guess = task.data.targets("train").mean()
    expected = np.abs(task.data.labels[rows][exact] - guess).mean()
    assert mean.fit(_quiet()).get("val")["mae"] == pytest.approx(expected)


def _quiet():
    from isoform.core.baselines import QUIET

    return QUIET


def test_predictions_say_which_labels_are_bounds(tmp_path):
    task = censored(tmp_path)
    rows = task.data.rows["val"]
    outputs = outputs_of(task, "val", np.zeros((len(rows), 1), np.float32))
    path = task.write_predictions(tmp_path, "val", outputs)[0]
    written = rows_in(path)
    sign_of = {f"m{k}": sign for k, sign in enumerate(SIGNS)}
    assert [one["relation"] for one in written] == [sign_of[one["input"]] for one in written]
    assert [float(one["target"]) for one in written] == task.data.labels[rows, 0].tolist()


def test_several_rows_of_a_molecule_keep_what_they_know(tmp_path):
    """Exact labels before bounds; of bounds of one direction the tighter; of two directions the middle."""
    lines = [
        "CCO,>,1",
        "OCC,=,3",
        "CCN,>,1",
        "NCC,>,4",
        "CCC,<,9",
        "C(C)C,<,7",
        "CCCl,>,2",
        "ClCC,<,6",
    ]
    path = write(tmp_path / "a.csv", "\n".join(["smiles,relation,y", *lines]) + "\n")
    settings = data(censored="loss", targets=("y",))
    found = merge(standardise(read_file(path, settings), settings), settings)
    assert found.targets[:, 0].tolist() == [3, 4, 7, 4] and found.bounds is not None
    assert found.bounds[:, 0].tolist() == [0, 1, -1, 0]


# Logarithms -----------------------------------------------------------------------------------------------------------


def decades(folder: Path) -> Path:
    """A table whose labels span six decades."""
    path = table(folder / "m.csv")
    lines = path.read_text().splitlines()
    rows = [line.rsplit(",", 1) for line in lines[1:]]
    rows = [f"{head},{10 ** (1.5 * float(label)):.6g}" for head, label in rows]
    return write(path, "\n".join([lines[0], *rows]) + "\n")


def test_a_logarithm_is_learned_and_predicted_in_units(tmp_path):
    config = app(decades(tmp_path), data={"transform": ("log10",)})
    task = task_of(config)
    labels = task.data.targets("train")
    assert task.scaling.log == (True,) and task.monitor == "loss"
    assert task.scaling.mean == pytest.approx((np.log10(labels).mean(),))
    run = RunFolder(tmp_path / "run")
    train(task, run, progress=False, say=lambda line: None)
    rows = isoform.load(tmp_path / "run").predict(["CCO", "c1ccccc1"])
    assert all(
        0 < row["low 0.9"] < row["prediction"] < row["high 0.9"] for row in rows if "low 0.9" in row
    )
    made = prepare(config)
    again = task_from_run(made.config, task.inference_state(), None)
    assert again.scaling == task.scaling
    outputs = outputs_of(again, "val", np.zeros((len(again.data.rows["val"]), 1), np.float32))
    np.testing.assert_allclose(outputs["prediction"], 10 ** task.scaling.mean[0], rtol=1e-6)
    found = again.metrics("val", outputs)
    errors = np.abs(task.scaling.mean[0] - np.log10(again.data.targets("val")))
    assert found["mae_learned"] == pytest.approx(errors.mean())
    assert found["loss"] == pytest.approx(errors.mean() / task.scaling.std[0])
    mean = next(one for one in baselines(task.data, task.score) if one.name == "mean")
    assert mean.fit(_quiet())["val"]["mae_learned"] == pytest.approx(found["mae_learned"])


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"data": {"transform": ("log10", "none")}}, "data.transform names 2 for 1 target (label)"),
        ({"data": {"transform": ("log10",)}}, '"label" is 0 '),
    ],
)  # fmt: skip
def test_a_logarithm_that_is_none_is_refused(tmp_path, tables, words):
    path = table(tmp_path / "m.csv")
    text = path.read_text().splitlines()
    text[5] = text[5].rsplit(",", 1)[0] + ",0"
    write(path, "\n".join(text) + "\n")
    with pytest.raises(UserError) as error:
        prepare(app(path, **tables))
    assert words in str(error.value)


def test_yes_and_no_have_no_logarithm(tmp_path):
    path = table(tmp_path / "m.csv", "binary")
    with pytest.raises(
        UserError, match=r"data\.transform = log10 is one of numbers, and data\.task is binary"
    ):
        prepare(app(path, data={"transform": ("log10",)}))
