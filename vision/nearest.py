"""The training image that another image is most like to a trained model: by the cosine of its trunk's features.

n images that are asked about, M training images, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from isoform.vision.probe import features

if TYPE_CHECKING:
    from isoform.vision.task import VisionTask

MOST = 1000  # training images, evenly spaced: at most what a third of an epoch over as many costs


def nearest_training(
    task: VisionTask, model: nn.Module, split: str, samples: np.ndarray
) -> tuple[np.ndarray, int]:
    """(number of the nearest training sample of each of some samples of `split` [n], of how many it is the nearest).

    Empty without training images. Of several that are equally near it is the first.
    """
    size = task.sizes().get("train", 0)
    if not size or not len(samples):
        return np.zeros(0, np.int64), 0
    chosen = np.unique(np.linspace(0, size - 1, min(size, MOST)).astype(np.int64))
    asked_nD = _directions(task, model, split, samples)
    known_MD = _directions(task, model, "train", chosen)
    return chosen[(asked_nD @ known_MD.T).argmax(1)], len(chosen)


def _directions(task: VisionTask, model: nn.Module, split: str, samples: np.ndarray) -> np.ndarray:
    """[n, D] features of length 1."""
    found = features(model, _batches(task, split, samples))
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _batches(task: VisionTask, split: str, samples: np.ndarray) -> Iterator[Tensor]:
    """Images as evaluation sees them."""
    for start in range(0, len(samples), task.config.eval.batch):
        part = samples[start : start + task.config.eval.batch].tolist()
        yield task.collate([task.sample(split, i, None) for i in part])["image"]
