"""Small trained runs on folders of images of any type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.vision.prepare import prepare
from isoform.vision.task import VisionTask

from .pictures import app, table

COUNTS = {"train": 6, "val": 3, "test": 5}


class Plain(VisionTask):
    """Without the comparisons and pictures that a finished run has."""

    def baselines(self):
        return ()

    def figures(self, model, outputs):
        return []


def pixels(seed: int, shape: tuple[int, ...], level: float, dtype: str) -> np.ndarray:
    """[H, W, C] waves around a level, with the fine detail that a second resizing takes away."""
    rng = np.random.default_rng(seed)
    y, x, _ = np.mgrid[: shape[0], : shape[1], : shape[2]]
    waves = np.sin(x / 1.3 + seed) * np.cos(y / 1.7) + rng.normal(0, 0.4, shape)
    values = (level + 0.15 * waves).clip(0, 1)
    most = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return (values * most).astype(dtype)


def folders(root: Path, shape: tuple[int, int], channels: int, dtype: str) -> Path:
    """root/SPLIT/CLASS/N: grey 16-bit images as png, numbers and colours of 16 bits as npy; half of them turned."""
    for split, count in COUNTS.items():
        for k, name in enumerate(("dark", "light")):
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(count):
                size = shape if i % 2 else shape[::-1]
                seed = 100 * len(split) + 10 * i + k
                values = pixels(seed, (*size, channels), 0.3 + 0.35 * k, dtype)
                if dtype == "float32" or (dtype == "uint16" and channels == 3):
                    np.save(place / f"{i}.npy", values)
                else:
                    Image.fromarray(values[..., 0] if channels == 1 else values).save(
                        place / f"{i}.png"
                    )
    return root


def numbers(root: Path) -> Path:
    """A table of these images, with two numbers of each that the class nearly decides."""
    rows = []
    for k, path in enumerate(sorted(root.glob("*/*/*"))):
        name = path.relative_to(root)
        level = 300.0 + 40 * (name.parts[1] == "light") + k % 7
        rows.append([name.as_posix(), level, 0.01 * level - 3, name.parts[0]])
    return table(root / "numbers.csv", ["path", "level", "depth", "split"], rows)


def trained(folder: Path, **tables: Any) -> Path:
    """The folder of a run on `folder`/data."""
    data = {"root": str(folder / "data"), **tables.pop("data", {})}
    prepared = prepare(app(data=data, **tables))
    run = RunFolder(folder / "run")
    train(Plain(prepared), run, progress=False, say=lambda line: None)
    return run.path
