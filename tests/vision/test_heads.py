"""Several columns, each with classes of its own: one trunk, a head for each, losses summed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import isoform
from answers import rows_in
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import multiclass_metrics
from isoform.vision import heads
from isoform.vision.prepare import prepare
from isoform.vision.task import VisionTask

from .pictures import app, picture, table

ORGANS, FINDINGS = ("liver", "lung", "skin"), ("none", "nodule")
CLASSES = ["organ=liver", "organ=lung", "organ=skin", "finding=nodule", "finding=none"]


def write_table(folder: Path, rows: int = 43) -> Path:
    """`finding` is unknown of each fifth, `organ` of image 3, both of image 30."""
    lines = []
    for i in range(rows):
        picture(i, level=15 + 60 * (i % 3)).save(folder / f"{i:02d}.png")
        organ = "" if i in (3, 30) else ORGANS[i % 3]
        lines.append([f"{i:02d}.png", organ, "" if i % 5 == 0 else FINDINGS[i % 2], f"p{i // 2}"])
    return table(folder / "t.csv", ["path", "organ", "finding", "patient"], lines)


def task_of(folder: Path, **tables) -> VisionTask:
    data = {"table": str(write_table(folder)), "task": "multihead", "labels": ["organ", "finding"]}
    data |= {"val_fraction": 0.2, "test_fraction": 0.2, **tables.pop("data", {})}
    return VisionTask(prepare(app(data=data, **tables)))


def whole_batch(task: VisionTask) -> dict[str, torch.Tensor]:
    rngs = [None] * task.sizes()["train"]
    return task.collate([task.sample("train", i, rng) for i, rng in enumerate(rngs)])


class Fixed(torch.nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, image):
        return self.logits


@pytest.mark.parametrize("balanced", [False, True])
def test_losses_of_heads_are_summed_and_a_missing_class_counts_for_nothing(tmp_path, balanced):
    task = task_of(tmp_path, data={"class_weights": "balanced" if balanced else "none"})
    assert task.classes == [
        "organ=liver",
        "organ=lung",
        "organ=skin",
        "finding=nodule",
        "finding=none",
    ]
    assert "30.png" not in task.data.records.images.names, "nothing is known of it"
    batch = whole_batch(task)
    model = Fixed(torch.linspace(-2, 2, batch["target"].numel()).reshape(batch["target"].shape))
    found = task.loss(model, batch)
    total = 0.0
    for column, block in (("organ", slice(0, 3)), ("finding", slice(3, 5))):
        target = torch.from_numpy(heads.true_classes(batch["target"].numpy(), block))
        known = target >= 0
        assert 0 < known.sum() < len(known) or column == "organ"
        weight = None
        if balanced:
            counts = torch.bincount(target[known])
            weight = known.sum() / (len(counts) * counts)
        each = functional.cross_entropy(
            model.logits[known][:, block], target[known], weight=weight, reduction="none"
        )
        assert found[f"loss {column}"].item() == pytest.approx(each.mean().item(), rel=1e-5)
        total += each.mean().item()
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)
    found["loss"].backward()
    assert (model.logits.grad[batch["target"].isnan()] == 0).all()


def test_labels_are_suspected_head_by_head():
    guess = np.array(
        [[0.1, 0.7, 0.2, 0.45, 0.55], [0.3, 0.4, 0.3, 0.8, 0.2], [0.6, 0.1, 0.3, 1, 0]]
    )
    organ, finding = np.eye(3)[[0, 1, 2]], np.eye(2)[[1, 0, 1]]
    organ[2] = np.nan
    found = heads.suspects(CLASSES, guess, np.hstack([organ, finding]))
    assert [tuple(row.values()) for row in found] == [
        (0, "organ", "liver", 0.1, "lung", 0.7),
        (2, "finding", "none", 0.0, "nodule", 1.0),
    ]


def test_metrics_are_those_of_each_head_and_their_mean():
    rng = np.random.default_rng(2)
    guess = rng.random((31, 5))
    organ, finding = rng.integers(-1, 3, 31), rng.integers(-1, 2, 31)
    target = np.hstack([np.eye(3)[organ], np.eye(2)[finding]])
    target[organ < 0, :3] = np.nan
    target[finding < 0, 3:] = np.nan
    found = heads.heads_metrics(guess, target, CLASSES)
    each = {}
    for column, block, true in (("organ", slice(0, 3), organ), ("finding", slice(3, 5), finding)):
        share = guess[:, block] / guess[:, block].sum(1, keepdims=True)
        each[column] = multiclass_metrics(share, true)
        for name, value in each[column].items():
            assert found[f"{name} {column}"] == pytest.approx(value)
    assert found["top1"] == pytest.approx(np.mean([one["top1"] for one in each.values()]))
    assert found["loss"] == pytest.approx(np.mean([one["loss"] for one in each.values()]))
    target[:, 3:] = np.nan
    alone = heads.heads_metrics(guess, target, CLASSES)
    assert alone["top1"] == pytest.approx(each["organ"]["top1"]) and "top1 finding" not in alone
    assert np.isnan(heads.heads_metrics(guess, np.full_like(target, np.nan), CLASSES)["top1"])


def test_mixed_images_have_shares_of_classes_of_every_head(tmp_path):
    task = task_of(tmp_path, augment={"mixup": 0.7, "cutmix": 0.7}, loss={"label_smoothing": 0.1})
    batch = whole_batch(task)
    mixed = task.mix(batch, np.random.default_rng(3))
    known = ~mixed["target"][:, :3].isnan().any(1)
    torch.testing.assert_close(mixed["target"][known, :3].sum(1), torch.ones(int(known.sum())))
    assert task.loss(task.build(), mixed)["loss"].isfinite()


APPS = """
[vision.tiny]
data = {table = "t.csv", task = "multihead", labels = ["organ", "finding"], val_fraction = 0.2, group = "patient"}
tokeniser = {image = 8, patch = 4, channels = 3}
backbone = {dim = 12, depth = 1, heads = 3}
train = {epochs = 2, batch = 5, lr = 3e-3}
"""


def test_heads_from_a_table_to_predictions_by_command(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    write_table(Path())
    Path("apps.toml").write_text(APPS)
    call = partial(cli, "vision")
    assert call("check", "tiny", "--apps", "apps.toml", "--page", "p.html")[0] == 0
    code, _, err = call(
        "train", "tiny", "--apps", "apps.toml", "--folds", "2", "--run-dir", "g", "--seed", "3"
    )
    assert code == 0, err
    found = json.loads(Path("g/fold-1/results.json").read_text())
    metrics = found["metrics"]["test"]
    assert metrics["top1"] == pytest.approx((metrics["top1 organ"] + metrics["top1 finding"]) / 2)
    ranges = found["intervals"]["test"]
    assert {"top1", "top1 organ", "loss finding"} <= ranges.keys() <= metrics.keys()
    for name in ("top1", "top1 organ", "loss", "loss finding"):
        assert ranges[name][0] <= metrics[name] <= ranges[name][1]
    assert {"majority", "logistic", "knn"} <= found["baselines"].keys()
    assert all(np.isfinite(own["test"]["loss"]) for own in found["baselines"].values())
    captions = [one["caption"] for one in json.loads(Path("g/fold-1/figures.json").read_text())]
    assert any(caption.startswith("organ: Confusion") for caption in captions)
    rows = rows_in("g/fold-1/predictions.csv")
    truth = {row["path"]: row for row in rows_in("t.csv")}
    for row in rows:
        for column in ("organ", "finding"):
            assert row[f"target {column}"] == truth[row["input"]][column]
            names = ORGANS if column == "organ" else FINDINGS
            shares = {name: float(row[f"p {column}={name}"]) for name in names}
            assert sum(shares.values()) == pytest.approx(1)
            assert row[f"prediction {column}"] == max(shares, key=lambda name: shares[name])
    images = [row["input"] for row in rows[:5]]
    each = [isoform.load(f"g/fold-{k}").predict(images) for k in (1, 2)]
    both = isoform.load("g").predict(images)
    for i, row in enumerate(rows[:5]):
        for name in CLASSES:
            assert each[0][i][f"p {name}"] == pytest.approx(float(row[f"p {name}"]), abs=1e-5)
            mean = (each[0][i][f"p {name}"] + each[1][i][f"p {name}"]) / 2
            assert both[i][f"p {name}"] == pytest.approx(mean, abs=1e-5)
    assert "spread organ" in both[0]


def test_columns_that_can_be_no_heads_are_refused(tmp_path):
    picture(1).save(tmp_path / "0.png")
    path = table(tmp_path / "t.csv", ["path", "a=b", "one"], [["0.png", "x", "y"]] * 3)
    for labels, said in ((["a=b"], 'may not hold "="'), (["one"], "holds one class only")):
        with pytest.raises(UserError, match=said):
            prepare(app(data={"table": str(path), "task": "multihead", "labels": labels}))
