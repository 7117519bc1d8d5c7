"""What a model must beat: fixed methods with fixed settings, fitted on the training images alone.

    majority   the training set's shares of the classes as every image's probabilities
    mean       the training set's mean target
    logistic   logistic regression on standardised pixels, C = 0.01, at most 200 iterations
    linear     ridge regression on standardised pixels, alpha = 100
    knn        the 5 nearest training images by Euclidean distance of pixels

Pixels are those of the model's images, with the training images' lowest and highest value as 0 and 1, shrunk to at
most 32 x 32. At most 5,000 random training images are used, of those whose every target is known (the constants take
each target's own). The pixel methods are left out, and that is said, where more than 20,000 images would have to be
decoded for them, or with more than 200 classes.

N images, M training images, D pixels, K classes, labels or targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from isoform.core.baselines import Baseline, Fitting
from isoform.vision.data.dataset import ImageData, shrink
from isoform.vision.data.values import to_float
from isoform.vision.linear_models import (
    Method,
    fit_classes,
    fit_labels,
    fit_numbers,
    fit_standardisation,
)

TRAIN_IMAGES, DECODED_IMAGES, MOST_CLASSES = 5000, 20_000, 200
SIDE = 32
NEIGHBOURS = 5
LEAST_DEVIATION = 1e-3  # of a pixel, so that one that hardly changes isn't blown up
SOLVER, SPEED = (
    1e-7,
    1e10,
)  # seconds of 200 iterations a pixel, image and class; products of pixels a second
ABSENT = 1e-9  # probability of a class without training images

Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]
Metrics = dict[str, dict[str, float]]  # split -> metrics


def baselines(data: ImageData, score: Score) -> list[Baseline]:
    """The methods, ready to be fitted and judged on every split but training; none without training images.

    `score` turns (probabilities [N, K] or predictions, targets) into metrics.
    """
    kind = data.records.kind
    if kind == "multihead":  # every class of every head by itself; `score` makes shares of a head's
        kind = "multilabel"
    there = data.rows.get("train", np.zeros(0, np.int64))
    if not len(there):
        return []
    train = data.complete_rows(there)
    held_out = {split: rows for split, rows in data.rows.items() if split != "train"}
    classes = len(data.classes)
    pixels = _Pixels(data, np.random.default_rng(0).permutation(train)[:TRAIN_IMAGES], held_out)

    def judge(method: Method, inputs: Mapping[str, np.ndarray]) -> Metrics:
        return {
            split: score(method(x), data.targets[held_out[split]]) for split, x in inputs.items()
        }

    def constant(fitting: Fitting) -> Metrics:
        return judge(_fit_constant(data.targets[there], kind, classes), held_out)

    def linear(fitting: Fitting) -> Metrics:
        x, y = pixels.train(fitting)
        return judge(_fit_linear(x, y, kind, classes, fitting), pixels.held_out(fitting))

    def neighbours(fitting: Fitting) -> Metrics:
        x, y = pixels.train(fitting)
        return judge(_fit_neighbours(x, y, kind, classes), pixels.held_out(fitting))

    names = ("mean", "linear") if kind == "regression" else ("majority", "logistic")
    why = pixels.why_not()
    return [
        Baseline(names[0], constant),
        Baseline(names[1], linear, pixels.products * SOLVER * classes / 60, why),
        Baseline("knn", neighbours, pixels.products * pixels.judged / SPEED / 60, why),
    ]


class _Pixels:
    """The images that the pixel methods share, read when the first of them asks."""

    def __init__(
        self, data: ImageData, chosen: np.ndarray, held_out: Mapping[str, np.ndarray]
    ) -> None:
        self.data, self.rows = data, {"train": chosen, **held_out}
        self.judged = sum(map(len, held_out.values()))
        height, width = (min(SIDE, side) for side in data.preprocess.size)
        self.products = len(chosen) * height * width * data.preprocess.channels
        self.read: dict[str, np.ndarray] = {}

    def train(self, fitting: Fitting) -> tuple[np.ndarray, np.ndarray]:
        """(Pixels, targets) to learn from."""
        return self._of("train", fitting), self.data.targets[self.rows["train"]]

    def held_out(self, fitting: Fitting) -> dict[str, np.ndarray]:
        """Pixels of the splits to be judged."""
        return {split: self._of(split, fitting) for split in self.rows if split != "train"}

    def why_not(self) -> str:
        """Why pixels aren't for these data; empty where they are."""
        if not len(self.rows["train"]):
            return "no training image has all labels"
        if len(self.data.classes) > MOST_CLASSES:
            return f"pixels are compared for at most {MOST_CLASSES} classes"
        if self.data.held.resident is None and self.judged + TRAIN_IMAGES > DECODED_IMAGES:
            return f"more than {DECODED_IMAGES:,} images would have to be decoded for it"
        return ""

    def _of(self, split: str, fitting: Fitting) -> np.ndarray:
        """[N, D] float32."""
        if split not in self.read:
            rows, images = self.rows[split], []
            span = self.data.preprocess.span
            for number, row in enumerate(rows):
                if number % 100 == 0:
                    fitting.step(number, len(rows), f"{split} images")
                image = to_float(self.data.fitted(int(row)))
                images.append(shrink(image if span is None else span.to_unit(image), SIDE))
            self.read[split] = torch.stack(images).flatten(1).numpy()
        return self.read[split]


def _fit_constant(target: np.ndarray, kind: str, classes: int) -> Method:
    """The mean target, or the shares of classes or labels: one more of each than there are, so none is impossible."""
    if kind == "regression":
        constant = np.nanmean(target, 0)
    elif kind == "multilabel":
        constant = (np.nansum(target, 0) + 1) / (np.isfinite(target).sum(0) + 2)
    else:
        known = target[target >= 0]
        constant = (np.bincount(known, minlength=classes) + 1) / (len(known) + classes)
    return lambda x: np.tile(constant, (len(x), 1))


def _fit_linear(
    x_MD: np.ndarray,
    y: np.ndarray,
    kind: str,
    classes: int,
    fitting: Fitting,
) -> Method:
    scale = fit_standardisation(x_MD, LEAST_DEVIATION)
    scaled = scale(x_MD)
    if kind == "regression":
        method = fit_numbers(scaled, y, alpha=100.0)
    elif kind == "multilabel":
        labels = fit_labels(scaled, y, strength=0.01, iterations=200, fitting=fitting)
        return lambda z: labels(scale(z)).astype(z.dtype)
    elif len(np.unique(y)) < 2:
        return _fit_constant(y, kind, classes)
    else:
        method = fit_classes(scaled, y, classes, strength=0.01, iterations=200, absent=ABSENT)
    return lambda z: method(scale(z))


def _fit_neighbours(
    x_MD: np.ndarray,
    y: np.ndarray,
    kind: str,
    classes: int,
) -> Method:
    train = torch.from_numpy(x_MD)
    votes = np.eye(classes, dtype=np.float32)[y] if kind == "multiclass" else y
    value_MK = torch.from_numpy(votes)
    k = min(NEIGHBOURS, len(x_MD))

    def predict(z_ND: np.ndarray) -> np.ndarray:
        parts = []
        for part in torch.from_numpy(z_ND).split(1000):
            near = torch.cdist(part, train).topk(k, largest=False).indices
            parts.append(value_MK[near].mean(1))
        mean = torch.cat(parts).numpy().astype(np.float64)
        if kind == "regression":
            return mean
        rest = 1 / classes if kind == "multiclass" else 0.5
        return (mean * k + rest) / (k + 1)  # one vote spread evenly: no class is impossible

    return predict
