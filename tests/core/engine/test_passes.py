"""A batch's loss in several passes: gradients and what is logged add up, and a pass sees the last one's gradient."""

import json

import torch
import toy
from torch import nn

from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder


class Whole(toy.ToyTask):
    """A model without batch norms, which would see every pass."""

    def build(self):
        return nn.Sequential(
            nn.Linear(toy.FEATURES, toy.HIDDEN), nn.Dropout(0.3), nn.Linear(toy.HIDDEN, toy.CLASSES)
        )


class Halves(Whole):
    """The same loss in two halves, with the dropout of one pass."""

    def passes(self, model, batch):
        state = torch.get_rng_state()
        for _ in range(2):
            torch.set_rng_state(state)
            yield {name: value / 2 for name, value in self.loss(model, batch).items()}


def run(folder, task):
    train(task, RunFolder(folder), progress=False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return RunFolder(folder).load_weights("last"), [
        line["loss"] for line in lines if line["split"] == "train"
    ]


def test_two_halves_are_the_whole(tmp_path):
    config = toy.app(epochs=2, log_every=1, optimizer="sgd", lr=0.3)
    weights, losses = run(tmp_path / "whole", Whole(config))
    half_weights, half_losses = run(tmp_path / "halves", Halves(config))
    assert losses[-1] < losses[0]
    for name in weights:
        torch.testing.assert_close(half_weights[name], weights[name], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        torch.tensor(half_losses), torch.tensor(losses), atol=1e-5, rtol=1e-5
    )


def test_a_pass_finds_the_gradient_of_the_last_one(tmp_path):
    found = []

    class Climbing(toy.ToyTask):
        def passes(self, model, batch):
            x, y = batch
            shift = torch.zeros_like(x, requires_grad=True)
            yield self.loss(model, (x + shift, y))
            found.append((len(x), shift.grad))
            assert not torch.is_autocast_enabled("cpu")

    config = toy.app(epochs=1)
    train(Climbing(config), RunFolder(tmp_path / "run"), progress=False)
    assert sum(size for size, _ in found) == toy.SIZES["train"]
    assert all(grad is not None and grad.abs().sum() > 0 for _, grad in found)
