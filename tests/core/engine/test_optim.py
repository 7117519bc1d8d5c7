import math

import pytest
import torch
import toy
from torch import nn

from isoform.core.config.schema import TrainConfig
from isoform.core.engine import optim
from isoform.core.engine.muon import Muon, orthogonal
from isoform.core.ops.decay import without_decay


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokeniser = nn.Module()
        self.tokeniser.project = nn.Linear(3, 5)
        self.tokeniser.class_token = without_decay(nn.Parameter(torch.zeros(1, 2, 5)))
        self.tokeniser.position = without_decay(nn.Parameter(torch.zeros(1, 7, 5)))
        self.backbone = nn.Module()
        self.backbone.blocks = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.backbone.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 2)


def test_depth_from_names():
    found = optim.depth_from_names(Named())
    assert found == {
        "tokeniser.class_token": 0, "tokeniser.position": 0, "tokeniser.project.weight": 0, "tokeniser.project.bias": 0,
        "backbone.blocks.0.weight": 1, "backbone.blocks.0.bias": 1, "backbone.blocks.1.weight": 2,
        "backbone.blocks.1.bias": 2, "backbone.blocks.2.weight": 3, "backbone.blocks.2.bias": 3,
        "backbone.norm.weight": 4, "backbone.norm.bias": 4, "head.weight": 4, "head.bias": 4,
    }  # fmt: skip


def test_depth_where_nothing_is_called_backbone():
    model = nn.ModuleDict(
        {
            "pos_embed": nn.Linear(2, 3),
            "blocks": nn.ModuleList([nn.Linear(3, 3)]),
            "out": nn.Linear(3, 2),
        }
    )
    found = optim.depth_from_names(model)
    assert (found["pos_embed.weight"], found["blocks.0.weight"], found["out.weight"]) == (0, 1, 2)


def test_layer_decay_groups():
    """By hand: factor 0.5 a layer, head 1, last block 0.5, first block 0.125, tokeniser 0.0625."""
    model = Named()
    config = TrainConfig(lr=0.1, layer_decay=0.5, weight_decay=0.3)
    optimizer = optim.build_optimizer(model, config, optim.depth_from_names(model))
    optim.set_learning_rate(optimizer, 0.1)
    names = {p: name for name, p in model.named_parameters()}
    found = {
        names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]
    }
    assert len(found) == 14
    expected = {
        "head.weight": (0.1, 0.3), "head.bias": (0.1, 0.0), "backbone.norm.weight": (0.1, 0.0),
        "backbone.blocks.2.weight": (0.05, 0.3), "backbone.blocks.1.weight": (0.025, 0.3),
        "backbone.blocks.0.weight": (0.0125, 0.3), "backbone.blocks.0.bias": (0.0125, 0.0),
        "tokeniser.project.weight": (0.00625, 0.3), "tokeniser.class_token": (0.00625, 0.0),
        "tokeniser.position": (0.00625, 0.0),
    }  # fmt: skip
    for name, (lr, decay) in expected.items():
        assert found[name] == pytest.approx((lr, decay)), name


def test_without_layer_decay_there_are_two_groups():
    model = Named()
    optimizer = optim.build_optimizer(model, TrainConfig(), optim.depth_from_names(model))
    assert [g["scale"] for g in optimizer.param_groups] == [1, 1]


@pytest.mark.parametrize(
    ("name", "shape", "decaying"),
    [("head.weight", (2, 3), True), ("head.bias", (2,), False), ("head.bias", (2, 3), False),
     ("blocks.0.scale", (3,), False), ("pos_embed", (1, 5, 3), True)],
)  # fmt: skip
def test_what_decays(name, shape, decaying):
    """By its shape, but for what is marked: a name tells nothing, whatever a model calls its tokens."""
    parameter = nn.Parameter(torch.zeros(shape))
    assert optim.decays(name, parameter) is decaying
    assert not optim.decays(name, without_decay(parameter))


def test_the_groups_in_words():
    model = Named()
    config = TrainConfig(layer_decay=0.5, weight_decay=0.3)
    assert optim.describe_groups(model, config) == (
        "adamw; weight decay 0.3 on 5 tensors of 100 parameters; none on 9 tensors of 77 parameters (7 vectors, "
        "tokeniser.class_token, tokeniser.position); learning rate from input to head times 0.0625, 0.125, 0.25, 0.5, 1"
    )
    flat = TrainConfig(weight_decay=0.0, optimizer="sgd")
    assert optim.describe_groups(Named(), flat) == "sgd; no weight decay"
    held = optim.describe_groups(model, TrainConfig(weight_decay=0.3), ("backbone.", "tokeniser."))
    assert held == (
        "adamw; weight decay 0.3 on 1 tensors of 10 parameters; none on 1 tensors of 2 parameters (1 vectors); "
        "held: 12 tensors of 165 parameters"
    )


def test_everything_decays_where_asked():
    model = Named()
    config = TrainConfig(weight_decay=0.3, decay_all=True, optimizer="adam", layer_decay=0.5)
    optimizer = optim.build_optimizer(model, config, optim.depth_from_names(model))
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 14
    assert all(g["weight_decay"] == 0.3 for g in optimizer.param_groups)
    assert len(optimizer.param_groups) == 5, "one a depth"


@pytest.mark.parametrize(("kind", "moved"), [("adam", 0.1), ("adamw", 0.1 * 0.3 * 5)])
def test_what_decay_does_to_a_weight_without_gradient(kind, moved):
    """Adam adds 0.3 * 5 to the gradient, and its first step is lr whatever the gradient's size; AdamW shrinks by lr."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.bias, 5.0)
    config = TrainConfig(optimizer=kind, lr=0.1, weight_decay=0.3, decay_all=True)
    optimizer = optim.build_optimizer(layer, config, optim.depth_from_names(layer))
    optim.set_learning_rate(optimizer, 0.1)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert layer.bias.item() == pytest.approx(5 - moved)


def test_halving_by_hand():
    """lr in the first two epochs, then half after every one: 1, 1, 1/2, 1/4, ... of the rate, min_lr or not."""
    config = TrainConfig(lr=0.8, min_lr=0.5, schedule="halving")
    found = [optim.learning_rate(config, 10, time) for time in (0, 0.99, 1, 1.5, 2, 2.99, 3, 9.5)]
    assert found == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.8 / 2**8])
    warm = config.model_copy(update={"warmup": 2.0, "warmup_lr": 0.2})
    assert optim.learning_rate(warm, 10, 1) == pytest.approx(0.5)
    assert [optim.learning_rate(warm, 10, time) for time in (2, 3.5, 4)] == pytest.approx(
        [0.8, 0.8, 0.4]
    )


def test_schedule_by_hand():
    config = TrainConfig(lr=1.0, min_lr=0.2, warmup=2.0, warmup_lr=0.5, schedule="cosine")

    def at(time):
        return optim.learning_rate(config, 10, time)

    assert at(0) == 0.5 and at(0.5) == 0.625 and at(2) == 1.0
    assert at(6) == pytest.approx(0.6)  # half of the cosine
    assert at(4) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert at(10) == pytest.approx(0.2)
    linear = config.model_copy(update={"schedule": "linear"})
    assert optim.learning_rate(linear, 10, 4) == pytest.approx(0.8)
    constant = config.model_copy(update={"schedule": "constant"})
    assert optim.learning_rate(constant, 10, 9.9) == 1.0
    assert optim.learning_rate(config, 1, 0.5) == 0.625  # a run shorter than its warm-up


def test_average_by_hand():
    model = nn.BatchNorm1d(1)
    ema = optim.Ema(model, 0.25)
    for updates, value in enumerate((10.0, 20.0)):
        model.weight.data.fill_(value)
        model.running_mean.fill_(-value)
        model.num_batches_tracked.fill_(updates + 1)
        ema.update(updates)
    first = 1 * 0.1 + 10 * 0.9  # the decay after 0 updates is 1 / 10
    second = first * 2 / 11 + 20 * 9 / 11
    assert float(ema.model.weight) == pytest.approx(second)
    assert float(ema.model.running_mean) == pytest.approx(-(0 * 2 / 11 + 9 * 2 / 11 + 20 * 9 / 11))
    assert int(ema.model.num_batches_tracked) == 2 and not ema.model.training
    ema.update(1000)
    assert float(ema.model.weight) == pytest.approx(second * 0.25 + 20 * 0.75)
    assert model.weight.item() == 20 and not ema.model.weight.requires_grad


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_state_round_trip(kind):
    config = TrainConfig(optimizer=kind)
    model = toy.ToyModel()
    optimizer = optim.build_optimizer(model, config, optim.depth_from_names(model))

    def step(model, optimizer, seed):
        torch.manual_seed(seed)
        model(torch.randn(5, toy.FEATURES)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(model, optimizer, 0)
    tensors = {
        name: value.clone() for name, value in optim.optimizer_tensors(optimizer, model).items()
    }
    assert all(name.split("/")[1] in dict(model.named_parameters()) for name in tensors) and tensors
    twin = toy.ToyModel()
    twin.load_state_dict(model.state_dict())
    other = optim.build_optimizer(twin, config, optim.depth_from_names(twin))
    optim.load_optimizer_tensors(other, twin, tensors)
    step(model, optimizer, 1)
    step(twin, other, 1)
    assert all(a.equal(b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_foreign_state_is_refused():
    model = toy.ToyModel()
    optimizer = optim.build_optimizer(model, TrainConfig(), optim.depth_from_names(model))
    for name, value in (
        ("exp_avg/head.wight", torch.zeros(3, 7)),
        ("exp_avg/head.weight", torch.zeros(7, 3)),
    ):
        with pytest.raises(ValueError, match="doesn't belong"):
            optim.load_optimizer_tensors(optimizer, model, {name: value})


def test_the_late_cosine_is_timms_stepped_behind_each_epoch():
    scheduler = pytest.importorskip("timm.scheduler")
    config = TrainConfig(
        lr=0.8, min_lr=0.1, warmup=3.0, warmup_lr=0.2, schedule="cosine_late", schedule_epochs=11
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    theirs = scheduler.CosineLRScheduler(
        optimizer, t_initial=11, lr_min=0.1, warmup_lr_init=0.2, warmup_t=3, cycle_limit=1
    )
    for epoch in range(15):
        rate = optimizer.param_groups[0]["lr"]
        for part in (0.0, 0.3, 0.99):
            assert optim.learning_rate(config, 15, epoch + part) == pytest.approx(rate)
        theirs.step(epoch)


def test_a_rate_may_fall_in_a_part_of_the_run():
    config = TrainConfig(lr=1.0, min_lr=0.2, schedule="linear", schedule_epochs=4.0)
    found = [optim.learning_rate(config, 10, time) for time in (0, 1, 4, 9)]
    assert found == pytest.approx([1.0, 0.8, 0.2, 0.2])
    with pytest.raises(ValueError, match="has no end"):
        TrainConfig(schedule="halving", schedule_epochs=4.0)
    with pytest.raises(ValueError, match="should be at least 1"):
        TrainConfig(epochs=0)


def test_of_several_updates_along_one_gradient_the_last_is_clipped():
    """sgd, gradient (3, 4) of norm 5 clipped to 1: steps of the whole, the whole, and a fifth of it."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.tensor([3.0, 4.0])
    config = TrainConfig(optimizer="sgd", updates=3, clip=1.0)
    optim.move(optimizer, [weight], torch.tensor(5.0), config)
    torch.testing.assert_close(weight.detach(), -0.1 * 2.2 * torch.tensor([3.0, 4.0]))
    assert weight.grad is None


def test_muon_moves_the_matrices_of_blocks_and_adamw_all_else():
    model = Named()
    config = TrainConfig(optimizer="muon", lr=0.1, weight_decay=0.3)
    optimizer = optim.build_optimizer(model, config)
    names = {p: name for name, p in model.named_parameters()}
    kinds = {names[p]: g["orthogonal"] for g in optimizer.param_groups for p in g["params"]}
    assert {name for name, matrix in kinds.items() if matrix} == {
        f"backbone.blocks.{i}.weight" for i in range(3)
    }
    same = Named()
    same.load_state_dict(model.state_dict())
    adamw = optim.build_optimizer(same, TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0.3))
    for step in range(3):
        for one, other in zip(model.parameters(), same.parameters(), strict=True):
            one.grad = other.grad = torch.randn(one.shape, generator=torch.manual_seed(step))
        optimizer.step()
        adamw.step()
    for (name, one), other in zip(model.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other) != kinds[name], name


@pytest.mark.parametrize("shape", [(5, 11), (11, 5), (7, 7)])
def test_muon_steps_as_torchs_does(shape):
    """Its own runs in bfloat16, so a step's direction agrees to some hundredths."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    group = {"params": [ours], "orthogonal": True, "weight_decay": 0.1}
    mine = Muon([group], lr=1.0, betas=(0.9, 0.999))
    other = torch.optim.Muon([theirs], lr=1.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours.grad = theirs.grad = torch.randn(shape, generator=torch.manual_seed(step))
        mine.step()
        other.step()
    assert (ours - theirs).norm() < 0.05 * theirs.norm()
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, *shape, dtype=torch.float64)))
    assert values.min() > 0.5 and values.max() < 1.3


def test_muons_state_comes_back():
    def moved(optimizer, model, step):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.manual_seed(step))
        optimizer.step()

    config = TrainConfig(optimizer="muon", lr=0.1)
    model, again = Named(), Named()
    optimizer, later = (optim.build_optimizer(one, config) for one in (model, again))
    moved(optimizer, model, 0)
    again.load_state_dict(model.state_dict())
    kept = {name: one.clone() for name, one in optim.optimizer_tensors(optimizer, model).items()}
    assert "momentum_buffer/backbone.blocks.1.weight" in kept
    optim.load_optimizer_tensors(later, again, kept)
    moved(optimizer, model, 1)
    moved(later, again, 1)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
