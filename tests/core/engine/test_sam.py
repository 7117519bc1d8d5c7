"""Sharpness-aware steps: the climb by hand, the way back, and the engine's use of both."""

import json

import pytest
import torch
import toy
from torch import nn

from isoform.core.engine.sam import Sam
from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder


def test_a_climb_by_hand():
    """loss = (a^2 + 4 b^2) / 2 at a = 3, b = 1: gradient (3, 4), norm 5, so rho = 0.5 climbs by (0.3, 0.4)."""
    a, b = (nn.Parameter(torch.tensor([x])) for x in (3.0, 1.0))
    sam = Sam([a, b], 0.5)
    ((a**2 + 4 * b**2) / 2).sum().backward()
    assert float(sam.climb()) == 5.0, "one norm over all parameters"
    assert a.grad is None and b.grad is None
    assert (a.item(), b.item()) == pytest.approx((3.3, 1.4))
    ((a**2 + 4 * b**2) / 2).sum().backward()
    sam.back()
    assert (a.item(), b.item()) == (3.0, 1.0)
    assert (a.grad.item(), b.grad.item()) == pytest.approx((3.3, 5.6))


def test_the_way_back_is_exact():
    """Adding and subtracting would round: 1e8 + 0.3 - 0.3 isn't 1e8 in float32, and 0.1 + 7 - 7 isn't 0.1."""
    weights = [
        nn.Parameter(torch.randn(n, m) * s) for n, m, s in ((3, 5, 1e8), (7, 2, 0.1), (11, 1, 1e-9))
    ]
    before = [w.detach().clone() for w in weights]
    sam = Sam(weights, 7.0)
    sum((w * torch.randn_like(w)).sum() for w in weights).backward()
    sam.climb()
    assert not weights[1].equal(before[1])
    sam.back()
    assert all(w.equal(was) for w, was in zip(weights, before, strict=True))


def test_what_has_no_gradient_stays():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    sam = Sam([used, unused], 2.0)
    used.sum().backward()
    assert float(sam.climb()) == pytest.approx(2**0.5)
    assert unused.eq(1).all() and used.gt(1).all()
    with pytest.raises(RuntimeError, match="two climbs"):
        sam.climb()


def test_no_gradient_at_all_is_no_climb():
    """At a minimum the norm is 0: the weights stay and are no NaN."""
    w = nn.Parameter(torch.zeros(5))
    sam = Sam([w], 0.5)
    w.square().sum().backward()
    assert float(sam.climb()) == 0 and w.eq(0).all()


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(toy.FEATURES, toy.HIDDEN), nn.Tanh())
        self.head = nn.Linear(toy.HIDDEN, toy.CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x))


class PlainTask(toy.ToyTask):
    """Nothing in its loss depends on how the samples are cut into batches."""

    def build(self):
        return Plain()

    def mix(self, batch, rng):
        return batch


def weights_after(folder, **settings):
    task = PlainTask(
        toy.app(clip=None, warmup=0.0, optimizer="sgd", lr=0.3, weight_decay=0.0, **settings)
    )
    train(task, RunFolder(folder), progress=False)
    return RunFolder(folder).load_weights("last")


def test_micro_batches_make_the_step_of_the_whole_batch(tmp_path):
    whole = weights_after(tmp_path / "whole", batch=15, accumulate=1, sam=0.5)
    parts = weights_after(tmp_path / "parts", batch=5, accumulate=3, sam=0.5)
    flat = weights_after(tmp_path / "flat", batch=15, accumulate=1, sam=0.0)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], atol=1e-5, rtol=1e-4)
    assert max((flat[n] - whole[n]).abs().max() for n in whole) > 1e-2, (
        "the climb made no difference"
    )


def test_the_second_gradient_sees_the_first_ones_samples_and_dropout(tmp_path):
    seen = []

    class Watching(toy.ToyTask):
        def loss(self, model, batch):
            draws = torch.rand(3)
            seen.append((batch[0].clone(), draws, model.head.weight.detach().clone()))
            return super().loss(model, batch)

    config = toy.app(epochs=1, sam=0.1)
    train(Watching(config), RunFolder(tmp_path / "run"), progress=False)
    sizes = [3, 3, 3, 1]  # 10 micro-batches in steps of at most 3
    assert len(seen) == 2 * sum(sizes)
    place = 0
    for size in sizes:
        first, second = seen[place : place + size], seen[place + size : place + 2 * size]
        place += 2 * size
        for (x, draws, weight), (x2, draws2, weight2) in zip(first, second, strict=True):
            assert x.equal(x2) and draws.equal(draws2) and not weight.equal(weight2)


def test_sharpness_is_logged(tmp_path):
    train(toy.task(sam=0.1, epochs=1, log_every=1), RunFolder(tmp_path / "run"), progress=False)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    values = [line["sharpness"] for line in lines if line["split"] == "train"]
    assert len(values) == 4 and all(value > 0 for value in values)
