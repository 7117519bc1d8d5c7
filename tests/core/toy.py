"""A task that trains in milliseconds, with what makes resuming hard: dropout, augmentation, mixing, buffers."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from isoform.core.baselines import Baseline
from isoform.core.config.schema import AppConfig, EvalConfig, Table, TrainConfig
from isoform.core.config.state import RunState
from isoform.core.domain import Domain, Figure, Prepared, Task

FEATURES, HIDDEN, CLASSES = 5, 7, 3
SIZES = {"train": 47, "val": 11, "test": 13}  # 47 = 9 batches of 5 and one of 2


class ToyData(Table):
    workers: int = 0


class ToyApp(AppConfig):
    data: ToyData = ToyData()


class ToyState(RunState):
    classes: tuple[str, ...] = ()


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(2))
        self.norm = nn.LayerNorm(HIDDEN)

    def forward(self, x):
        for block in self.blocks:
            x = x + functional.dropout(block(x).relu(), 0.2, self.training)
        return self.norm(x)


class ToyModel(nn.Module):
    """Named as the suite's models are; the batch norm brings buffers, one of them an integer."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.tokeniser = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN))
        self.backbone = Blocks()
        self.head = nn.Linear(HIDDEN, classes)

    def forward(self, x):
        return self.head(self.backbone(self.tokeniser(x)))


class ToyTask(Task):
    monitor, monitor_mode = "top1", "max"

    def __init__(self, config, *, classes=CLASSES, names=None):
        self.config, self.classes = config, classes
        self.names = names or [f"class {i}" for i in range(classes)]
        rng = np.random.default_rng(7)
        centres = rng.normal(size=(classes, FEATURES))
        self.data = {}
        for split, size in SIZES.items():
            y = rng.integers(classes, size=size)
            self.data[split] = (
                (centres[y] + rng.normal(size=(size, FEATURES))).astype(np.float32),
                y,
            )

    def sizes(self):
        return SIZES

    def build(self):
        return ToyModel(self.classes)

    def sample(self, split, index, rng):
        x, y = self.data[split][0][index], int(self.data[split][1][index])
        return (x if rng is None else x + rng.normal(scale=0.1, size=x.shape).astype(np.float32)), y

    def collate(self, samples):
        x, y = zip(*samples, strict=True)
        return torch.from_numpy(np.stack(x)), torch.tensor(y)

    def mix(self, batch, rng):
        x, y = batch
        return x.lerp(x[torch.from_numpy(rng.permutation(len(x)))], float(rng.uniform(0, 0.1))), y

    def loss(self, model, batch):
        x, y = batch
        logits = model(x).float()
        return {
            "loss": functional.cross_entropy(logits, y),
            "top1": (logits.argmax(1) == y).float().mean(),
        }

    def predict(self, model, batch):
        return {"logits": model(batch[0]), "target": batch[1]}

    def metrics(self, split, outputs):
        logits, target = torch.from_numpy(outputs["logits"]), torch.from_numpy(outputs["target"])
        top1 = (logits.argmax(1) == target).double().mean()
        return {"loss": float(functional.cross_entropy(logits, target)), "top1": float(top1)}

    def baselines(self):
        return [Baseline("majority", self.fit_majority)]

    def fit_majority(self, fitting):
        return {split: {"top1": 0.4} for split in ("val", "test")}

    def inference_state(self):
        return ToyState(classes=tuple(self.names))

    def card(self):
        return {"data": "random points", "licence": "none needed", "classes": ", ".join(self.names)}

    def write_predictions(self, folder, split, outputs, stem="predictions"):
        path = Path(folder) / f"{stem}.json"
        path.write_text(json.dumps(outputs["logits"].argmax(1).tolist()))
        return [path]

    def figures(self, model, outputs):
        svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><g id="a"/><use xlink:href="#a"/></svg>'
        return [Figure(f"the classes are {', '.join(self.names)}", svg=svg)]


class SteadyTask(ToyTask):
    """Without the bias in front of the batch norm: its gradient is rounding alone, which Adam makes whole steps of."""

    def build(self):
        model = super().build()
        model.tokeniser[0].register_parameter("bias", None)
        return model


def app(workers=0, **train):
    """The toy's configuration: 10 micro-batches an epoch, the last one partial, 4 optimiser steps of at most 3."""
    settings = {
        "epochs": 4,
        "batch": 5,
        "accumulate": 3,
        "lr": 0.01,
        "warmup": 0.5,
        "log_every": 3,
        "clip": 1.0,
        **train,
    }
    return ToyApp(
        domain="toy",
        app="toy-mlp",
        data=ToyData(workers=workers),
        train=TrainConfig(**settings),
        eval=EvalConfig(batch=4),
    )


def task(workers=0, **train):
    return ToyTask(app(workers, **train))


class Toy(Domain):
    """The toy as a domain: what evaluating and loading a finished run needs; its data are drawn by the task."""

    name = "toy"
    summary = ""

    def schema(self):
        return ToyApp

    def state_schema(self):
        return ToyState

    def prepare(self, config):
        return Prepared(config, [], None)

    def task(self, prepared):
        return ToyTask(prepared.config)

    def task_from_run(self, config, state, data):
        assert data is None, "the toy knows no other data"
        return self.task(Prepared(config, [], None))

    def build_from_run(self, config, state):
        return ToyModel(len(state.classes))

    def _unused(self, *_, **__):
        raise AssertionError("not a part of evaluating a run")

    check = app_of_path = predictor = import_weights = app_of_model = _unused
