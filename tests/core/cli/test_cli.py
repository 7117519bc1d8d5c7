"""The command line, in process, over a toy domain whose apps train in a blink."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
import toy

import isoform
from isoform.core import api, config
from isoform.core.cli import main
from isoform.core.cli.console import Console
from isoform.core.cli.train import _show as show
from isoform.core.config import layers
from isoform.core.data import writers
from isoform.core.domain import CheckReport, ImportedModel, Predictor, Prepared, Verb
from isoform.core.errors import Preempted, RunError, UserError

BUILT_IN = """
[toys.mlp]
summary = "points"
status = "measured"
minutes = 0.1
expected.top1 = 0.9
train.epochs = 2
train.batch = 5
eval.batch = 4
train.lr = 0.01

[toys.mlp-auto]
extends = "mlp"
train.epochs = "auto"
"""


class ToyPredictor(Predictor):
    """Inputs are numbers in text; "bad" can't be read."""

    def __init__(self, trained):
        self.classes, self.model = trained.state.classes, trained.model

    def predict(self, inputs):
        rows = []
        for one in inputs:
            if one.startswith("bad"):
                rows.append({"input": one, "error": "isn't a number"})
                continue
            with torch.no_grad():
                logits = self.model(torch.full((1, toy.FEATURES), float(one)))
            best = int(logits.argmax())
            rows.append(
                {
                    "input": one,
                    "prediction": self.classes[best],
                    "logits": logits[0].tolist(),
                    "error": None,
                }
            )
        return rows

    def embed(self, inputs):
        x = torch.tensor([[float(one)] * toy.FEATURES for one in inputs])
        with torch.no_grad():
            return self.model.backbone(self.model.tokeniser(x)).numpy()


def write_text(trained, path):
    path.write_text(f"{trained.folder.name} {trained.step}")


def write_half(trained, path):
    path.write_text("half")
    raise UserError("the model can't be said in this format")


def count(args, console):
    console.say(f"{args.n}")
    if args.n == 3:
        raise ValueError("three")
    console.result = {"n": args.n}
    return 0


class Task(toy.ToyTask):
    def __init__(self, config):
        made.append(config)
        super().__init__(config)

    def fit_majority(self, fitting):
        fitted.append(self.config.train.seed)
        return super().fit_majority(fitting)


class Toys(toy.Toy):
    name = "toys"
    summary = "points in space"

    def prepare(self, config):
        prepared.append(config)
        if config.train.epochs != "auto":
            return Prepared(config, [], None)
        chosen = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
        return Prepared(chosen, ["2 epochs, for 47 samples"], None)

    def task(self, prepared):
        return Task(prepared.config)

    def predictor(self, trained):
        return ToyPredictor(trained)

    def app_of_path(self, path):
        return toy.app().model_copy(update={"domain": "toys", "app": path.name})

    def check(self, config):
        refusal = "there is nothing to learn; name other data" if "empty" in config.app else None
        leakage = "leaky" in config.app or config.summary == "leaky"
        return CheckReport(["47 points"], {"train": 47}, leakage, "<html>page</html>", refusal)

    def expand_inputs(self, inputs):
        return [one for one in inputs if one != "empty"]

    def import_weights(self, source, layout=None, config=None):
        if not Path(source).exists():
            raise UserError(f"{source}: doesn't exist; name a file")
        torch.manual_seed(5)
        app = config or toy.app().model_copy(update={"domain": "toys", "app": "imported"})
        state = toy.ToyState(classes=("a", "b", "c"))
        return ImportedModel(
            app, toy.ToyModel().state_dict(), state, layout or "guessed", ["a note"], "MIT"
        )

    def export_formats(self):
        return {"text": write_text, "broken": write_half}

    def verbs(self):
        return {
            "count": Verb(
                help="counts",
                arguments=lambda parser: parser.add_argument("-n", type=int),
                run=count,
            )
        }

    def describe(self, config, *, detail=True):
        if config.train.epochs == "auto":
            raise UserError("data.root: names no folder")
        rows = {
            "data": "47 points",
            "model": "mlp",
            "parameters": 1234,
            "source": "drawn at random",
        }
        return rows | ({"attention": "none"} if detail else {})


made: list = []
prepared: list = []
fitted: list = []
TOYS = Toys()


def absent():
    raise UserError("ghosts: not part of this release yet")


DOMAINS = {"toys": lambda: TOYS, "ghosts": absent}


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "built_in", lambda: BUILT_IN)
    made.clear()
    prepared.clear()
    fitted.clear()
    return tmp_path


@pytest.fixture
def cli(capsys):
    """Runs a command line; returns its exit code, stdout, stderr."""

    def run(*argv):
        capsys.readouterr()
        code = main([str(word) for word in argv], domains=DOMAINS)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, made once; tests don't write into it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "built_in", lambda: BUILT_IN)
        api.train(api.Request(TOYS, "mlp"), folder, progress=False, say=lambda line: None)
    return folder


def last(out):
    return json.loads(out.splitlines()[-1])


def mistake(result, *parts):
    """Exit 2, one sentence on stderr, no traceback."""
    code, _, err = result
    assert code == 2 and "Traceback" not in err
    for part in parts:
        assert part in err
    return err.splitlines()


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["toyz"], "unknown 'toyz'; did you mean toys?"),
        (["ghosts"], "ghosts: not part of this release yet"),
        (["ghosts", "train", "x"], "ghosts: not part of this release yet"),
        (["apps", "ghosts"], "ghosts: not part of this release yet"),
        (["apps", "toyz"], "toyz: unknown domain; did you mean toys?"),
        ([], "name a COMMAND"),
        (["toys"], "required: VERB"),
        (["toys", "trane", "mlp"], "unknown 'trane'; did you mean train?"),
        (["toys", "train"], "required: APP"),
        (["toys", "train", "mpl"], "mpl: unknown toys app; did you mean mlp?"),
        (["toys", "train", "mlp", "--epoch", "3"], "--epoch"),  # no abbreviations
        (["toys", "train", "mlp", "--seed", "1", "--seeds", "2"], "not allowed with"),
        (["toys", "train", "mlp", "--seeds", "0"], "--seeds 0"),
        (["toys", "eval", "nowhere"], "nowhere: doesn't exist"),
        (["toys", "predict", "nowhere", "1"], "nowhere: doesn't exist"),
        (["toys", "predict", "nowhere", "1", "--out", "a.xls"], ".csv, .jsonl, .parquet"),
        (["toys", "embed", "nowhere", "1", "--out", "a.csv"], ".npz, .parquet"),
        (
            ["toys", "export", "nowhere", "--format", "tex", "--out", "x"],
            "unknown 'tex'; did you mean text?",
        ),
        (["report", "nowhere"], "nowhere: doesn't exist"),
        (["explain", "mpl"], "mpl: unknown app; did you mean mlp?"),
        (["explain", "toyz/mlp"], "unknown domain toyz; did you mean toys?"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(cli, place, argv, part):
    assert len(mistake(cli(*argv), part)) == 1
    assert list(place.iterdir()) == []


def test_help_lists_verbs_and_exits_0(cli):
    code, out, _ = cli("--help")
    assert (
        code == 0
        and "points in space" in out
        and "not part of this release yet" in out
        and "75" in out
    )
    code, out, _ = cli("toys", "--help")
    assert code == 0 and all(verb in out for verb in ("check", "train", "export", "count"))


def test_version(cli):
    assert cli("--version")[1] == f"isoform {isoform.__version__}\n"
    assert last(cli("--version", "--json")[1]) == {"version": isoform.__version__, "exit": 0}


def test_a_domains_own_verb(cli):
    assert cli("toys", "count", "-n", "7")[:2] == (0, "7\n")
    _, out, err = cli("toys", "count", "-n", "11", "--json")
    assert (json.loads(out), err) == ({"n": 11, "exit": 0}, "11\n")


def test_what_is_unforeseen_is_a_line_and_with_debug_a_traceback(cli):
    code, _, err = cli("toys", "count", "-n", "3")
    assert code == 1 and err == "unexpected ValueError: three; add --debug to see where\n"
    code, out, err = cli("toys", "count", "-n", "3", "--debug", "--json")
    assert (
        code == 1
        and "Traceback" in err
        and last(out) == {"error": "unexpected ValueError: three", "exit": 1}
    )


def test_json_carries_the_error_and_the_exit_code(cli):
    code, out, err = cli("--json", "toys", "eval", "nowhere")
    assert code == last(out)["exit"] == 2
    assert last(out)["error"] in err and len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (Preempted("stopped at step 3"), 75),
        (KeyboardInterrupt(), 75),
        (RunError("the loss is NaN"), 1),
    ],
)
def test_exit_codes_of_a_training_that_stops(cli, monkeypatch, raised, code):
    def stop(*_, **__):
        raise raised

    monkeypatch.setattr(api, "train_task", stop)
    assert cli("toys", "train", "mlp")[0] == code


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


# Predict and embed ----------------------------------------------------------------------------------------------------


def test_predict_writes_a_row_for_every_input_in_order(cli, trained):
    code, out, err = cli(
        "toys", "predict", trained, "3", "bad,one", "-0.5", "--out", "deep/rows.csv"
    )
    assert code == 0 and err == "bad,one: isn't a number\n" and "2 of 3" in out
    rows = list(csv.DictReader(Path("deep/rows.csv").read_text().splitlines()))
    assert [row["input"] for row in rows] == ["3", "bad,one", "-0.5"]
    assert list(rows[0]) == ["input", "prediction", "logits", "error"]
    assert [row["error"] for row in rows] == ["", "isn't a number", ""]
    assert rows[0]["prediction"].startswith("class") and rows[1]["prediction"] == ""
    assert len(json.loads(rows[0]["logits"])) == toy.CLASSES

    assert cli("toys", "predict", trained, "3", "bad", "--out", "rows.jsonl")[0] == 0
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == [None, "isn't a number"]
    assert (
        cli("toys", "predict", trained, "3", "bad")[1].splitlines()[0]
        == "input,prediction,logits,error"
    )
    assert [
        row["input"] for row in last(cli("toys", "predict", trained, "3", "4", "--json")[1])["rows"]
    ] == ["3", "4"]


@pytest.mark.parametrize(
    ("inputs", "options", "code"),
    [
        (["1", "bad"], [], 0),
        (["1", "bad"], ["--strict"], 2),
        (["1"], ["--strict"], 0),
        (["bad"], [], 2),
        (["empty"], [], 2),
    ],
)
def test_exit_codes_of_predict(cli, trained, inputs, options, code):
    assert cli("toys", "predict", trained, *inputs, *options)[0] == code


def test_parquet(cli, trained):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert cli("toys", "predict", trained, "3", "bad", "--out", "rows.parquet")[0] == 0
    rows = parquet.read_table("rows.parquet").to_pylist()
    assert [row["input"] for row in rows] == ["3", "bad"] and len(rows[0]["logits"]) == toy.CLASSES
    assert cli("toys", "embed", trained, "3", "4", "--out", "e.parquet")[0] == 0
    assert len(parquet.read_table("e.parquet").to_pylist()[1]["features"]) == toy.HIDDEN


def test_parquet_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        writers.format_of("a.parquet", writers.ROWS)


def test_embed_a_run_and_a_foreign_checkpoint(cli, trained):
    assert cli("toys", "embed", trained, "3", "4", "5", "--out", "e.npz")[0] == 0
    with np.load("e.npz") as found:
        assert found["inputs"].tolist() == ["3", "4", "5"] and found["features"].shape == (
            3,
            toy.HIDDEN,
        )
    Path("weights.bin").touch()
    assert cli("toys", "embed", "weights.bin", "3", "--out", "f.npz")[0] == 0
    with np.load("f.npz") as other:
        assert other["features"].shape == (1, toy.HIDDEN)
    mistake(cli("toys", "embed", "none.bin", "3", "--out", "f.npz"), "none.bin: doesn't exist")


def test_an_output_that_cannot_be_written(cli, trained):
    Path("file").touch()
    mistake(
        cli("toys", "predict", trained, "3", "--out", "file/rows.csv"),
        "file/rows.csv: can't be written",
    )


# Check, import, apps, explain -----------------------------------------------------------------------------------------


def test_check_says_what_is_there_and_stops_on_leakage(cli):
    Path("leaky").mkdir()
    Path("clean").mkdir()
    code, out, _ = cli("toys", "check", "clean", "--json")
    assert code == 0 and last(out) == {
        "train": 47,
        "leakage": False,
        "page": "runs/check-clean.html",
        "exit": 0,
    }
    assert Path("runs/check-clean.html").read_text() == "<html>page</html>"
    mistake(cli("toys", "check", "leaky", "--page", "p.html"), "a sample is in two splits")
    assert Path("p.html").exists()
    assert cli("toys", "check", "leaky", "--allow-leakage")[0] == 0
    assert cli("toys", "check", "mlp", "--set", "train.lr=1")[0] == 0
    assert (
        cli("toys", "check", "clean", "--set", "train.lr=1")[0] == 0
    )  # a path is an app of its own
    mistake(cli("toys", "check", "clean", "--set", "train.rate=1"), "train.rate: unknown key")
    mistake(cli("toys", "check", "mpl"), "did you mean mlp?")
    Path("empty").mkdir()
    code, out, err = cli("toys", "check", "empty")
    assert code == 2 and "47 points" in out and "there is nothing to learn" in err


def test_import_writes_a_run_folder_whole_or_not_at_all(cli, place):
    Path("weights.bin").touch()
    code, out, _ = cli(
        "toys",
        "import",
        "weights.bin",
        "--app",
        "mlp",
        "--set",
        "train.lr=3",
        "--out",
        "in/run",
        "--json",
    )
    found = last(out)
    assert (
        code == 0
        and found["layout"] == "guessed"
        and found["notes"] == ["a note"]
        and found["licence"] == "MIT"
    )
    assert config.load_run_config("in/run", TOYS).train.lr == 3.0
    assert cli("toys", "import", "weights.bin", "--app", "mlp", "--out", "plain")[0] == 0
    assert (
        config.load_run_config("plain", TOYS).status == "unverified"
    )  # mlp was measured, these weights weren't
    assert cli("toys", "predict", "in/run", "2")[0] == 0
    assert cli("toys", "embed", "in/run", "2", "--out", "e.npz")[0] == 0
    assert cli("toys", "train", "mlp", "--init", "in/run", "--run-dir", "tuned")[0] == 0
    assert "MIT" in Path("tuned/card.md").read_text()
    mistake(cli("toys", "import", "weights.bin", "--out", "in/run"), "exists already")
    before = sorted(place.rglob("*"))
    mistake(cli("toys", "import", "none.bin", "--out", "in/other"), "doesn't exist")
    mistake(
        cli("toys", "import", "weights.bin", "--app", "mpl", "--out", "in/other"),
        "did you mean mlp?",
    )
    mistake(cli("toys", "import", "weights.bin", "--out", "weights.bin/run"), "can't be written")
    assert sorted(place.rglob("*")) == before


def test_a_failing_import_leaves_nothing(cli, place, monkeypatch):
    Path("weights.bin").touch()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(api.checkpoints, "write", full)
    mistake(cli("toys", "import", "weights.bin", "--out", "run"), "No space left")
    assert [path.name for path in place.iterdir()] == ["weights.bin"]


def test_apps_lists_what_is_known_of_each(cli):
    code, out, _ = cli("apps")
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == [
        "app", "data", "model", "parameters", "status", "expected", "minutes", "published", "source",
    ]  # fmt: skip
    assert (
        " ".join(lines[1].split())
        == "toys/mlp 47 points mlp 1,234 measured top1 0.9 0.1 - drawn at random"
    )
    assert " ".join(lines[2].split()) == "toys/mlp-auto - - - unverified - - - -"
    found = last(cli("apps", "toys", "--json")[1])["apps"]
    assert [one["app"] for one in found] == ["toys/mlp", "toys/mlp-auto"] and found[0][
        "expected"
    ] == {"top1": 0.9}


@pytest.mark.parametrize("name", ["mlp-auto", "toys/mlp-auto"])
def test_explain_names_the_layer_of_each_setting(cli, name):
    code, out, _ = cli("explain", name, "--set", "train.lr=1", "--json")
    settings = last(out)["settings"]
    assert code == 0 and last(out)["model"]["attention"] == "none"
    layers = {key: one["layer"] for key, one in settings.items() if one["layer"] != "default"}
    assert layers == {
        "summary": "apps.toml [toys.mlp]",
        "train.batch": "apps.toml [toys.mlp]",
        "eval.batch": "apps.toml [toys.mlp]",
        "train.epochs": "chosen from the data",
        "train.lr": "--set",
    }
    assert settings["train.lr"]["value"] == 1.0 and "AdamW" in settings["train.lr"]["description"]
    assert settings["train.clip"] == {
        "value": None,
        "layer": "default",
        "description": "largest gradient norm; none if unset",
    }


def test_explain_for_a_reader(cli):
    code, out, _ = cli("explain", "mlp")
    line = next(line for line in out.splitlines() if line.startswith("train.lr "))
    assert (
        code == 0
        and "0.01" in line
        and "apps.toml [toys.mlp]" in line
        and "peak learning rate" in line
    )
    assert "parameters  1,234" in out
    assert (
        "\noptimiser   adamw; weight decay 0.05 on 4 tensors of 154 parameters; none on 8 tensors"
        in out
    )


def test_bench_runs_a_file_of_the_source_tree(cli, monkeypatch, place):
    from isoform.core.cli import catalogue

    monkeypatch.setattr(catalogue, "BENCHMARKS", place / "benchmarks")
    mistake(cli("bench", "toy"), "part of the source tree only")
    (place / "benchmarks").mkdir()
    (place / "benchmarks/toy.py").write_text(
        '"""Toys.\n\nMore."""\ndef main(argv):\n    return len(argv)\n'
    )
    (place / "benchmarks/common.py").write_text('"""Shared."""\n')
    assert cli("bench")[:2] == (0, "common: Shared.\ntoy: Toys.\n")
    assert cli("bench", "toy", "a", "--b", "c")[0] == 3
    mistake(cli("bench", "tou"), "tou: unknown benchmark; did you mean toy?")
    mistake(cli("bench", "common"), "can't be run by itself")


# Python ---------------------------------------------------------------------------------------------------------------


def test_the_python_interface(monkeypatch, trained):
    from isoform import registry

    monkeypatch.setattr(registry, "domains", lambda: DOMAINS)
    monkeypatch.setattr(registry, "domain", lambda name: DOMAINS[name]())
    run = isoform.train(
        "toys/mlp", {"train.lr": 0.02}, train__epochs=1, progress=False, run_dir="run"
    )
    assert run.folder == Path("run") and run.metrics["test"].keys() == {"loss", "top1"}
    assert (lambda train: (train.lr, train.epochs))(config.load_run_config("run", TOYS).train) == (
        0.02,
        1,
    )
    assert run.predictor().predict(["2"]) == isoform.load("run").predict(["2"])
    assert isoform.load(trained, checkpoint="last").embed(["2", "3"]).shape == (2, toy.HIDDEN)
    with pytest.raises(
        config.ConfigError, match=r"settings train.epoch: unknown key; did you mean train.epochs\?"
    ):
        isoform.train("toys/mlp", train__epoch=1)
    with pytest.raises(UserError, match="write DOMAIN/NAME"):
        isoform.train("mlp")


def test_the_registry_finds_packages_and_names_what_is_absent():
    from isoform import registry

    assert {"vision", "pointcloud", "timeseries", "molecules"} == set(registry.domains())
    with pytest.raises(UserError, match="visoin: unknown domain; did you mean vision"):
        registry.domain("visoin")
    assert registry.domain("pointcloud").name == "pointcloud"


# In a process of its own ----------------------------------------------------------------------------------------------


def test_help_is_quick_and_imports_nothing_heavy():
    code = """
import sys, time
from isoform.__main__ import main
sys.argv = ["isoform", "--help"]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
seconds = time.process_time()  # of the whole process: a busy machine makes the wall clock say nothing
heavy = {"torch", "numpy", "pydantic", "rich", "matplotlib", "jinja2"} & set(sys.modules)
assert not heavy, heavy
sys.stderr.write(str(seconds))
"""
    times = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        times.append(float(done.stderr))
    assert sorted(times)[1] < 0.2, times


WITHOUT_MODELS = """
import sys
import warnings
from isoform.__main__ import main
sys.argv = ["isoform", *{argv!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
heavy = {{"torch", "matplotlib", "sklearn", "lightgbm"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("command", ["apps", "timeseries check", "timeseries train --help"])
def test_what_needs_no_model_imports_no_library_of_models(command, place):
    rows = [f"2024-03-{day:02},{day % 7 + 0.5 * (day % 3)}" for day in range(1, 32)]
    Path("x.csv").write_text("date,load\n" + "\n".join(rows) + "\n")
    argv = [*command.split(), *(["x.csv"] if command.endswith("check") else [])]
    argv += ["--set", "model.context=5", "--set", "model.horizon=2"] if "x.csv" in argv else []
    code = WITHOUT_MODELS.format(argv=argv)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if "x.csv" in argv:
        assert Path("runs/check-x.csv.html").read_text().count("<polyline") == 1


# What was found, lost and warned of -----------------------------------------------------------------------------------


@pytest.fixture
def losing(monkeypatch):
    """The toy finds something in its data, whatever was left open, and lost a part of them."""
    found = ["47 points", "row 3 is no point"]
    monkeypatch.setattr(
        Toys, "prepare", lambda self, config: Prepared(config, found, None, lost=found[1:])
    )
    return found


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


@pytest.mark.parametrize(
    ("category", "module", "line"),
    [
        (UserWarning, "isoform.toys.data", "left out: point 3\n"),
        (UserWarning, "pandas.core", ""),
        (FutureWarning, "isoform.toys.data", ""),
        (RuntimeWarning, "numpy", ""),
        (UserWarning, "isoformlike", ""),
    ],
)
def test_warnings_are_lines_and_those_of_libraries_none(cli, monkeypatch, category, module, line):
    def warn(self, config):
        warnings.warn_explicit("left out: point 3", category, "data.py", 7, module=module)
        return CheckReport(["47 points"], {})

    monkeypatch.setattr(Toys, "check", warn)
    code, out, err = cli("toys", "check", "mlp")
    assert (code, out, err) == (0, "47 points\n", line)


def test_a_run_that_names_no_domain(cli, trained, tmp_path):
    (tmp_path / "run").mkdir()
    text = (trained / "config.toml").read_text().replace('domain = "toys"', "")
    (tmp_path / "run" / "config.toml").write_text(text)
    _, _, err = cli("toys", "eval", tmp_path / "run")
    assert "names no domain" in err and "None" not in err
