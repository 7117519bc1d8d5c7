"""What no images could make a training of is refused before one is decoded; auto apps leave out what can't be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoform.core.config import ConfigError, resolve_app
from isoform.core.errors import UserError
from isoform.vision import DOMAIN
from isoform.vision.data.check import check
from isoform.vision.data.records import FileImages
from isoform.vision.prepare import prepare

from .pictures import app, class_folders, table


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("impossible"), {"x": 7, "y": 7})


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"tokeniser": {"patch": 3}}, "not tiled by patches"),
        ({"backbone": {"heads": 5}}, "heads"),
        ({"augment": {"randaugment": "rand-q9"}}, "augment.randaugment"),
        ({"tokeniser": {"channels": 5}, "augment": {"jitter": 0.1}}, "1 or 3 channels"),
        ({"data": {"mean": [0.1, 0.2]}}, "data.mean has 2 values"),
        ({"data": {"std": [0.0]}}, "data.std"),
        ({"tokeniser": {"rotary": "learned"}}, "needs backbone.position"),
        ({"data": {"class_weights": "balanced", "task": "regression"}}, "class_weights"),
        ({"data": {"balanced": True, "task": "multilabel"}}, "data.balanced"),
    ],
)  # fmt: skip
def test_before_any_image_is_decoded(
    root: Path, tables: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And check says the same as training."""
    rows = [[path.relative_to(root).as_posix(), 1] for path in sorted(root.rglob("*.png"))]
    source = {"source": "table", "table": str(table(root / "t.csv", ["path", "label"], rows))}
    if tables.get("data", {}).get("task") in (None, "multiclass"):
        source = {"root": str(root)}
    config = app(**{**tables, "data": {**source, **tables.get("data", {})}})
    assert said in (check(config).refusal or "")

    def decoding(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(FileImages, "read", decoding)
    with pytest.raises(UserError, match=said):
        prepare(config)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("augment.crop_scale=[0.5, 0.1]", "smaller number should come first"),
        ("augment.crop_scale=[0.5, 2]", "at most 1"),
        ("augment.crop_ratio=[0, 1]", "above 0"),
        ("augment.erase_scale=[-0.1, 0.3]", "above 0"),
        ("augment.scale=[0, 1]", "above 0"),
    ],
)
def test_ranges_that_hold_nothing(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve_app("vit-folder", domain=DOMAIN, sets=[setting])


@pytest.mark.parametrize("channels", [2, 5])
def test_an_auto_app_switches_off_what_its_channels_cannot_have(
    tmp_path: Path, channels: int
) -> None:
    for k, name in enumerate("xy"):
        (tmp_path / name).mkdir()
        for i in range(9):
            values = np.random.default_rng(i + 50 * k).integers(
                0, 255, (11, 13, channels), np.uint8
            )
            np.save(tmp_path / name / f"{i}.npy", values)
    sets = [f"data.root={tmp_path}", "augment.jitter=0.3", "augment.hue=0.1", "train.epochs=1"]
    sets += ["augment.randaugment=rand-m5", "augment.flip=0.5"]
    config = resolve_app("vit-folder", domain=DOMAIN, sets=sets)
    prepared = prepare(config)
    augment = prepared.config.augment
    assert (augment.jitter, augment.hue, augment.randaugment) == (0, 0, "") and augment.flip == 0.5
    (line,) = [line for line in prepared.notes if line.startswith("off, as they need")]
    assert f"these have {channels}" in line and "augment.jitter" in line and "randaugment" in line
    assert not [line for line in prepare(prepared.config).notes if line.startswith("off")]
    DOMAIN.task(prepared)
