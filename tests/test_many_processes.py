"""Two processes train an app of each kind as one does: dropout, augmentation and an uneven last batch included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isoform.core.domain import Task
from isoform.core.engine import distributed
from isoform.core.engine.train import train
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from isoform.vision.prepare import prepare
from ranks import in_ranks

from .molecules import runs as molecules
from .molecules.adit.test_task import files, task_of
from .vision import runs as vision
from .vision.pictures import app

CLOSE = 1e-5
# Two steps an epoch, the last of fewer samples and, in vision, of a single micro-batch.
TRAIN = {"epochs": 26, "accumulate": 2, "warmup": 1.0, "log_every": 1, "ema": 0.9, "clip": 1.0}


def image_task(folder: Path) -> Task:
    root = vision.folders(folder, (11, 13), 3, "uint8")
    augment = {"degrees": 10.0, "flip": 0.5, "mixup": 0.2}
    backbone = {"dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.1, "depth": 2}
    settings = app(
        data={"root": str(root)}, augment=augment, backbone=backbone, train={**TRAIN, "batch": 5}
    )
    return vision.Plain(prepare(settings))


def molecule_task(folder: Path) -> Task:
    folder.mkdir()
    backbone = {"dropout": 0.1, "attention_dropout": 0.1, "depth": 2}
    config = molecules.app(
        molecules.table(folder / "molecules.csv", rows=31),
        backbone=backbone,
        loss={"flag_steps": 2},
        train={**TRAIN, "batch": 5, "accumulate": 3},
    )
    return molecules.task_of(config)


def structure_task(folder: Path) -> Task:
    train = {f"train.{key}": value for key, value in TRAIN.items()}
    more = {"train.batch": 5, "train.accumulate": 3, "eval.baselines": [], "eval.samples": 0}
    told = {**train, **more, "train.checkpoint_every": None}
    first = RunFolder(folder.with_name("first"))
    data = files(folder)
    run(task_of("adit-tiny-vae", data, **{**told, "train.epochs": 1}), first.path)
    return task_of("adit-tiny", data, **{**told, "train.init": str(first.path)})


TASKS: dict[str, Callable[[Path], Task]] = {
    "vision": image_task,
    "molecules": molecule_task,
    "adit": structure_task,
}


def run(task: Task, folder: Path, **settings: Any) -> None:
    before = task.config
    task.config = before.model_copy(update={"train": before.train.model_copy(update=settings)})
    train(task, RunFolder(folder), progress=False, say=lambda line: None)


def furthest(ours: Path, theirs: Path) -> float:
    """The largest difference between the weights of two runs' last checkpoints."""
    found = []
    for folder in (ours, theirs):
        step = RunFolder(folder).step_of("last")
        found.append((step, checkpoint.read(checkpoint.place(folder / "checkpoints", step))))
    assert found[0][0] == found[1][0] >= 50
    a, b = (
        dict(one.model) | {f"ema/{k}": v for k, v in (one.ema or {}).items()} for _, one in found
    )
    assert a.keys() == b.keys()
    return max(float((seen(name, a[name]) - seen(name, b[name])).abs().max()) for name in a)


def seen(name: str, tensor: Tensor) -> Tensor:
    """Without the keys' bias, which no softmax sees: its gradient is rounding, of which Adam makes whole steps."""
    if not name.endswith("qkv.bias"):
        return tensor.double()
    query, _, value = tensor.double().chunk(3)
    return torch.cat((query, value))


@pytest.fixture(scope="module", params=TASKS)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A task, and what one process makes of it."""
    folder = tmp_path_factory.mktemp(request.param)
    task = TASKS[request.param](folder / "data")
    run(task, folder / "run")
    return task, folder / "run"


@pytest.mark.parametrize("shard", ["none", "full"])
def test_two_processes_train_what_one_does(alone, shard, tmp_path):
    task, folder = alone
    assert in_ranks(2, lambda: run(task, tmp_path / "run", shard=shard)) == [0, 0]
    assert furthest(tmp_path / "run", folder) < CLOSE
    ours, theirs = (RunFolder(one).results()["metrics"] for one in (tmp_path / "run", folder))
    for split, metrics in theirs.items():
        assert ours[split] == pytest.approx(metrics, rel=1e-3, abs=1e-4)


def test_processes_that_do_not_sum_their_gradients_end_elsewhere(alone, tmp_path, monkeypatch):
    task, folder = alone
    monkeypatch.setattr(distributed.Process, "sum_each", lambda self, tensors: tensors)
    assert in_ranks(2, lambda: run(task, tmp_path / "apart")) == [0, 0]
    assert furthest(tmp_path / "apart", folder) > 100 * CLOSE
