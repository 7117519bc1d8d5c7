"""What a model must beat: fixed methods with fixed settings, fitted on the training images alone.

    majority   the training set's shares of the classes as every image's probabilities
    mean       the training set's mean target
    logistic   logistic regression on standardised pixels, C = 0.01, at most 200 iterations
    linear     ridge regression on standardised pixels, alpha = 100
    knn        the 5 nearest training images by Euclidean distance of pixels

Pixels are those of the model's images, shrunk to at most 32 x 32. At most 5,000 random training images are used, of
those whose every target is known.
The pixel methods are left out where more than 20,000 images would have to be decoded for them, or with more than 200
classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch

from isoform.vision.data.dataset import ImageData, shrink
from isoform.vision.data.transforms import to_float

TRAIN_IMAGES, DECODED_IMAGES, MOST_CLASSES = 5000, 20_000, 200
SIDE = 32
NEIGHBOURS = 5
Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def baselines(data: ImageData, score: Score) -> dict[str, dict[str, dict[str, float]]]:
    """{name: {"val": metrics, "test": metrics}}.

    `score` turns (probabilities [N, K] or predictions, targets) into metrics.
    """
    kind = data.records.kind
    if "train" not in data.rows:
        return {}
    held_out = {split: rows for split, rows in data.rows.items() if split != "train"}
    train = data.complete_rows(data.rows["train"])
    if not len(train):
        return {}
    target = {split: data.targets[rows] for split, rows in held_out.items()}
    if kind == "regression":
        name, constant = "mean", data.targets[train].mean(0)
    else:
        name, constant = "majority", _frequencies(data.targets[train], len(data.classes))
    found = {name: {s: score(np.tile(constant, (len(rows), 1)), target[s]) for s, rows in held_out.items()}}
    decode = 0 if data.held.resident is not None else sum(map(len, held_out.values())) + TRAIN_IMAGES
    if decode > DECODED_IMAGES or len(data.classes) > MOST_CLASSES:
        return found
    chosen = np.random.default_rng(0).permutation(train)[:TRAIN_IMAGES]
    pixels = {split: _pixels(data, rows) for split, rows in held_out.items()}
    x, y = _pixels(data, chosen), data.targets[chosen]
    if kind == "regression":
        found["linear"] = _each(_ridge(x, y), pixels, target, score)
    else:
        found["logistic"] = _each(_logistic(x, y, len(data.classes)), pixels, target, score)
    found["knn"] = _each(_neighbours(x, y, kind, len(data.classes)), pixels, target, score)
    return found


Method = Callable[[np.ndarray], np.ndarray]


def _each(
    method: Method, pixels: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], score: Score
) -> dict[str, dict[str, float]]:
    return {split: score(method(x), target[split]) for split, x in pixels.items()}


def _pixels(data: ImageData, rows: np.ndarray) -> np.ndarray:
    """[N, pixels] float32."""
    images = [shrink(to_float(data.fitted(int(row))), SIDE) for row in rows]
    return torch.stack(images).flatten(1).numpy()


def _frequencies(target: np.ndarray, classes: int) -> np.ndarray:
    """[K] shares of the classes, one more of each than there are, so that none is impossible."""
    if target.ndim == 2:
        return (target.sum(0) + 1) / (len(target) + 2)
    return (np.bincount(target, minlength=classes) + 1) / (len(target) + classes)


def _logistic(x: np.ndarray, y: np.ndarray, classes: int) -> Method:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = x.mean(0), x.std(0) + 1e-3

    def fit(labels: np.ndarray) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=0.01, max_iter=200).fit((x - mean) / std, labels)

    if y.ndim == 2:
        models = [fit(y[:, k]) if 0 < y[:, k].sum() < len(y) else float(y[:, k].mean()) for k in range(classes)]

        def labels_of(z: np.ndarray) -> np.ndarray:
            z = (z - mean) / std
            columns = [np.full(len(z), m) if isinstance(m, float) else m.predict_proba(z)[:, 1] for m in models]
            return np.stack(columns, 1)

        return labels_of
    if len(np.unique(y)) < 2:
        return lambda z: np.tile(_frequencies(y, classes), (len(z), 1))
    model = fit(y)

    def classes_of(z: np.ndarray) -> np.ndarray:
        probability = np.full((len(z), classes), 1e-9)
        probability[:, model.classes_] = model.predict_proba((z - mean) / std)
        return probability

    return classes_of


def _ridge(x: np.ndarray, y: np.ndarray) -> Method:
    from sklearn.linear_model import Ridge

    mean, std = x.mean(0), x.std(0) + 1e-3
    model = Ridge(alpha=100.0).fit((x - mean) / std, y)
    return lambda z: model.predict((z - mean) / std).reshape(len(z), -1)


def _neighbours(x: np.ndarray, y: np.ndarray, kind: str, classes: int) -> Method:
    train = torch.from_numpy(x)
    value = torch.from_numpy(np.eye(classes, dtype=np.float32)[y] if kind == "multiclass" else y)
    k = min(NEIGHBOURS, len(x))

    def predict(z: np.ndarray) -> np.ndarray:
        parts = []
        for part in torch.from_numpy(z).split(1000):
            near = torch.cdist(part, train).topk(k, largest=False).indices
            parts.append(value[near].mean(1))
        mean = torch.cat(parts).numpy().astype(np.float64)
        if kind == "regression":
            return mean
        rest = 1 / classes if kind == "multiclass" else 0.5
        return (mean * k + rest) / (k + 1)  # one vote spread evenly: no class is impossible

    return predict
