"""`train`: from the settings to a run and what follows it, resuming, several seeds, what was found in the data."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from isoform.core import api, config
from isoform.core.cli.console import Console
from isoform.core.cli.train import _show as show
from isoform.core.domain import Prepared
from isoform.core.errors import Preempted

from .toys import TOYS, Task, Toys, fitted, last, made, mistake, prepared

# Training and what follows --------------------------------------------------------------------------------------------


def test_from_training_to_export(cli, place):
    code, out, err = cli("toys", "train", "mlp", "--set", "train.lr=0.02", "--seed", "3", "--json")
    assert code == 0, err
    found = last(out)
    run = Path("runs/mlp-seed3")
    assert found["run"] == str(run) and found["app"] == "mlp" and found["status"] == "finished"
    stored = config.load_run_config(run, TOYS)
    assert (stored.train.seed, stored.train.lr, stored.status) == (3, 0.02, "unverified")
    assert (
        "isoform toys train mlp --set train.lr=0.02 --set train.seed=3"
        in (run / "card.md").read_text()
    )

    code, out, _ = cli("toys", "eval", run, "--json")
    assert code == 0 and last(out)["metrics"] == found["metrics"]["test"]
    assert mistake(cli("toys", "eval", run, "--checkpoint", "99999"), "99999")
    assert mistake(cli("toys", "eval", run, "--split", "dev"), "dev")

    code, out, _ = cli("report", run)
    assert code == 0 and out.strip().endswith("report.html")

    code, _, _ = cli(
        "toys", "export", run, "--format", "text", "--out", "x.txt", "--checkpoint", "last"
    )
    assert code == 0 and Path("x.txt").read_text() == "mlp-seed3 20"
    mistake(cli("toys", "export", run, "--format", "text", "--out", "x.txt"), "exists already")
    mistake(
        cli("toys", "export", run, "--format", "broken", "--out", "deep/y.txt"),
        "can't be said in this format",
    )
    assert not Path("deep").exists()
    assert cli("toys", "export", run, "--format", "text", "--out", "deep/y.txt")[0] == 0


def test_a_table_of_the_model_beside_its_baselines(cli):
    _, out, _ = cli("toys", "train", "mlp", "--epochs", "1", "--run-dir", "run")
    lines = [line.split() for line in out.splitlines()]
    assert [words[0] for words in lines if words and words[0] in ("test", "model", "majority")][-3:] == [
        "test", "model", "majority",
    ]  # fmt: skip


def test_many_metrics_stand_one_a_line(capsys):
    """Several targets have metrics of their own: 13 side by side fit no terminal."""
    mine = {f"rmse target {k}": k / 8 for k in range(13)}
    theirs = {name: value + 1 for name, value in mine.items() if not name.endswith("3")}
    show(SimpleNamespace(console=Console()), {"test": mine}, {"mean": {"test": theirs}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["test", "model", "mean"] and len(lines) == 1 + len(mine)
    assert lines[3] == ["rmse", "target", "2", "0.25", "1.25"] and lines[4][-1] == "-"


def test_a_folder_that_holds_a_run_is_refused(cli, trained):
    before = sorted(trained.rglob("*"))
    mistake(cli("toys", "train", "mlp", "--run-dir", trained), "holds a run already", "--resume")
    mistake(
        cli("toys", "train", "mlp", "--run-dir", trained, "--seeds", "2"), "holds a run already"
    )
    assert sorted(trained.rglob("*")) == before and made == []
    Path("file").touch()
    mistake(cli("toys", "train", "mlp", "--run-dir", "file"), "is a file")


def test_resume_keeps_the_settings_of_the_run(cli, trained, tmp_path):
    resume = ["toys", "train", "mlp", "--run-dir", trained, "--resume"]
    code, out, _ = cli(*resume)
    assert code == 0 and "this run is finished" in out
    assert cli(*resume, "--seed", "0", "--epochs", "2", "--set", "train.lr=0.01")[0] == 0
    lines = mistake(
        cli(*resume, "--seed", "1", "--set", "train.lr=0.5", "--set", "train.batch=5"), "differ"
    )
    assert [line.strip() for line in lines[1:-1]] == ["train.seed: 0 -> 1", "train.lr: 0.01 -> 0.5"]
    mistake(
        cli("toys", "train", "mlp-auto", "--run-dir", trained, "--resume"),
        "is of mlp, not of mlp-auto",
    )
    mine = tmp_path / "my.toml"
    mine.write_text("[toys.mlp]\ntrain.lr = 0.01\n")
    assert cli(*resume, "--apps", mine)[0] == 0
    mine.write_text("[toys.mlp]\ntrain.lr = 0.03\n")
    mistake(cli(*resume, "--apps", mine), "train.lr: 0.01 -> 0.03")


def test_resume_goes_on_after_an_interruption_and_starts_where_nothing_is(cli, monkeypatch):
    engine = api.train_task

    def interrupted(task, run, **options):
        loss = task.loss
        calls = []

        def failing(model, batch):
            calls.append(1)
            if len(calls) > 12:
                raise KeyboardInterrupt
            return loss(model, batch)

        task.loss = failing
        return engine(task, run, **options)

    monkeypatch.setattr(api, "train_task", interrupted)
    assert cli("toys", "train", "mlp", "--run-dir", "a", "--resume")[0] == 75
    monkeypatch.setattr(api, "train_task", engine)
    code, out, _ = cli("toys", "train", "mlp", "--run-dir", "a", "--resume")
    assert code == 0 and "resuming" in out
    assert cli("toys", "train", "mlp", "--run-dir", "b")[0] == 0
    both = [json.loads((Path(run) / "results.json").read_text())["metrics"] for run in "ab"]
    assert both[0] == both[1]


def test_what_auto_became_is_printed_and_may_be_asked_for_again(cli):
    code, out, _ = cli(
        "toys", "train", "mlp-auto", "--run-dir", "run", "--set", "train.epochs=auto"
    )
    assert code == 0 and "2 epochs, for 47 samples" in out
    again = ["toys", "train", "mlp-auto", "--run-dir", "run", "--resume"]
    assert cli(*again)[0] == 0
    assert cli(*again, "--set", "train.epochs=auto")[0] == 0
    assert cli(*again, "--set", "train.epochs=2")[0] == 0
    mistake(cli(*again, "--set", "train.epochs=3"), "train.epochs: 2 -> 3")


def test_a_resumed_run_whose_settings_came_from_the_data_reads_them_once(cli):
    assert cli("toys", "train", "mlp-auto", "--run-dir", "run")[0] == 0
    results = Path("run/results.json")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"status": "running"}))
    prepared.clear()
    code, out, _ = cli(
        "toys", "train", "mlp-auto", "--set", "train.epochs=auto", "--run-dir", "run", "--resume"
    )
    assert code == 0 and "resuming run from step" in out and len(prepared) == 1


def test_several_seeds_give_mean_and_spread(cli):
    code, out, _ = cli(
        "toys", "train", "mlp", "--seeds", "2", "--run-dir", "g", "--epochs", "1", "--json"
    )
    assert code == 0
    assert len(prepared) == 1 and [config.train.seed for config in made] == [
        1,
        2,
        1,  # to judge the ensemble
    ]  # the data are read once
    assert fitted == [1]  # and the baselines fitted once
    found = last(out)
    values = [
        json.loads(Path(f"g/seed-{k}/results.json").read_text())["metrics"]["test"]["loss"]
        for k in (1, 2)
    ]
    summary = found["metrics"]["test"]["loss"]
    assert summary["values"] == values and values[0] != values[1]
    assert summary["mean"] == pytest.approx(np.mean(values)) and summary["std"] == pytest.approx(
        np.std(values, ddof=1)
    )
    assert json.loads(Path("g/results.json").read_text())["metrics"]["test"]["loss"] == summary
    code, out, _ = cli(
        "toys", "train", "mlp", "--seeds", "2", "--run-dir", "g", "--epochs", "1", "--resume"
    )
    assert code == 0 and out.count("this run is finished") == 2
    assert cli("report", "g")[0] == 0
    assert last(cli("toys", "eval", "g", "--json")[1])["metrics"]["loss"] == summary
    mistake(
        cli("toys", "export", "g", "--format", "text", "--out", "x"),
        "g: holds several seeds; export one of them, such as g/seed-1",
    )


def test_seeds_together_are_a_run_to_predict_with(cli):
    command = ["toys", "train", "mlp", "--seeds", "3", "--run-dir", "g", "--epochs", "1", "--json"]
    assert cli(*command)[0] == 0
    rows = [
        last(cli("toys", "predict", f"g{seed}", "3", "--json")[1])["rows"][0]["logits"]
        for seed in ("/seed-1", "/seed-2", "/seed-3", "")
    ]
    np.testing.assert_allclose(rows[3], np.mean(rows[:3], 0), rtol=1e-5)
    found = json.loads(Path("g/results.json").read_text())["ensemble"]
    assert set(found) == {"val", "test"}
    assert last(cli("toys", "eval", "g", "--json")[1])["ensemble"] == pytest.approx(found["test"])
    assert "ensemble" in cli("toys", "eval", "g")[1]
    assert json.loads(Path("g/predictions.json").read_text())
    assert cli(*command, "--resume")[0] == 0
    assert json.loads(Path("g/results.json").read_text())["ensemble"] == found
    state = Path("g/seed-2/task.json")
    state.write_text(state.read_text().replace("class 0", "klass 0"))
    assert "learned from different data" in cli("toys", "predict", "g", "3")[2]


# What was found, lost and warned of -----------------------------------------------------------------------------------


@pytest.fixture
def losing(monkeypatch):
    """The toy finds something in its data, whatever was left open, and lost a part of them."""
    found = ["47 points", "row 3 is no point"]
    monkeypatch.setattr(
        Toys, "prepare", lambda self, config: Prepared(config, found, None, lost=found[1:])
    )
    return found


def test_an_ensemble_of_fewer_seeds_is_not_taken_for_that_of_all(cli, monkeypatch):
    """Killed between the last seed's training and the judging of them together."""
    command = ["toys", "train", "mlp", "--run-dir", "g", "--epochs", "1", "--json", "--seeds"]
    assert cli(*command, "2")[0] == 0
    judge = api.evaluate_together
    monkeypatch.setattr(api, "evaluate_together", lambda *_: 1 / 0)
    assert cli(*command, "3", "--resume")[0] == 1
    monkeypatch.setattr(api, "evaluate_together", judge)
    assert cli(*command, "3", "--resume")[0] == 0
    found = json.loads(Path("g/results.json").read_text())
    assert found["runs"] == ["seed-1", "seed-2", "seed-3"]
    assert last(cli("toys", "eval", "g", "--json")[1])["ensemble"] == pytest.approx(
        found["ensemble"]["test"]
    )


def test_what_was_found_is_said_always_and_once(cli, losing):
    _, out, _ = cli("toys", "train", "mlp", "--run-dir", "a")
    assert out.splitlines()[:2] == losing
    _, out, _ = cli("toys", "train", "mlp", "--seeds", "3", "--run-dir", "b")
    assert out.count("47 points") == out.count("row 3 is no point") == 1


def test_a_resumed_run_says_what_was_found(cli, losing, monkeypatch):
    def stop(*_, **__):
        raise Preempted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Task, "metrics", stop)
        assert cli("toys", "train", "mlp", "--run-dir", "a")[0] == 75
    code, out, _ = cli("toys", "train", "mlp", "--run-dir", "a", "--resume")
    assert code == 0 and out.count("47 points") == 1


@pytest.mark.parametrize("seeds", [[], ["--seeds", "2"]])
def test_strict_stops_where_data_were_lost(cli, losing, seeds, place):
    command = ["toys", "train", "mlp", "--run-dir", "a", *seeds]
    lines = mistake(cli(*command, "--strict"), "row 3 is no point", "--strict")
    assert "47 points" not in lines and list(place.iterdir()) == []
    losing[:] = ["47 points"]
    assert cli(*command)[0] == 0


def test_strict_passes_where_nothing_was_lost(cli):
    assert cli("toys", "train", "mlp", "--run-dir", "a", "--strict")[0] == 0
