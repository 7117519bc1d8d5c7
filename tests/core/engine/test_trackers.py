"""Trackers are told what metrics.jsonl gets, go on with a resumed run, and never end one."""

import pytest
import toy

import isoform.core.engine.loader as loader
from isoform.core.engine import trackers
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, UserError
from isoform.core.runs.folder import RunFolder


class Fake(trackers.Tracker):
    """Writes down what it is told; `told` is shared by all of a test, as a server would be."""

    library = "json"
    told: list  # set by the fixture
    breaks = ""

    def note(self, what, *more):
        if what == self.breaks:
            raise ConnectionError("no way\nthere")
        self.told.append((what, *more))

    def start(self, config):
        self.run, _ = self.identity(lambda: f"run-{len(self.told)}")
        self.note("start", self.run, config)

    def log(self, step, numbers):
        self.note("log", step, numbers)

    def finish(self, results):
        self.note("finish", self.run, results.get("status"))


@pytest.fixture
def fake(monkeypatch):
    Own = type("Own", (Fake,), {"told": []})
    monkeypatch.setattr(trackers, "kinds", lambda: {"fake": Own})
    return Own


def logged(told, split):
    return [(step, numbers) for what, *more in told if what == "log" for step, numbers in [more]
            if any(name.startswith(f"{split}/") for name in numbers)]  # fmt: skip


def test_a_tracker_gets_the_lines_of_the_log_and_the_end(fake, tmp_path):
    run = RunFolder(tmp_path / "run")
    results = train(toy.task(), run, progress=False, log=["fake", "fake"])
    first, *lines, last = fake.told
    assert first[:2] == ("start", "run-0") and first[2]["train.lr"] == 0.01
    assert last == ("finish", "run-0", "finished")
    expected = [(line["step"], trackers.numbers_of(line)) for line in run.metrics()]
    test = {f"test/{name}": value for name, value in results["metrics"]["test"].items()}
    assert [(step, numbers) for _, step, numbers in lines] == [*expected, (16, test)]
    assert len(logged(fake.told, "val")) == 4 and "train/lr" in lines[0][2]
    assert "fake" not in (run.path / "config.toml").read_text()


def test_a_tracker_changes_nothing(fake, tmp_path):
    runs = [RunFolder(tmp_path / name) for name in ("with", "without")]
    for run, log in zip(runs, (["fake"], []), strict=True):
        train(toy.task(), run, progress=False, log=log)
    lines = [
        [{k: v for k, v in line.items() if "second" not in k} for line in run.metrics()]
        for run in runs
    ]
    assert lines[0] == lines[1]
    assert (runs[0].path / "config.toml").read_text() == (runs[1].path / "config.toml").read_text()
    assert not (runs[1].path / "trackers").exists()


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """A run that stops in its third epoch, with whatever trackers."""

    def stop(log):
        run = RunFolder(tmp_path / "run")
        plan = loader.epoch_batches

        def end(task, seed, epoch):
            if epoch == 2:
                raise Preempted("stopped")
            return plan(task, seed, epoch)

        with monkeypatch.context() as patch, pytest.raises(Preempted):
            patch.setattr(loader, "epoch_batches", end)
            train(toy.task(), run, progress=False, log=log)
        return run

    return stop


def test_a_resumed_run_goes_on_with_the_same_run(fake, stopped):
    run = stopped(["fake"])
    assert fake.told[-1] == ("finish", "run-0", "preempted")
    before = len(fake.told)
    train(toy.task(), run, resume=True, progress=False, log=["fake"])
    first, *_, last = fake.told[before:]
    assert first[:2] == ("start", "run-0") and last == ("finish", "run-0", "finished")
    steps = [step for step, _ in logged(fake.told, "val")]
    assert steps == [line["step"] for line in run.metrics() if line["split"] == "val"]


def test_a_tracker_that_is_new_to_a_resumed_run_is_told_what_was(fake, stopped):
    run = stopped([])
    assert not fake.told
    train(toy.task(), run, resume=True, progress=False, log=["fake"])
    expected = [(line["step"], trackers.numbers_of(line)) for line in run.metrics()]
    assert [(step, numbers) for _, step, numbers in fake.told[1:-2]] == expected
    assert fake.told[1][1] < 8


def test_a_tracker_that_fails_is_left_out(fake, tmp_path):
    fake.breaks, said = "log", []
    results = train(
        toy.task(epochs=1), RunFolder(tmp_path), progress=False, log=["fake"], say=said.append
    )
    assert results["status"] == "finished" and [what for what, *_ in fake.told] == ["start"]
    warning = "warning: fake is left out from here on (ConnectionError: no way)"
    assert said.count(warning) == 1


def test_a_tracker_that_cannot_start_leaves_nothing_behind(fake, tmp_path):
    fake.breaks = "start"
    with pytest.raises(UserError, match=r"--log fake: can't start \(ConnectionError: no way\)"):
        train(toy.task(), RunFolder(tmp_path / "run"), progress=False, log=["fake"])
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
    assert set(trackers.kinds()) == {"tensorboard", "mlflow", "wandb"}
    monkeypatch.setattr(trackers.WandB, "library", "no_such_library_at_all")
    with pytest.raises(UserError, match=r"--log wandb.*pip install 'isoform\[wandb\]'"):
        trackers.require(["wandb"])
    with pytest.raises(UserError, match="--log neptune: there are tensorboard, mlflow, wandb"):
        trackers.require(["neptune"])


def test_only_finite_numbers_are_told():
    line = {
        "step": 7,
        "split": "val",
        "epoch": 3,
        "loss": float("nan"),
        "top1": 0.5,
        "x": None,
        "y": "z",
    }
    assert trackers.numbers_of(line) == {"val/epoch": 3, "val/top1": 0.5}


# The services themselves, where they are installed --------------------------------------------------------------------


def test_tensorboard(stopped):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = stopped(["tensorboard"])
    train(toy.task(), run, resume=True, progress=False, log=["tensorboard"])
    events = EventAccumulator(str(run.path / "trackers" / "tensorboard"))
    events.Reload()
    for name in ("val/top1", "train/loss"):
        split, metric = name.split("/")
        lines = [line for line in run.metrics() if line["split"] == split]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(line["step"], pytest.approx(line[metric])) for line in lines]
    assert "test/top1" in events.Tags()["scalars"]


def test_mlflow(stopped, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    run = stopped(["mlflow"])
    train(toy.task(), run, resume=True, progress=False, log=["mlflow"])
    client = mlflow.MlflowClient(f"sqlite:///{run.path / 'trackers' / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "isoform"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["train.lr"] == "0.01"
    steps = [metric.step for metric in client.get_metric_history(found.info.run_id, "val/top1")]
    assert steps == [line["step"] for line in run.metrics() if line["split"] == "val"]
    assert found.data.metrics["test/top1"] == run.results()["metrics"]["test"]["top1"]


def test_wandb_stays_offline(stopped, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    run = stopped(["wandb"])
    folder = run.path / "trackers" / "wandb"
    name = (folder / "run-id").read_text().strip()
    train(toy.task(), run, resume=True, progress=False, log=["wandb"])
    assert run.results()["status"] == "finished"
    assert (folder / "run-id").read_text().strip() == name
    offline = list((folder / "wandb").glob("offline-run-*"))
    assert offline and all(one.name.endswith(name) and list(one.glob("*.wandb")) for one in offline)
