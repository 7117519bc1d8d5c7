"""Images, from embedded data to a picture: trains a small ViT on 5,000 digits, asks it about its own test set, draws.

python demos/vision.py [FOLDER]        a minute or two on 2 cores; FOLDER (default runs/demo-vision) is replaced
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import isoform
from isoform.vision.config import DataConfig
from isoform.vision.data.sources import read_records
from isoform.vision.demo import draw


def main(folder: Path) -> None:
    """Trains, predicts, embeds and draws."""
    shutil.rmtree(folder, ignore_errors=True)
    run = isoform.train("vision/vit-mnist-demo", run_dir=folder)
    for name, found in {"the model": run.metrics, **run.results["baselines"]}.items():
        print(f"{name:10} {found['test']['top1']:.1%} of 1,000 test digits right")

    # The digits again, as a program of your own would have them: arrays, files, Pillow images, bytes.
    digits = read_records(DataConfig(source="mnist5k"))
    rows = np.flatnonzero(digits.split == "test")[::100]
    images = [digits.images.read(int(row), 1)[0].numpy() for row in rows]

    model = isoform.load(folder)
    for row, answer in zip(rows, model.predict(images), strict=True):
        sure = f"{answer['probability']:.0%} sure"
        print(
            f"{digits.images.names[row]}: a {digits.labels[row]}, read as {answer['prediction']} ({sure})"
        )

    features = model.embed(images)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T - 2 * np.eye(len(rows))
    one, other = np.unravel_index(alike.argmax(), alike.shape)
    print(
        f"most alike to the model: a {digits.labels[rows[one]]} and a {digits.labels[rows[other]]}"
    )
    print(f"the picture: {draw(folder)}")
    print(f"the report:  {folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo-vision"))
