"""VisionTask on its data: batches, targets and baselines, what is left out, and a run to its report."""

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from answers import rows_in
from isoform.core.engine import loader
from isoform.core.engine.baselines import fit_baselines
from isoform.core.engine.progress import Display
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.vision.data.sources import other_data
from isoform.vision.prepare import prepare

from .pictures import class_folders
from .pictures import task as task_of
from .tasks import Fixed, batch, fitted, folder_app, table_app

AUGMENT = {
    "crop": "resized",
    "flip": 0.5,
    "degrees": 10,
    "elastic": 0.4,
    "jitter": 0.2,
    "erase": 0.5,
}


@pytest.mark.parametrize(
    "augment", [AUGMENT, {"degrees": 10.0, "erase": 0.5, "erase_fill": "noise"}]
)
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_batches_are_the_same_from_any_number_of_workers(folder, augment, cache):
    tables = {
        "train": {"batch": 5},
        "augment": {**augment, "mixup": 0.8, "cutmix": 1.0},
        "data": {"cache": cache},
    }
    task = task_of(folder_app(folder, **tables))
    keys = loader.epoch_batches(task, 3, 0) + loader.epoch_batches(task, 3, 1)
    torch.manual_seed(5)
    first = list(loader.read_batches(task, "train", keys, seed=3, workers=0))
    torch.manual_seed(6)
    second = list(loader.read_batches(task, "train", keys, seed=3, workers=2))
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys() and all(
            torch.equal(one[name], other[name]) for name in one
        )
    assert not torch.equal(
        first[0]["image"], next(iter(loader.read_batches(task, "train", keys[:1], seed=4)))["image"]
    )


def test_memory_and_files_give_the_same_evaluation_batches(folder):
    held, read = (
        task_of(folder_app(folder, data={"cache": cache})) for cache in ("memory", "none")
    )
    assert held.data.held.resident is not None and read.data.held.resident is None
    assert torch.equal(batch(held, "test")["image"], batch(read, "test")["image"])


def test_unreadable_images_end_the_run_or_are_left_out(tmp_path):
    root = class_folders(tmp_path / "own", {"a": 9, "b": 9})
    before = task_of(folder_app(root))
    place = {
        name: part
        for part, rows in before.data.rows.items()
        for name in map(before.data.records.images.names.__getitem__, rows)
    }
    broken = next(name for name, part in place.items() if part == "train")
    (root / broken).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match=rf"{broken}.*on_error"):
        task_of(folder_app(root))
    for cache in ("memory", "none"):
        task = task_of(folder_app(root, data={"on_error": "skip", "cache": cache}))
        assert list(task.data.unreadable) == [broken]
        after = {
            task.data.records.images.names[row]: part
            for part, rows in task.data.rows.items()
            for row in rows
        }
        assert after == {name: part for name, part in place.items() if name != broken}


def test_balanced_drawing_and_class_weights(tmp_path):
    config = table_app(tmp_path, ["label"], [["a" if i % 8 else "b"] for i in range(64)],
                       data={"balanced": True, "class_weights": "balanced"})  # fmt: skip
    task = task_of(config)
    drawn = [
        i
        for k in range(20)
        for part in task.batches("train", 7, np.random.default_rng(k))
        for i in part
    ]
    share = (task.data.targets[task.data.rows["train"]][drawn] == 1).mean()
    assert 0.42 < share < 0.58
    assert task.batches("test", 100, None) == [list(range(task.sizes()["test"]))]
    counts = np.bincount(task.data.targets[task.data.rows["train"]])
    assert (task.class_weight.numpy() * counts).tolist() == pytest.approx([counts.sum() / 2] * 2)


def test_labels_from_a_table(tmp_path):
    rows = [["a|b" if i % 3 == 0 else "b" if i % 3 == 1 else ""] for i in range(60)]
    task = task_of(
        table_app(
            tmp_path, ["label"], rows, data={"task": "multilabel", "class_weights": "balanced"}
        )
    )
    assert task.monitor == "average_precision" and task.build()(batch(task)["image"]).shape == (
        5,
        2,
    )
    assert task.loss(task.build(), batch(task))["loss"].isfinite()
    outputs = {
        "logits": np.array([[3.0, 3.0], [-3.0, 2.0]]),
        "target": np.array([[1.0, 1], [0, 1]]),
    }
    task.write_predictions(tmp_path, "test", outputs)
    written = rows_in(tmp_path / "predictions.csv")
    assert [(row["prediction"], row["target"]) for row in written] == [("a|b", "a|b"), ("b", "b")]
    assert set(fitted(task)) == {"majority", "logistic", "knn"}


def test_numbers_from_a_table(tmp_path):
    rows = [[1000.0 + 10 * i, -0.5 * i] for i in range(60)]
    tables = {"data": {"task": "regression", "labels": ["x", "y"]}}
    task = task_of(table_app(tmp_path, ["x", "y"], rows, **tables))
    assert not task.bf16_ok and task.monitor == "rmse"
    train_targets = task.data.targets[task.data.rows["train"]]
    assert task.config.data.target_mean == pytest.approx(train_targets.mean(0), rel=1e-5)
    found = batch(task)
    guess = task.predict(Fixed(0.0, 1.0), found)["prediction"][0]
    assert guess.tolist() == pytest.approx(
        [train_targets[:, 0].mean(), train_targets[:, 1].mean() + train_targets[:, 1].std()],
        rel=1e-4,
    )
    scaled = task.scaling.scale(found["target"])
    expected = (scaled - torch.tensor([0.0, 1.0])).square().mean()
    assert task.loss(Fixed(0.0, 1.0), found)["loss"].item() == pytest.approx(
        expected.item(), rel=1e-4
    )
    found = fitted(task)
    assert (
        set(found) == {"mean", "linear", "knn"}
        and found["linear"]["test"]["r2"] > found["mean"]["test"]["r2"]
    )


def test_initial_weights_of_another_size(folder):
    small, large = (
        task_of(folder_app(folder)),
        task_of(folder_app(folder, tokeniser={"image": 24, "patch": 6, "channels": 1})),
    )
    model = large.build()
    adapted = large.adapt_weights(small.build().state_dict(), model)
    assert {name: value.shape for name, value in adapted.items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }


@pytest.mark.parametrize("names", [(), ("knn",), ("knn", "majority")])
def test_baselines_are_chosen_by_name(folder, names):
    """Each is what it is in the whole table; names of other domains and of numbers are refused."""
    task = task_of(folder_app(folder, eval={"baselines": names}))
    found = fit_baselines(task, Display(False), lambda: False)
    whole = fitted(task)
    assert found == {name: whole[name] for name in whole if name in names}
    with pytest.raises(ValidationError, match='no baseline is called "lag_boosting"'):
        folder_app(folder, eval={"baselines": ["lag_boosting"]})
    numbers = task_of(folder_app(folder, eval={"baselines": ["mean"]}))
    with pytest.raises(
        UserError, match="mean isn't for data of this kind; there are majority, logi"
    ):
        fit_baselines(numbers, Display(False), lambda: False)


def test_a_run_from_hostile_folders_to_its_report(folder, tmp_path):
    task = task_of(folder_app(folder, augment={**AUGMENT, "mixup": 0.2}))
    results = train(
        task, RunFolder(tmp_path / "run"), progress=False, command="isoform vision train"
    )
    assert results["status"] == "finished" and set(results["baselines"]) == {
        "majority",
        "logistic",
        "knn",
    }
    for found in [results["metrics"], *results["baselines"].values()]:
        assert all(
            math.isfinite(value) for part in ("val", "test") for value in found[part].values()
        )
    page = (tmp_path / "run" / "report.html").read_text()
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert "<script>alert(1)" not in page and "alert(1)" in page
    assert not any("<script>alert" in figure["svg"] + figure["html"] for figure in figures)
    assert any("looks in the last block" in figure["caption"] for figure in figures)
    rows = rows_in(tmp_path / "run" / "predictions.csv")
    assert len(rows) == task.sizes()["test"] and {
        "input",
        "prediction",
        "probability",
        "target",
    } <= set(rows[0])
    assert str(tmp_path) not in (tmp_path / "run" / "task.json").read_text()
    other = task_of(other_data(task.config, folder))
    assert other.sizes() == {"test": 49} and other.classes == task.classes
    from isoform.vision.demo import main

    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "demo.png")]) == 0
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert main([str(tmp_path / "none")]) == 2


def test_other_data_with_a_class_the_model_does_not_know(folder, tmp_path):
    config = prepare(folder_app(folder)).config
    class_folders(tmp_path / "more", {"cat": 2, "horse": 2})
    with pytest.raises(UserError, match='class "horse"'):
        task_of(other_data(config, tmp_path / "more"))
    class_folders(tmp_path / "fewer", {"dog": 3})
    assert task_of(other_data(config, tmp_path / "fewer")).data.targets.tolist() == [2, 2, 2]
