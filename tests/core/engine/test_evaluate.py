import json
import shutil

import numpy as np
import pytest
import torch
import toy

from isoform.core.engine.evaluate import evaluate
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, UserError
from isoform.core.inference.run_model import evaluate_run, load_model
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder


class Bucketed(toy.ToyTask):
    """Reads its samples in another order, as a domain with ragged samples does."""

    def batches(self, split, size, rng):
        order = np.arange(self.sizes()[split])[::-1].tolist()
        return [order[i : i + size] for i in range(0, len(order), size)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("evaluate") / "run")
    train(toy.task(ema=0.5, checkpoint_every=1), run, progress=False)
    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_outputs_stand_in_sample_order(workers):
    model = toy.ToyModel()
    metrics, outputs = evaluate(Bucketed(toy.app()), model, "test", workers=workers)
    plain, expected = evaluate(toy.task(), model, "test", workers=0)
    assert np.array_equal(outputs["target"], toy.task().data["test"][1])
    np.testing.assert_allclose(outputs["logits"], expected["logits"], atol=1e-6)
    assert metrics == pytest.approx(plain)


def test_the_mode_is_put_back_and_the_state_untouched():
    model = toy.ToyModel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(toy.task(), model, "val")
    assert model.training and all(
        value.equal(before[name]) for name, value in model.state_dict().items()
    )
    evaluate(toy.task(), model.eval(), "val")
    assert not model.training


def test_half_precision_outputs_are_arrays():
    _, outputs = evaluate(toy.task(), toy.ToyModel(), "val", precision_name="bf16")
    assert outputs["logits"].dtype == np.float32


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match=r"no dev split.*train, val, test"):
        evaluate(toy.task(), toy.ToyModel(), "dev")


def test_it_can_be_stopped():
    with pytest.raises(Preempted):
        evaluate(toy.task(), toy.ToyModel(), "val", stop=lambda: True)


def test_a_run_evaluates_to_what_it_stored(run):
    found = evaluate_run(toy.Toy(), run.path)
    assert found["metrics"] == run.results()["metrics"]["test"] and found[
        "checkpoint"
    ] == run.step_of("best")
    assert found["samples"] == 13 and found["split"] == "test"
    assert (
        evaluate_run(toy.Toy(), run.path, split="val")["metrics"] == run.results()["metrics"]["val"]
    )


def test_other_data_go_through_the_domain(run, tmp_path):
    seen = []

    class Elsewhere(toy.Toy):
        def task_from_run(self, config, state, data):
            seen.append((config.app, state.classes[0], data))
            return toy.ToyTask(config)

    own = run.path / "predictions.json"
    own.write_text("the run's own")
    evaluate_run(Elsewhere(), run.path, data=str(tmp_path))
    assert (
        own.read_text() == "the run's own"
        and (run.path / f"predictions.{tmp_path.stem}.json").exists()
    )
    evaluate_run(Elsewhere(), run.path)
    assert seen == [("toy-mlp", "class 0", tmp_path), ("toy-mlp", "class 0", None)]


class Dataless(toy.Toy):
    def prepare(self, config):
        raise AssertionError("a run's model is built without its data")


def test_a_moved_run_loads_without_its_data(run, tmp_path):
    moved = RunFolder(shutil.copytree(run.path, tmp_path / "elsewhere"))
    x = torch.from_numpy(toy.task().data["test"][0])
    predicted = load_model(Dataless(), moved.path)(x).argmax(1)
    assert json.loads((run.path / "predictions.json").read_text()) != []
    again = load_model(Dataless(), run.path, checkpoint="best")(x).argmax(1)
    assert predicted.equal(again)
    last = load_model(Dataless(), moved.path, checkpoint="last")
    assert last.head.weight.equal(run.load_weights("last")["head.weight"]) and not last.training


def test_weights_of_another_model_are_refused(run):
    class Wider(toy.Toy):
        def build_from_run(self, config, state):
            return toy.ToyModel(5)

    with pytest.raises(
        UserError, match=r"don't fit the model of its config\.toml: size mismatch for head"
    ):
        load_model(Wider(), run.path)


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    moved = RunFolder(shutil.copytree(run.path, tmp_path / "elsewhere"))
    step = moved.step_of("last")
    (checkpoint.place(moved.checkpoints, step) / "state.json").write_text("{}")
    with pytest.raises(UserError, match=rf"step-{step:07d} is damaged: state\.json"):
        load_model(toy.Toy(), moved.path, checkpoint=step)
