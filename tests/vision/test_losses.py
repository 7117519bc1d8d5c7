"""The loss of a batch: smoothing, weights, mixed images, and targets that are missing."""

import math

import numpy as np
import pytest
import torch

from answers import rows_in

from .pictures import task as task_of
from .tasks import Fixed, batch, fitted, folder_app, table_app


def test_cross_entropy_smoothing_weights_and_mixing(tmp_path):
    rows = [["a" if i % 4 else "b", 1 + i % 2] for i in range(40)]
    config = table_app(tmp_path, ["label", "weight"], rows, loss={"label_smoothing": 0.1})
    task = task_of(config)
    logits, found = torch.tensor([1.0, -0.5]), batch(task, n=8)
    log_p = logits.log_softmax(0)
    soft = torch.nn.functional.one_hot(found["target"], 2) * 0.9 + 0.05
    expected = (-(soft * log_p).sum(1) * found["weight"]).mean()
    assert task.loss(Fixed(1.0, -0.5), found)["loss"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    assert task.sample_weight[task.data.rows["train"]].mean().item() == pytest.approx(1)
    bce = task_of(table_app(tmp_path, ["label"], [r[:1] for r in rows], loss={"kind": "bce"}))
    found = batch(bce, n=8)
    hot = torch.nn.functional.one_hot(found["target"], 2).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits.expand(8, 2), hot)
    assert bce.loss(Fixed(1.0, -0.5), found)["loss"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "augment", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]
)
def test_mixed_batches_keep_shares_and_pixels(folder, augment):
    """Image i is 1 in channel i and else 0, so that a mixed image says in every pixel how much it has of which one."""
    task = task_of(folder_app(folder, augment=augment))
    image = torch.eye(7)[:, :, None, None].expand(7, 7, 11, 13).clone()
    target, weight = (
        torch.tensor([0, 1, 2, 0, 2, 1, 2]),
        torch.tensor([1.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0]),
    )
    plain = {"image": image, "target": target, "weight": weight}
    shares, whole = [], []
    for key in range(10):
        mixed = task.mix(plain, np.random.default_rng(key))
        assert mixed["image"].shape == image.shape
        share = mixed["image"].mean((2, 3))  # [images, images they come from]
        assert torch.allclose(share.sum(1), torch.ones(7))
        assert torch.allclose(
            mixed["target"], share @ torch.nn.functional.one_hot(target, 3).float(), atol=1e-6
        )
        assert torch.allclose(mixed["weight"], share @ weight, rtol=1e-5)
        shares.append(share.diagonal())
        whole.append(bool(((mixed["image"] == 0) | (mixed["image"] == 1)).all()))
    assert plain["image"].equal(torch.eye(7)[:, :, None, None].expand(7, 7, 11, 13))
    assert set(whole) == {name == "cutmix" for name in augment}, (
        "cutmix keeps pixels whole, mixup doesn't"
    )
    own = torch.cat(shares)
    assert (own < 0.45).any() and ((own > 0.55) & (own < 0.999)).any(), (
        "shares on both sides of a half"
    )
    again = [task.mix(plain, np.random.default_rng(3))["target"] for _ in range(2)]
    assert again[0].equal(again[1])
    mixed = task.mix(batch(task, n=7), np.random.default_rng(5))
    assert (
        mixed["target"].shape == (7, 3)
        and task.loss(Fixed(0.1, 0.2, 0.3), mixed)["loss"].isfinite()
    )


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_a_missing_target_counts_for_nothing(tmp_path, kind):
    cells = {"multiclass": ["a", "b"], "multilabel": ["1", "0"], "regression": ["2.5", "7"]}[kind]
    rows = [
        [cells[i % 2], cells[i % 2], ["train", "val", "test"][i % 3], 1 + i % 5] for i in range(30)
    ]
    gaps = [["", cells[0], split, 3] for split in ("train", "val", "test")]
    labels = ["x"] if kind == "multiclass" else ["x", "y"]
    config = table_app(
        tmp_path, ["x", "y", "split", "weight"], [*rows, *gaps],
        data={"task": kind, "labels": labels}, augment={"mixup": 0.5},
    )  # fmt: skip
    task = task_of(config)
    n = task.sizes()["train"]
    whole = batch(task, n=n)
    if (
        kind == "multiclass"
    ):  # without its one class an image is left out, but for one outside data.classes
        assert (whole["target"] >= 0).all() and task.sizes()["test"] == 10
        whole["target"][-1] = -1
    else:
        assert whole["target"][-1, 0].isnan()
    model = task.build()
    task.loss(model, whole)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    changed = {**whole, "image": whole["image"].clone()}
    changed["image"][-1] += 3
    if kind == "multiclass":  # nothing is known of the last image, so that it may be any
        assert task.loss(model, changed)["loss"].equal(task.loss(model, whole)["loss"])
    assert task.loss(model, task.mix(whole, np.random.default_rng(0)))["loss"].isfinite()
    outputs = {
        name: value.detach().numpy()
        for name, value in task.predict(model, batch(task, "test", task.sizes()["test"])).items()
    }
    assert all(math.isfinite(value) for value in task.metrics("test", outputs).values())
    assert all(
        math.isfinite(value) for found in fitted(task).values() for value in found["test"].values()
    )
    assert len(task.figures(model, outputs)) >= 3
    task.write_predictions(tmp_path, "test", outputs)
    assert len(rows_in(tmp_path / "predictions.csv")) == task.sizes()["test"]
