"""Probes of frozen features: by hand where a hand can do it, and every choice on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from isoform.core.baselines import QUIET
from isoform.core.config import resolve_app
from isoform.core.config.schema import BackboneConfig
from isoform.vision import DOMAIN, probe
from isoform.vision.models import build_model
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import build_vit


def top1(guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
    return {"top1": float((guess.argmax(1) == target).mean())}


def error(guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
    return {"error": float(np.abs(guess - target).mean())}


def blobs(n: int, seed: int, spread: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Three directions in 7 dimensions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (np.eye(3, 7)[y] * 2 + spread * rng.standard_normal((n, 7))).astype(np.float32), y


def test_knn_votes_by_similarity() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    guess = probe.knn(x, np.array([0, 1, 1]), "multiclass", 2, 2)(
        np.array([[2.0, 0.0]], np.float32)
    )
    weight = np.exp((np.array([1.0, 0.6]) - 1.0) / 0.07)
    np.testing.assert_allclose(guess, [weight / weight.sum()], rtol=1e-5)
    assert probe.knn(x, np.array([0, 1, 1]), "multiclass", 2, 1)(x).argmax(1).tolist() == [0, 1, 1]


def test_both_probes_separate_what_is_separable() -> None:
    splits = {
        name: blobs(n, seed)
        for seed, (name, n) in enumerate((("train", 101), ("val", 53), ("test", 59)))
    }
    x, y = {s: a for s, (a, _) in splits.items()}, {s: b for s, (_, b) in splits.items()}
    for method in ("knn", "linear"):
        found = probe.fit(method, x, y, kind="multiclass", classes=4, score=top1, monitor="top1")
        assert found.metrics["val"]["top1"] > 0.95 and found.metrics["test"]["top1"] > 0.9
        guess = found.predict(x["test"])
        assert guess.shape == (59, 4) and not guess[:, 3].any()  # a class without training images
        np.testing.assert_allclose(guess.sum(1), 1, rtol=1e-4)


def test_the_setting_is_chosen_on_validation_alone() -> None:
    x, y = blobs(60, 0)
    y[::3] = (y[::3] + 1) % 3  # a third of the training labels are wrong
    a, b = blobs(40, 1)
    clean = probe.fit("knn", {"train": x, "val": a}, {"train": y, "val": b}, kind="multiclass", classes=3, score=top1,
                      monitor="top1")  # fmt: skip
    wrong = probe.fit("knn", {"train": x, "val": x, "test": a}, {"train": y, "val": y, "test": b}, kind="multiclass",
                      classes=3, score=top1, monitor="top1")  # fmt: skip
    assert wrong.setting == 1 and wrong.metrics["val"]["top1"] == 1.0 and clean.setting > 1
    assert wrong.metrics["test"]["top1"] < clean.metrics["val"]["top1"]


def test_labels_and_numbers() -> None:
    x, y = blobs(211, 0, 0.1)
    labels = np.stack([y == 0, y != 1, np.ones_like(y)], 1).astype(np.int64)
    targets = x @ np.random.default_rng(0).standard_normal((7, 2)).astype(np.float32)
    for method in (lambda *a: probe.knn(*a, 5), lambda *a: probe.linear(*a, 10.0)):
        guess = method(x[:150], labels[:150], "multilabel", 3)(x[150:])
        assert ((guess > 0.5) == labels[150:]).mean() > 0.97
        numbers = method(x[:150], targets[:150], "regression", 2)(x[150:])
        assert (
            error(numbers, targets[150:])["error"]
            < 0.3 * np.abs(targets[150:] - targets[:150].mean(0)).mean()
        )
    found = probe.fit(
        "linear", {"train": x[:150], "val": x[150:]}, {"train": targets[:150], "val": targets[150:]}, kind="regression",
        classes=2, score=error, monitor="error", larger_is_better=False,
    )  # fmt: skip
    assert found.setting == 10.0 and found.metrics["val"]["error"] < 0.1


def test_another_method_is_refused() -> None:
    with pytest.raises(ValueError, match="svm"):
        probe.fit("svm", {}, {}, kind="multiclass", classes=2, score=top1, monitor="top1")


def test_features_are_those_before_the_last_layer_and_leave_the_model_as_it_was() -> None:
    backbone = BackboneConfig(dim=24, depth=1, heads=2, drop_path=0.5, dropout=0.5)
    model = build_vit(
        VitTokeniserConfig(image=8, patch=4), backbone, VitHeadConfig(outputs=3)
    ).train()
    images = torch.randn(5, 3, 8, 8)
    found = probe.features(model, images.split(2))
    assert model.training and found.shape == (5, 24)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model.eval().features(images))


def test_the_trunk_of_init_is_a_baseline(tmp_path: Path) -> None:
    """A tiny run's trunk, and the same trunk in a file, probed on the embedded digits."""
    config: Any = resolve_app("vit-mnist-tiny", domain=DOMAIN)
    weights = build_model(config).state_dict()
    save_file(weights, tmp_path / "a.safetensors")
    config = resolve_app(
        "vit-mnist-tiny", domain=DOMAIN, sets=[f"train.init={tmp_path / 'a.safetensors'}"]
    )
    task: Any = DOMAIN.task(DOMAIN.prepare(config))
    task.data.rows = {split: rows[:: len(rows) // 80] for split, rows in task.data.rows.items()}
    found = {one.name: one.fit(QUIET) for one in probe.of_trunk(task)}
    assert found.keys() == {"trunk_knn", "trunk_linear"}
    for metrics in found.values():
        assert metrics.keys() == {"val", "test"} and 0.2 < metrics["test"]["top1"] < 1.0
    task.config = task.config.model_copy(
        update={"train": task.config.train.model_copy(update={"init": None})}
    )
    assert probe.of_trunk(task) == []
