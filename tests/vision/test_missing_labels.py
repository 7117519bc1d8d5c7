"""Labels that are missing: they count for nothing, and an image without any is left out and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from answers import rows_in
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import multilabel_metrics
from isoform.vision import DOMAIN
from isoform.vision.prepare import prepare
from isoform.vision.task import VisionTask

from .pictures import app, picture, table

# Of 29 images: "cat" is known of all but each third, "dog" of all but each fifth; both are unknown of 0 and 15.
ROWS = [
    ["" if i % 3 == 0 else int(i % 4 == 1), "" if i % 5 == 0 else int(i % 2 == 0)]
    for i in range(29)
]
NOTHING_KNOWN = ["00.png", "15.png"]


@pytest.fixture
def config(tmp_path):
    return labelled(tmp_path, ROWS)


def labelled(folder: Path, rows, **data):
    for i in range(len(rows)):
        picture(i).save(folder / f"{i:02d}.png")
    splits = ["train", "train", "test", "train", "val", "train", "test"]
    lines = [[f"{i:02d}.png", *row, splits[i % 7]] for i, row in enumerate(rows)]
    path = table(folder / "t.csv", ["path", "cat", "dog", "split"], lines)
    given = {"table": str(path), "task": "multilabel", "labels": ["cat", "dog"], **data}
    return app(data=given, eval={"baselines": ["majority", "knn"]})


def test_an_image_without_any_label_is_left_out_and_said(config):
    prepared = prepare(config)
    names = prepared.data.images.records.images.names
    assert len(names) == 27 and not set(NOTHING_KNOWN) & set(names)
    assert "2 image(s) without any label left out" in prepared.lost
    assert sum(map(len, prepared.data.images.rows.values())) == 27
    report = DOMAIN.check(config)
    assert report.refusal is None and report.data["images"] == 27
    assert any("00.png" in line and "has no label" in line for line in report.lines)


def test_empty_cells_count_nothing_in_loss_weights_and_metrics(config):
    task = VisionTask(prepare(config.model_copy(update={"data": config.data.model_copy(
        update={"class_weights": "balanced"})})))  # fmt: skip
    rows = task.data.rows["train"]
    cells = [ROWS[int(name[:2])] for name in np.array(task.data.records.images.names)[rows]]
    for k in range(2):
        known = [cell[k] for cell in cells if cell[k] != ""]
        assert task.class_weight[k] == pytest.approx((len(known) - sum(known)) / sum(known))
    target = torch.from_numpy(task.data.targets[rows])
    batch = {"image": torch.zeros(len(rows), 3, 8, 8), "target": target}
    logits = torch.linspace(-2, 2, target.numel()).reshape(target.shape).requires_grad_()

    class Model(torch.nn.Module):
        def forward(self, image):
            return logits

    loss = task.loss(Model(), batch)["loss"]
    known = ~target.isnan()
    weight = task.class_weight.expand_as(target)[known]
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[known], target[known], pos_weight=weight
    )
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    loss.backward()
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()
    # A guess where nothing is known changes no metric.
    guess = np.linspace(0.1, 0.9, target.numel()).reshape(target.shape)
    other = np.where(known.numpy(), guess, 1 - guess)
    assert multilabel_metrics(guess, target.numpy()) == multilabel_metrics(other, target.numpy())


def test_predictions_say_what_is_unknown_and_constants_take_what_is_known(config, tmp_path):
    task = VisionTask(prepare(config))
    logits = np.zeros((task.sizes()["test"], 2), np.float32)
    target = task.data.targets[task.data.rows["test"]]
    task.write_predictions(tmp_path, "test", {"logits": logits, "target": target})
    rows = rows_in(tmp_path / "predictions.csv")
    for row in rows:
        cells = ROWS[int(row["input"][:2])]
        unknown = [name for name, cell in zip(("cat", "dog"), cells, strict=True) if cell == ""]
        assert row["unknown"] == "|".join(unknown)
        assert not set(row["target"].split("|")) & set(unknown)
    # Where no image has both labels there is still a constant to beat.
    split = [[cat, ""] if i % 2 else ["", int(i % 4 == 0)] for i, (cat, _) in enumerate(ROWS)]
    split[1][0], split[3][0], split[5][0] = 1, 0, 1
    (tmp_path / "apart").mkdir()
    apart = VisionTask(prepare(labelled(tmp_path / "apart", split)))
    constant, *pixels = apart.baselines()
    assert constant.name == "majority" and constant.left_out == ""
    train, test = (apart.data.targets[apart.data.rows[split]] for split in ("train", "test"))
    share = [(column[column == 1].size + 1) / (np.isfinite(column).sum() + 2) for column in train.T]
    expected = multilabel_metrics(np.tile(share, (len(test), 1)), test)
    assert constant.fit(_Quiet())["test"] == pytest.approx(expected)
    assert all(one.left_out == "no training image has all labels" for one in pixels)


class _Quiet:
    def step(self, *_):
        pass


def test_a_table_without_any_label_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no image has a label \(cat, dog\)"):
        prepare(labelled(tmp_path, [["", ""]] * 9))
