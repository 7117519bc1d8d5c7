"""Small images and folders for the tests of the vision data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isoform.vision.config import VisionApp
from isoform.vision.prepare import prepare
from isoform.vision.task import VisionTask


def picture(seed: int, height: int = 11, width: int = 13, level: int = 120) -> Image.Image:
    """Smooth noise, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 100, (4, 5, 3)) + level
    return Image.fromarray(small.clip(0, 255).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def class_folders(root: Path, counts: dict[str, int], parts: tuple[str, ...] = ("",)) -> Path:
    """root/PART/CLASS/NN.png; classes differ in brightness."""
    seed = 0
    for part in parts:
        for k, (name, count) in enumerate(counts.items()):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                seed += 1
                picture(seed, level=20 + 130 * k // max(len(counts) - 1, 1)).save(
                    folder / f"{i:02d}.png"
                )
    return root


def table(path: Path, columns: list[str], rows: list[list[Any]]) -> Path:
    """A csv."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def app(**tables: Any) -> VisionApp:
    """A small app; keys with a dot's two underscores, as in isoform.train."""
    base: dict[str, Any] = {
        "domain": "vision", "app": "test",
        "tokeniser": {"image": 8, "patch": 4, "channels": 3},
        "backbone": {"dim": 12, "depth": 1, "heads": 3},
        "train": {"epochs": 1, "batch": 5},
    }  # fmt: skip
    for name, changes in tables.items():
        base[name] = {**base.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return VisionApp.model_validate(base)


def task(config: VisionApp) -> VisionTask:
    """An app on its data."""
    return VisionTask(prepare(config))
