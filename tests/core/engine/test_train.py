import io
import itertools
import json
import math
import sys
import time

import numpy as np
import pytest
import torch
import toy
from torch import nn

from isoform.core.baselines import Baseline
from isoform.core.domain import InitialWeights
from isoform.core.engine import distributed, precision, progress, warm_start
from isoform.core.engine.train import train
from isoform.core.errors import RunError, UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import summarise_seeds

RESULTS = {"app", "domain", "status", "parameters", "precision", "seconds", "peak_memory_bytes", "monitor",
           "monitor_mode", "metrics", "baselines", "environment"}  # fmt: skip


class Plain(toy.ToyTask):
    """No dropout, no batch statistics, no augmentation: a sample's loss doesn't depend on its batch."""

    def build(self):
        model = super().build()
        model.tokeniser[1] = nn.Identity()
        model.backbone.eval()
        model.backbone.train = lambda mode=True: model.backbone
        return model

    def sample(self, split, index, rng):
        return super().sample(split, index, None)

    def mix(self, batch, rng):
        return batch


def weights(run):
    return run.load_weights("last", ema=False)


def run_in(tmp_path, name, task, **settings):
    run = RunFolder(tmp_path / name)
    return run, train(task, run, progress=False, **settings)


def test_a_run_leaves_what_the_design_names(tmp_path, capsys):
    run, results = run_in(
        tmp_path, "run", toy.task(ema=0.9), command="isoform toy train toy-mlp --seed 0"
    )
    assert set(results) == RESULTS and results == json.loads(
        (run.path / "results.json").read_text()
    )
    assert (
        results["status"] == "finished"
        and results["parameters"] == 206
        and results["precision"] == "fp32"
    )
    assert (results["monitor"], results["monitor_mode"]) == ("top1", "max")
    assert results["metrics"].keys() == {"val", "test"} and results["metrics"]["test"].keys() == {
        "loss",
        "top1",
    }
    assert results["baselines"] == {"majority": {"val": {"top1": 0.4}, "test": {"top1": 0.4}}}
    assert results["peak_memory_bytes"] > 50e6 and results["seconds"] > 0
    files = {p.name for p in run.path.iterdir()}
    assert files == {"config.toml", "metrics.jsonl", "results.json", "checkpoints", "report.html", "card.md",
                     "task.json", "figures.json", "predictions.json", ".lock"}  # fmt: skip
    assert run.read_json("task.json") == {"classes": ["class 0", "class 1", "class 2"]}
    lines = run.metrics()
    assert all(
        {"step", "epoch", "split", "seconds", "samples_per_second"} <= line.keys() for line in lines
    )
    assert [line["step"] for line in lines if line["split"] == "train"] == [
        3,
        4,
        6,
        8,
        9,
        12,
        15,
        16,
    ]
    assert [line["step"] for line in lines if line["split"] == "val"] == [4, 8, 12, 16]
    best = max(line["top1"] for line in lines if line["split"] == "val")
    assert results["metrics"]["val"]["top1"] == best
    card = (run.path / "card.md").read_text()
    assert (
        "isoform toy train toy-mlp --seed 0" in card
        and "random points" in card
        and "none needed" in card
    )
    assert "threads" in (run.path / "config.toml").read_text().splitlines()[1]
    text = "".join(
        p.read_text()
        for p in run.path.iterdir()
        if p.suffix in (".json", ".md", ".html", ".toml", ".jsonl")
    )
    assert str(tmp_path) not in text and "test (best checkpoint" in capsys.readouterr().out


def test_the_best_checkpoint_is_the_one_tested(tmp_path):
    run, results = run_in(tmp_path, "run", toy.task(ema=0.5, checkpoint_every=1))
    task, model = toy.task(), toy.ToyModel()
    model.load_state_dict(run.load_weights("best"))
    x = torch.from_numpy(task.data["test"][0])
    with torch.no_grad():
        predicted = model.eval()(x).argmax(1).numpy()
    assert json.loads((run.path / "predictions.json").read_text()) == predicted.tolist()
    assert results["metrics"]["test"]["top1"] == pytest.approx(
        (predicted == task.data["test"][1]).mean()
    )


def test_of_equal_validations_the_latest_is_kept(tmp_path):
    class Even(toy.ToyTask):
        def metrics(self, split, outputs):
            return {self.monitor: 0.5}

    run, _ = run_in(tmp_path, "run", Even(toy.app(epochs=3)))
    assert run.step_of("best") == run.step_of("last")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulation_equals_one_big_batch(tmp_path, optimizer):
    """15 samples as 5 + 5 + 5, and at the end of each epoch 2 samples as one group: the same steps either way."""
    settings = {"optimizer": optimizer, "lr": 0.05, "log_every": 100, "clip": 0.5}
    one, _ = run_in(tmp_path, "one", Plain(toy.app(batch=15, accumulate=1, **settings)))
    many, _ = run_in(tmp_path, "many", Plain(toy.app(batch=5, accumulate=3, **settings)))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(many)[name], value, atol=2e-5, rtol=1e-5)
    for a, b in zip(one.metrics(), many.metrics(), strict=True):
        assert a["step"] == b["step"] and a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_unequal_micro_batches_weigh_by_size(tmp_path):
    """One step on nine micro-batches of 5 samples and one of 2, of which each sample counts alike."""
    settings = {"epochs": 1, "optimizer": "sgd", "clip": None, "lr": 0.1, "warmup": 0.0}
    one, _ = run_in(tmp_path, "one", Plain(toy.app(batch=47, accumulate=1, **settings)))
    many, _ = run_in(tmp_path, "many", Plain(toy.app(batch=5, accumulate=10, **settings)))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(many)[name], value, atol=1e-6, rtol=1e-5)


def test_seeds_differ_and_repeat(tmp_path):
    first, again, other = (
        weights(run_in(tmp_path, name, toy.task(seed=seed, epochs=1))[0])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["head.weight"].equal(other["head.weight"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_stops_and_names_step_and_samples(tmp_path, bad):
    class Bad(toy.ToyTask):
        def loss(self, model, batch):
            self.calls = getattr(self, "calls", 0) + 1
            found = super().loss(model, batch)
            return {**found, "loss": found["loss"] * bad} if self.calls == 15 else found

    run = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=rf"loss is {bad} at step 6, training samples \d") as caught:
        train(Bad(toy.app(checkpoint_every=2)), run, progress=False)
    order = toy.task().batches("train", 5, np.random.default_rng([0, 1, 0, 0]))
    expected = [index for batch in order[3:6] for index in batch]
    assert f"samples {', '.join(map(str, expected))};" in str(caught.value)
    assert run.results()["status"] == "failed" and run.step_of("last") == 4
    assert all(torch.isfinite(value).all() for value in run.load_weights("last").values())


def test_a_bad_gradient_stops_too(tmp_path):
    class Bad(toy.ToyTask):
        def loss(self, model, batch):
            found = super().loss(model, batch)
            return {
                "loss": found["loss"] + (model.head.weight.sum() * 0).sqrt()
            }  # a finite 0 with an infinite slope

    with pytest.raises(RunError, match="gradient's norm is nan at step 1"):
        train(Bad(toy.app()), RunFolder(tmp_path / "run"), progress=False)


def test_freezing_the_trunk(tmp_path):
    torch.manual_seed(0)
    start = toy.ToyModel().state_dict()
    run, _ = run_in(tmp_path, "run", toy.task(freeze="trunk", weight_decay=0.5))
    for name, value in weights(run).items():
        assert value.equal(start[name]) != name.startswith("head."), (
            name
        )  # batch statistics stand still as well
    with pytest.raises(UserError, match="leaves nothing to train"):
        task = toy.task(freeze="trunk")
        task.trunk = ("",)
        train(task, RunFolder(tmp_path / "none"), progress=False)


def test_without_validation_the_last_is_the_best(tmp_path):
    class Short(toy.ToyTask):
        def sizes(self):
            return {"train": 47}

    run, results = run_in(tmp_path, "run", Short(toy.app()))
    assert results["metrics"] == {} and run.step_of("best") == 16


def test_evaluations_are_as_far_apart_as_asked(tmp_path):
    run, _ = run_in(tmp_path, "run", toy.task(evaluate_every=3))
    assert [line["epoch"] for line in run.metrics() if line["split"] == "val"] == [3, 4]


def test_nonsense_is_refused_before_anything_is_written(tmp_path):
    class Empty(toy.ToyTask):
        def sizes(self):
            return {"train": 0, "val": 3}

    for task, said in (
        (toy.task(epochs="auto"), "was not settled"),
        (Empty(toy.app()), "no training sample"),
    ):
        with pytest.raises(UserError, match=said):
            train(task, RunFolder(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


def test_the_log_tells_the_learning_rate_of_the_schedule(tmp_path):
    """Four steps an epoch, half an epoch of warm-up: steps 1 to 3 at 1e-6, half way, and the peak."""
    run, _ = run_in(tmp_path, "run", toy.task(log_every=1, warmup_lr=0.0, min_lr=0.0, epochs=4))
    rates = [line["lr"] for line in run.metrics() if line["split"] == "train"]
    assert rates[:3] == pytest.approx([0, 0.005, 0.01])
    done = (15 / 4 - 0.5) / 3.5
    assert rates[15] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * done)))


def test_precision(tmp_path, monkeypatch):
    task, cpu = toy.task(), torch.device("cpu")
    small, wide = nn.Linear(128, 512), nn.Linear(192, 768)

    def resolved(wanted, model=wide):
        return precision.resolve(wanted, task.bf16_ok, model, cpu)

    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    assert resolved("auto") == "fp32"
    task.bf16_ok = True
    assert resolved("auto") == "bf16" and resolved("fp32") == "fp32"
    assert resolved("auto", small) == "fp32" and resolved("auto", nn.Identity()) == "fp32"
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    assert resolved("auto") == "fp32" and resolved("bf16", small) == "bf16"
    run, results = run_in(tmp_path, "run", toy.task(precision="bf16", epochs=1))
    assert results["precision"] == "bf16" == run.precision()
    assert all(value.dtype != torch.bfloat16 for value in weights(run).values())
    exact, _ = run_in(tmp_path, "exact", toy.task(precision="fp32", epochs=1))
    assert not weights(exact)["head.weight"].equal(weights(run)["head.weight"]), "bf16 rounds"


def test_several_processes_are_refused(monkeypatch):
    assert distributed.this_process().is_main
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE is 2"):
        distributed.this_process()


def test_initial_weights_of_a_run(tmp_path, capsys):
    source, _ = run_in(tmp_path, "source", toy.task(epochs=1))
    again, _ = run_in(tmp_path, "again", toy.task(epochs=1, lr=1e-30, init=str(source.path)))
    have = source.load_weights("best")
    for name, value in weights(again).items():
        if "running" not in name and "batches" not in name:
            torch.testing.assert_close(value, have[name])
    assert "15 of 15 tensors from toy/toy-mlp" in capsys.readouterr().out
    assert (
        again.read_json("task.json")["initial"]
        == "toy/toy-mlp (licence: that of its training data)"
    )
    assert (
        "toy/toy-mlp (licence: that of its training data)" in (again.path / "card.md").read_text()
    )
    (source.path / "results.json").rename(
        source.path / "moved"
    )  # a resumed run doesn't read it again
    (again.path / "results.json").unlink()
    train(toy.task(epochs=1, lr=1e-30, init=str(source.path)), again, resume=True, progress=False)


def test_a_licence_is_handed_on(tmp_path):
    source, _ = run_in(tmp_path, "source", toy.task(epochs=1))
    source.write_json("task.json", {"classes": ["a", "b", "c"], "licence": "CC-BY-NC-4.0"})
    second, _ = run_in(tmp_path, "second", toy.task(epochs=1, init=str(source.path)))
    third, _ = run_in(tmp_path, "third", toy.task(epochs=1, init=str(second.path)))
    assert "CC-BY-NC-4.0" in third.read_json("task.json")["initial"]


def load(model, weights, *, domain="toy", task=None):
    return warm_start.load_into(task or toy.task(), model, InitialWeights(weights, "there", domain))


def test_a_head_of_another_size_stays_fresh():
    model, other = toy.ToyModel(), toy.ToyModel(classes=5)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    lines = load(model, other.state_dict())
    assert any("fresh" in line and "head.weight, head.bias" in line for line in lines)
    for name, value in model.state_dict().items():
        assert value.equal(fresh[name] if name.startswith("head") else other.state_dict()[name])


def test_another_domain_gives_its_backbone_only():
    model, other = toy.ToyModel(), toy.ToyModel()
    before = model.tokeniser[0].weight.clone()
    lines = load(model, other.state_dict(), domain="elsewhere")
    assert model.tokeniser[0].weight.equal(before) and not model.head.weight.equal(
        other.head.weight
    )
    assert model.backbone.blocks[1].weight.equal(other.backbone.blocks[1].weight)
    assert "6 of 15 tensors from there" in lines[0]


def test_another_trunk_is_refused():
    weights = toy.ToyModel().state_dict()
    deeper = {**weights, "backbone.blocks.2.weight": torch.zeros(7, 7)}
    wider = {**weights, "backbone.norm.weight": torch.zeros(11)}
    for found, said in (
        (deeper, r"only one of the two models has backbone\.blocks\.2\.weight"),
        (wider, r"backbone\.norm\.weight is \[11\] there and \[7\] here"),
        ({"conv.weight": torch.zeros(2)}, r"no weights of this model's trunk, but conv\.weight"),
    ):
        with pytest.raises(UserError, match=said):
            load(toy.ToyModel(), found)


def test_a_task_may_adapt_initial_weights():
    class Adapting(toy.ToyTask):
        def adapt_weights(self, weights, model):
            return {name.removeprefix("module."): value for name, value in weights.items()}

    other = {f"module.{name}": value for name, value in toy.ToyModel().state_dict().items()}
    assert "15 of 15" in load(toy.ToyModel(), other, task=Adapting(toy.app()))[0]


def test_seeds_are_summarised():
    runs = [
        {"metrics": {"val": {"top1": v}, "test": {"top1": v, "odd": o}}}
        for v, o in ((0.5, 1), (0.7, None), (0.9, 1))
    ]
    found = summarise_seeds(runs)
    assert found["seeds"] == 3 and set(found["metrics"]["test"]) == {"top1"}
    assert found["metrics"]["test"]["top1"]["mean"] == pytest.approx(0.7)
    assert found["metrics"]["test"]["top1"]["std"] == pytest.approx(0.2)
    assert summarise_seeds(runs[:1])["metrics"]["val"]["top1"]["std"] == 0.0
    assert "importance" not in found
    shares = [
        {**run, "importance": {"test": {"graphs": v}}}
        for run, v in zip(runs, (0.1, 0.3, 0.5), strict=True)
    ]
    assert summarise_seeds(shares)["importance"]["test"]["graphs"]["mean"] == pytest.approx(0.3)


def test_what_a_model_hangs_on_is_written_and_said(tmp_path, capsys):
    class Telling(toy.ToyTask):
        def importance(self, model, split):
            return {"graphs": 0.08, "descriptors": 2.424} if split == "test" else {}

    run_in(tmp_path, "run", Telling(toy.app(epochs=1)))
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["importance"] == {"test": {"graphs": 0.08, "descriptors": 2.424}}
    said = "the graphs by +8 % and the descriptors by +242 % change the error"
    assert said in capsys.readouterr().out


def test_a_better_baseline_is_named(tmp_path, capsys):
    class Beaten(toy.ToyTask):
        def baselines(self):
            values = {"oracle": 1.0, "worse": 0.0}
            return [
                Baseline(name, lambda _, value=value: {"test": {"top1": value}})
                for name, value in values.items()
            ]

    run_in(tmp_path, "run", Beaten(toy.app(epochs=1)))
    assert (
        "the baseline oracle is better" in (said := capsys.readouterr().out)
        and "worse is" not in said
    )


def test_a_full_disk_is_one_sentence(tmp_path):
    class Full(RunFolder):
        def append_metrics(self, line):
            raise OSError(28, "No space left on device")

    with pytest.raises(
        RunError, match=r"No space left on device; make room and go on with --resume"
    ):
        train(toy.task(), Full(tmp_path / "run"), progress=False)


def test_a_full_disk_at_the_start_is_one_sentence_too(tmp_path):
    class Full(RunFolder):
        def write_text(self, name, text):
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device; make room"):
        train(toy.task(), Full(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_mistake_while_a_checkpoint_is_written_leaves_nothing_behind_or_all(
    tmp_path, monkeypatch
):
    """A folder with a checkpoint and without its configuration could not go on."""

    class Unreadable(toy.ToyTask):
        def sample(self, split, index, rng):
            self.read = getattr(self, "read", 0) + 1
            if self.read == 38:  # in step 3
                raise UserError("38.png is not an image")
            return super().sample(split, index, rng)

    save = checkpoint._save
    monkeypatch.setattr(checkpoint, "_save", lambda *one: (time.sleep(0.1), save(*one)))
    settings = {"checkpoint_every": 2, "save_in_background": True}
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=r"38\.png"):
        train(Unreadable(toy.app(**settings)), run, progress=False)
    assert checkpoint.steps(run.checkpoints) == [2] and (run.path / "config.toml").is_file()
    monkeypatch.undo()
    assert train(toy.task(**settings), run, resume=True, progress=False)["status"] == "finished"


def test_what_must_be_said_goes_where_it_is_wanted(tmp_path, capsys):
    said = []
    train(
        toy.task(epochs=1, freeze="trunk"),
        RunFolder(tmp_path / "run"),
        progress=False,
        say=said.append,
    )
    assert (
        capsys.readouterr().out == ""
        and "frozen trunk is random" in said[0]
        and "test (best" in said[-1]
    )


def test_a_bar_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    seconds = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    train(toy.task(epochs=2), RunFolder(tmp_path / "run"))
    text = terminal.getvalue()
    assert (
        "\x1b[" in text
        and "6/8" in text
        and "samples/s" in text
        and "val  top1" in text
        and "step 3/8" not in text
    )


def test_lines_in_a_pipe(tmp_path, capsys):
    train(toy.task(), RunFolder(tmp_path / "run"), progress=True)
    said = capsys.readouterr().out
    assert (
        "step 3/16  loss" in said and "samples/s" in said and "ETA" in said and "val  top1" in said
    )
    assert all(len(line) < 120 for line in said.splitlines()) and "\x1b" not in said


def test_a_line_of_no_step_that_was_made(tmp_path, capsys):
    class Spoilt(toy.ToyTask):
        passes_made = 0

        def loss(self, model, batch):
            self.passes_made += 1
            found = super().loss(model, batch)
            return {**found, "loss": found["loss"] * float("nan" if self.passes_made == 10 else 1)}

    task = Spoilt(toy.app(nonfinite="skip", log_every=3))  # whose fourth step is a line by itself
    results = train(task, RunFolder(tmp_path / "run"), progress=True)
    assert list(results["left_out"]["steps"]["why"]) == ["4"]
    line = next(one for one in RunFolder(tmp_path / "run").metrics() if one["step"] == 4)
    assert "loss" not in line and line["split"] == "train" and "lr" in line
    assert "step 4/16  " in capsys.readouterr().out
