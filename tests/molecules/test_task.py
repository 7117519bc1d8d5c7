"""The task as the engine sees it: batches, losses, metrics, what a run keeps, and eval on other molecules."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch

from answers import rows_in
from commands import exit_code
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run, load_trained
from isoform.molecules import DOMAIN
from isoform.molecules.state import MoleculesState
from isoform.molecules.task import MoleculesTask, task_from_run

from .runs import app, table, task_of, trained


@pytest.fixture(scope="module", params=["regression", "binary", "multiclass"])
def run(request, tmp_path_factory):
    return request.param, trained(tmp_path_factory.mktemp(request.param), request.param)


def test_a_run_of_each_kind_is_judged_and_can_be_judged_again(run):
    kind, folder = run
    results = json.loads((folder / "results.json").read_text())
    expected = {"regression": "mae", "binary": "roc_auc", "multiclass": "top1"}[kind]
    assert results["status"] == "finished" and math.isfinite(results["metrics"]["test"][expected])
    again = evaluate_run(DOMAIN, folder)
    for name, value in again["metrics"].items():
        assert value == pytest.approx(results["metrics"]["test"][name], abs=1e-6)


def test_a_runs_own_file_as_other_data_is_all_test(run):
    kind, folder = run
    found = evaluate_run(DOMAIN, folder, data=folder.parent / "molecules.csv")
    assert found["samples"] == 67
    rows = rows_in(folder / "predictions.molecules.csv")
    assert [row["input"] for row in rows] == [f"m{k}" for k in range(67)]
    if kind == "regression":
        error = np.abs([float(row["target"]) - float(row["prediction"]) for row in rows]).mean()
        assert found["metrics"]["mae"] == pytest.approx(error, rel=1e-5)


def test_rows_of_other_data_that_are_not_judged_are_told(run, tmp_path):
    _, folder = run
    path = tmp_path / "more.csv"
    rows = list(csv.DictReader((folder.parent / "molecules.csv").open()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, {**rows[0], "id": "bad", "smiles": "C1CC("}])
    found = evaluate_run(DOMAIN, folder, data=path, out=tmp_path)
    assert found["samples"] == 67
    assert sum("1 left out, bad: is no SMILES" in line for line in found["notes"]) == 1


def test_predictions_hold_every_test_molecule_with_its_name_and_truth(run):
    kind, folder = run
    rows = rows_in(folder / "predictions.csv")
    sizes = json.loads((folder / "task.json").read_text())["data"]["sizes"]
    assert len(rows) == sizes["test"] and set(rows[0]) >= {
        "input",
        "smiles",
        "target",
        "prediction",
    }
    truth = {row["id"]: row["label"] for row in rows_in(folder.parent / "molecules.csv")}
    for row in rows:
        same = float(row["target"]) == pytest.approx(float(truth[row["input"]])) if kind != "multiclass" else (
            row["target"] == truth[row["input"]])  # fmt: skip
        assert same


def test_a_batch_does_not_depend_on_what_else_is_in_it(tmp_path):
    task = task_of(app(table(tmp_path / "m.csv")))
    torch.manual_seed(0)
    model = task.build().eval()
    with torch.no_grad():
        whole = task.predict(model, task.collate([3, 5, 11, 13]))["prediction"]
        parts = torch.cat(
            [task.predict(model, task.collate([row]))["prediction"] for row in (3, 5, 11, 13)]
        )
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)


def test_targets_are_scaled_for_the_loss_and_back_for_the_prediction(tmp_path):
    task = task_of(app(table(tmp_path / "m.csv")))
    batch = task.collate([0, 1, 2])
    train = task.data.targets("train")
    want = (batch["target"].numpy() - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(batch["scaled"], want, rtol=1e-5)

    class Right(torch.nn.Module):
        def forward(self, batch):
            return batch["scaled"]

    assert float(task.loss(Right(), batch)["loss"]) == 0
    np.testing.assert_allclose(
        task.predict(Right(), batch)["prediction"], batch["target"], rtol=1e-5, atol=1e-6
    )


def test_missing_labels_of_several_targets_count_nothing(tmp_path):
    second = ["" if k % 3 else str(k) for k in range(67)]
    task = task_of(
        app(table(tmp_path / "m.csv", other=second), data={"targets": ["label", "other"]})
    )
    assert task.monitor == "loss" and task.data.names == ("label", "other")
    known = np.isfinite(task.data.targets("test")).sum(0)
    assert known[0] > known[1] > 0
    model = task.build()
    batch = task.collate(task.data.rows["train"][:7])
    output = model(batch)
    output.retain_grad()
    model.forward = lambda _: output
    task.loss(model, batch)["loss"].backward()
    assert torch.equal(output.grad == 0, batch["scaled"].isnan())


def test_rare_labels_weigh_more_with_balance(tmp_path):
    labels = [int(k % 11 == 0) for k in range(67)]
    task = task_of(
        app(
            table(tmp_path / "m.csv", rare=labels),
            data={"targets": ["rare"], "class_weights": "balanced"},
        )
    )
    train = task.data.targets("train")[:, 0]
    low, high = task.weights[0].tolist()
    assert high / low == pytest.approx((train == 0).sum() / (train == 1).sum())
    assert low * (train == 0).sum() + high * (train == 1).sum() == pytest.approx(len(train))


def test_flag_yields_a_pass_a_step_and_its_gradients_differ(tmp_path):
    path = table(tmp_path / "m.csv")
    task = task_of(app(path, loss={"flag_steps": 3, "flag_size": 0.1}))
    torch.manual_seed(0)
    model, batch = task.build(), task.collate([0, 1, 2, 5, 7])
    losses = []
    for found in task.passes(model, batch):
        found["loss"].backward()
        losses.append(float(found["loss"]))
    plain = float(next(iter(task_of(app(path)).passes(model, batch)))["loss"])
    assert len(losses) == 3 and losses == sorted(losses)  # each step climbs
    assert sum(losses) == pytest.approx(plain, rel=0.2) and sum(losses) != pytest.approx(
        plain, rel=1e-6
    )


def test_the_graph_transformer_trains_with_signs_drawn_anew(tmp_path):
    config = app(
        table(tmp_path / "m.csv"), model={"family": "gt"},
        tokeniser={"graph_token": False, "norm": False, "degree_ids": 0, "laplacian": 3}, head={"pool": "mean"},
        backbone={"mixer": "neighbour", "norm": "batch", "order": "post", "channel": "relu", "final_norm": False,
                  "init": "torch"},
    )  # fmt: skip
    task = task_of(config)
    batch = task.collate([2, 3, 5])
    mixed = task.mix(batch, np.random.default_rng(0))
    assert torch.equal(mixed["laplacian"].abs(), batch["laplacian"].abs())
    assert not torch.equal(mixed["laplacian"], batch["laplacian"])
    assert math.isfinite(float(task.loss(task.build(), mixed)["loss"]))


def test_descriptors_go_with_the_run(tmp_path):
    folder = trained(tmp_path, head={"descriptors": True})
    run = load_trained(DOMAIN, folder)
    model = run.model
    task = task_from_run(run.config, run.state, None)
    batch = task.collate([0, 1, 2])
    other = {**batch, "descriptors": batch["descriptors"] + 1}
    with torch.no_grad():
        assert not torch.allclose(model(batch), model(other))
    lone = task_of(app(tmp_path / "molecules.csv", head={"descriptors": True}))
    assert torch.equal(lone.collate([0, 1, 2])["descriptors"], batch["descriptors"])


def test_features_beyond_the_tables_are_named_before_training(tmp_path):
    with pytest.raises(
        UserError, match=r"tokeniser\.atom_ids = 100: the features of these molecules need \d+ rows"
    ):
        task_of(app(table(tmp_path / "m.csv"), tokeniser={"atom_ids": 100}))


def test_other_data_without_the_target_is_refused(tmp_path, run):
    _, folder = run
    other = tmp_path / "other.csv"
    other.write_text("smiles,something\nCCO,1\nCCN,2\n")
    with pytest.raises(UserError, match="label"):
        evaluate_run(DOMAIN, folder, data=other)


def test_an_imported_model_has_no_molecules_to_be_judged_on(tmp_path):
    with pytest.raises(UserError, match="no molecules of its own"):
        task_from_run(app(table(tmp_path / "m.csv")), MoleculesState(), None)


def test_the_command_line_trains_the_tiny_app_and_resumes_nothing_finished(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(MoleculesTask, "baselines", lambda self: ())
    command = ["molecules", "train", "graphormer-own", "--set", f"data.path={table(tmp_path / 'm.csv')}", "--set",
               "data.targets=label", "--epochs", "1", "--run-dir", str(tmp_path / "run")]  # fmt: skip
    assert exit_code(*command) == 0
    assert exit_code(*command, "--resume") == 0
    assert "finished" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
