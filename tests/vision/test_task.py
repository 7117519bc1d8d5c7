"""VisionTask from files to metrics: what the engine asks of it, and what it leaves behind."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from isoform.core.baselines import QUIET
from isoform.core.domain import TrainedModel
from isoform.core.engine import loader
from isoform.core.engine.baselines import fit_baselines
from isoform.core.engine.progress import Display
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.vision import DOMAIN
from isoform.vision.data.sources import other_data
from isoform.vision.models import build_model
from isoform.vision.predictor import VisionPredictor, expand_inputs
from isoform.vision.prepare import prepare
from isoform.vision.state import VisionState

from .pictures import app, class_folders, picture, table
from .pictures import task as task_of

AUGMENT = {
    "crop": "resized",
    "flip": 0.5,
    "degrees": 10,
    "elastic": 0.4,
    "jitter": 0.2,
    "erase": 0.5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return class_folders(
        tmp_path_factory.mktemp("data") / "own", {"cat": 17, "dog": 19, "<script>alert(1)<": 13}
    )


def folder_app(folder, **tables):
    return app(**{**tables, "data": {"root": str(folder), **tables.get("data", {})}})


def table_app(tmp_path, columns, rows, **tables):
    for i in range(len(rows)):
        picture(i, level=20 + 3 * i).save(tmp_path / f"{i}.png")
    path = table(
        tmp_path / "t.csv", ["path", *columns], [[f"{i}.png", *row] for i, row in enumerate(rows)]
    )
    return app(**{**tables, "data": {"table": str(path), **tables.get("data", {})}})


def fitted(task):
    """Metrics of every baseline that the data allow, by name."""
    return {one.name: one.fit(QUIET) for one in task.baselines() if not one.left_out}


def read_csv(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


class Fixed(nn.Module):
    """Answers the same for every image."""

    def __init__(self, *output):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, images):
        return self.output.expand(len(images), -1)


def batch(task, split="train", n=5, seed=None):
    samples = [
        task.sample(split, i, None if seed is None else loader.generator(seed, 0, i, 1))
        for i in range(n)
    ]
    return task.collate(samples)


def test_preparing_is_final_and_travels(folder):
    prepared = prepare(folder_app(folder))
    config, notes = prepared.config, prepared.notes
    assert config.data.classes == ("<script>alert(1)<", "cat", "dog") and config.head.outputs == 3
    assert len(config.data.mean) == len(config.data.std) == 3 and any(
        "49" in n or "3 classes" in n for n in notes
    )
    again = prepare(config)
    assert (
        again.config == config and [note for note in again.notes if "3 classes" not in note] == []
    )
    from isoform.core.config import dump_toml  # what a run keeps must say the same again

    assert "classes" in dump_toml(config)


def test_wrong_number_of_outputs(folder):
    with pytest.raises(UserError, match=r"head.outputs = 5.*3 classes"):
        prepare(folder_app(folder, head={"outputs": 5}))


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


def test_predictions_from_files_equal_those_of_the_task(folder, tmp_path):
    task = task_of(folder_app(folder, data={"crop_pct": 0.9}))
    model = task.build().eval()
    nn.init.normal_(model.head.linear.weight)
    with torch.no_grad():
        expected = task.predict(model, batch(task, "test", 4))["logits"].softmax(1)
    state = VisionState.model_validate_json(json.dumps(task.inference_state().to_json()))
    predictor = VisionPredictor(
        TrainedModel(task.config, state, build_model(task.config), tmp_path, 0)
    )
    predictor.model.load_state_dict(model.state_dict())
    files = [folder / task.data.records.images.names[row] for row in task.data.rows["test"][:4]]
    rows = predictor.predict([*files[:2], folder / "none.png", *files[2:]])
    assert [row["input"] for row in rows] == [
        str(p) for p in (*files[:2], folder / "none.png", *files[2:])
    ]
    assert "no such file" in rows[2]["error"] and rows[2]["prediction"] is None
    good = [row for row in rows if not row["error"]]
    for row, p in zip(good, expected, strict=True):
        assert row["prediction"] == task.classes[int(p.argmax())]
        assert [row[f"p {name}"] for name in task.classes] == pytest.approx(p.tolist(), abs=1e-5)
        assert 0 <= row["uncertainty"] <= 1
    with pytest.warns(UserWarning, match="no such file"):
        features = predictor.embed([files[0], "none.png"])
    assert (
        features.shape == (2, 12) and np.isfinite(features[0]).all() and np.isnan(features[1]).all()
    )
    with pytest.raises(UserError, match="no such file"):
        predictor.embed(["none.png"])
    assert predictor.predict(str(files[0])) == predictor.predict([files[0]])
    np.testing.assert_array_equal(predictor.embed(files[0].read_bytes()), features[:1])
    (row,) = predictor.predict(pd.DataFrame({"path": [str(files[0])]}))
    assert "not DataFrame" in row["error"]


def test_inputs_of_the_command_line(folder, tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n\n b.png \n")
    found = expand_inputs([str(folder / "cat"), str(tmp_path / "list.txt"), "none.png"])
    assert len(found) == 17 + 3 and found[-3:] == ["a.png", "b.png", "none.png"]


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
    assert len(read_csv(tmp_path / "predictions.csv")) == task.sizes()["test"]


def test_label_smoothing_of_numbers_is_switched_off_and_said(tmp_path):
    config = table_app(tmp_path, ["x"], [[i] for i in range(20)], data={"task": "regression", "labels": ["x"]},
                       loss={"label_smoothing": 0.1})  # fmt: skip
    prepared = prepare(config)
    assert prepared.config.loss.label_smoothing == 0 and any(
        "label_smoothing" in note for note in prepared.notes
    )
    wrong = config.model_copy(update={"loss": config.loss.model_copy(update={"kind": "ce"})})
    with pytest.raises(UserError, match=r"loss\.kind = ce does not fit data\.task = regression"):
        prepare(wrong)
    assert "does not fit" in DOMAIN.check(wrong).refusal


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
    written = read_csv(tmp_path / "predictions.csv")
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


def test_many_channels_and_sixteen_bits(tmp_path):
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a", "b")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(10):
            array = rng.integers(0, 30000, (9, 11, 5), dtype=np.uint16) + np.uint16(30000 * k)
            np.save(tmp_path / "own" / name / f"{i}.npy", array)
    config = folder_app(tmp_path / "own", auto=True).model_dump(exclude_unset=True)
    del config["tokeniser"]
    assert prepare(type(app()).model_validate(config)).config.tokeniser.channels == 5
    task = task_of(
        folder_app(tmp_path / "own", tokeniser={"channels": 5}, augment={"degrees": 5, "flip": 0.5})
    )
    assert task.data.held.resident.dtype == torch.float32 and batch(task, seed=1)[
        "image"
    ].shape == (5, 5, 8, 8)


def test_auto_chooses_from_the_data_and_keeps_what_is_set(folder):
    config = folder_app(folder, auto=True, train={"epochs": "auto"}).model_dump(exclude_unset=True)
    del config["tokeniser"], config["backbone"]
    config["backbone"] = {"depth": 3}
    prepared = prepare(type(app()).model_validate(config))
    chosen, notes = prepared.config, prepared.notes
    assert (
        chosen.tokeniser.image == 12
        and chosen.tokeniser.patch == 4
        and chosen.tokeniser.channels == 3
    )
    assert (chosen.backbone.dim, chosen.backbone.depth) == (96, 3)
    assert chosen.train.epochs == 200 and chosen.train.patience == 50 and chosen.train.batch == 5
    assert "3 blocks of 96 features" in notes[0] and "pretrained" in notes[-1]
    again = prepare(chosen)
    assert again.config == chosen and len(again.notes) == 1 and "3 classes" in again.notes[0]


def test_auto_takes_the_model_of_the_run_it_starts_from(folder, tmp_path):
    first = task_of(
        folder_app(folder, tokeniser={"registers": 2}, data={"mean": [0.5], "std": [0.25]})
    )
    train(first, RunFolder(tmp_path / "first"), progress=False)
    config = folder_app(folder, auto=True, train={"init": str(tmp_path / "first")}).model_dump(
        exclude_unset=True
    )
    del config["tokeniser"], config["backbone"]
    prepared = prepare(type(app()).model_validate(config))
    chosen, notes = prepared.config, prepared.notes
    assert (
        chosen.tokeniser.registers == 2 and chosen.backbone.dim == 12 and chosen.data.mean == (0.5,)
    )
    assert not any("pretrained" in note for note in notes)
    task = task_of(chosen)
    model = task.build()
    from isoform.core.engine import warm_start

    lines = warm_start.load_into(
        task, model, warm_start.initial_weights(task, str(tmp_path / "first"))
    )
    assert "tensors from vision/test" in lines[0] and len(lines) == 1


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
    rows = read_csv(tmp_path / "run" / "predictions.csv")
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


def test_contradicting_tables_are_the_users_mistake(folder):
    with pytest.raises(UserError, match="tiled by patches"):
        task_of(folder_app(folder, tokeniser={"image": 9})).build()
    with pytest.raises(UserError, match=r"data\.std"):
        task_of(folder_app(folder, data={"mean": [0.5], "std": [0.0]}))
    with pytest.raises(UserError, match="2 values"):
        task_of(folder_app(folder, data={"mean": [0.5, 0.5], "std": [0.1]}))
