"""A frozen trunk's features judged by simple methods: nearest neighbours and one linear layer.

    knn     each of the k nearest training images by cosine votes for its class with exp(similarity / 0.07), as DINO
            (Caron et al. 2021, appendix F.1); k is chosen on validation
    linear  logistic regression (ridge regression for numbers) on standardised features; its regularisation is chosen on
            validation

N images, M training images, D features, K classes, labels or targets.
"""

from __future__ import annotations

import functools
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.baselines import Baseline, Fitting
from isoform.vision.baselines import TRAIN_IMAGES, Metrics
from isoform.vision.linear_models import (
    Method,
    fit_classes,
    fit_labels,
    fit_numbers,
    fit_standardisation,
)

if TYPE_CHECKING:
    from isoform.vision.task import VisionTask

TEMPERATURE = 0.07
NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
ITERATIONS = 300
LEAST_DEVIATION = 1e-6
LEAST_PROBABILITY = 1e-9  # no class is impossible
STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
    10.0,
)  # C of the logistic regression, 1 / alpha of the ridge

Score = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class Probe:
    """A fitted method: [N, D] features to [N, K] probabilities or targets; its setting and its metrics by split."""

    predict: Method
    setting: float
    metrics: dict[str, dict[str, float]]


def features(model: Any, batches: Iterable[Tensor]) -> np.ndarray:
    """[N, D] float32 features of a frozen model with a `features` method, in evaluation mode; its mode is restored."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            return torch.cat(
                [model.features(images.to(device)).float().cpu() for images in batches]
            ).numpy()
    finally:
        model.train(training)


def knn(
    x_MD: np.ndarray,
    y: np.ndarray,
    kind: str,
    classes: int,
    k: int,
) -> Method:
    """The vote of the k nearest training images.

    `y` are classes [M] (kind "multiclass"), labels [M, K] in {0, 1} ("multilabel") or targets [M, K] ("regression",
    where the votes' mean is taken).
    """
    train = _normalise(x_MD)
    value_MK = (
        _one_hot(y, classes)
        if kind == "multiclass"
        else torch.from_numpy(np.asarray(y, np.float32))
    )
    k = min(k, len(train))

    def predict(z_ND: np.ndarray) -> np.ndarray:
        parts = []
        for part in _normalise(z_ND).split(1024):
            similarity, index = (part @ train.T).topk(k)
            weight = ((similarity - similarity[:, :1]) / TEMPERATURE).exp()
            votes = weight[..., None] * value_MK[index]
            parts.append(votes.sum(1) / weight.sum(1, keepdim=True))
        return torch.cat(parts).numpy()

    return predict


def _normalise(x_ND: np.ndarray) -> Tensor:
    """To length 1."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(x_ND, np.float32)), dim=1)


def _one_hot(y: np.ndarray, classes: int) -> Tensor:
    return F.one_hot(torch.from_numpy(np.asarray(y, np.int64)), classes).float()


def linear(
    x_MD: np.ndarray,
    y: np.ndarray,
    kind: str,
    classes: int,
    strength: float,
) -> Method:
    """One linear layer, fitted to convergence on standardised features; `y` as for `knn`."""
    scale = fit_standardisation(x_MD, LEAST_DEVIATION)
    scaled = scale(x_MD)
    if kind == "regression":
        method = fit_numbers(scaled, y, alpha=1 / strength)
    elif kind == "multilabel":
        method = fit_labels(scaled, y, strength=strength, iterations=ITERATIONS)
    else:
        method = fit_classes(scaled, y, classes, strength=strength, iterations=ITERATIONS)
    return lambda z: method(scale(z))


def fit(
    method: str,
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray],
    *,
    kind: str,
    classes: int,
    score: Score,
    monitor: str,
    larger_is_better: bool = True,
) -> Probe:
    """The "knn" or "linear" probe on features and targets by split ("train", "val", others).

    `score` turns (predictions, targets) into metrics; the setting whose validation metric `monitor` is best is taken,
    the earlier one of equals. Other splits are evaluated once, with it. Raises ValueError for another method.
    """
    if method == "knn":
        counts = [k for k in NEIGHBOURS if k <= len(x["train"])]
        settings = {float(k): knn(x["train"], y["train"], kind, classes, k) for k in counts}
    elif method == "linear":
        settings = {c: linear(x["train"], y["train"], kind, classes, c) for c in STRENGTHS}
    else:
        raise ValueError(f"no probe is called {method!r}; there are knn, linear")
    sign = 1 if larger_is_better else -1
    tried = {value: score(predict(x["val"]), y["val"]) for value, predict in settings.items()}
    best = max(tried, key=lambda value: sign * tried[value][monitor])
    predict = settings[best]
    metrics = {
        split: dict(score(predict(x[split]), y[split]))
        for split in x
        if split not in ("train", "val")
    }
    return Probe(predict, best, {"val": dict(tried[best]), **metrics})


def of_trunk(task: VisionTask) -> list[Baseline]:
    """Both probes of the trunk that `train.init` names, as baselines trunk_knn and trunk_linear.

    At most 5,000 random training images are used, as for the other baselines; none without complete training and
    validation images.
    """
    rows = task.data.rows
    if not task.config.train.init or not {"train", "val"} <= rows.keys():
        return []
    known = {split: task.data.complete_rows(members) for split, members in rows.items()}
    if not (len(known["train"]) and len(known["val"])):
        return []
    chosen = {**rows, "train": np.random.default_rng(0).permutation(known["train"])[:TRAIN_IMAGES]}
    x: dict[str, np.ndarray] = {}  # features, found when the first of the two asks

    def fitted(method: str, fitting: Fitting) -> Metrics:
        if not x:
            x.update(_trunk_features(task, chosen, fitting))
        return _judged(task, method, x, {s: task.data.targets[own] for s, own in chosen.items()})

    return [
        Baseline(f"trunk_{method}", functools.partial(fitted, method))
        for method in ("knn", "linear")
    ]


def _trunk_features(
    task: VisionTask, chosen: Mapping[str, np.ndarray], fitting: Fitting
) -> dict[str, np.ndarray]:
    from isoform.core.engine import warm_start

    assert task.config.train.init is not None
    model = task.build()
    warm_start.load_into(task, model, warm_start.initial_weights(task, task.config.train.init))
    found: dict[str, np.ndarray] = {}
    for split, members in chosen.items():
        fitting.step(len(found), len(chosen), "splits")
        found[split] = features(model, _batches(task, members))
    return found


def _judged(
    task: VisionTask, method: str, x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]
) -> Metrics:
    def score(guess: np.ndarray, target: np.ndarray) -> Mapping[str, float]:
        if task.kind != "regression":
            guess = np.clip(guess, LEAST_PROBABILITY, 1.0)
        return task.score(guess, target)

    return fit(
        method,
        x,
        y,
        kind="multilabel" if task.kind == "multihead" else task.kind,
        classes=len(task.classes),
        score=score,
        monitor=task.monitor,
        larger_is_better=task.monitor_mode == "max",
    ).metrics


def _batches(task: VisionTask, rows: np.ndarray) -> Iterator[Tensor]:
    """Images as evaluation sees them."""
    for part in np.split(rows, range(task.config.eval.batch, len(rows), task.config.eval.batch)):
        yield task.preprocess([task.data.fitted(int(row)) for row in part])


__all__ = ["NEIGHBOURS", "STRENGTHS", "Probe", "features", "fit", "knn", "linear", "of_trunk"]
