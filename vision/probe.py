"""A frozen trunk's features judged by simple methods: nearest neighbours and one linear layer.

    knn     each of the k nearest training images by cosine votes for its class with exp(similarity / 0.07), as DINO
            (Caron et al. 2021, appendix F.1); k is chosen on validation
    linear  logistic regression (ridge regression for numbers) on standardised features; its regularisation is chosen on
            validation

N images, M training images, D features, K classes, labels or targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.vision.baselines import TRAIN_IMAGES

if TYPE_CHECKING:
    from isoform.vision.task import VisionTask

TEMPERATURE = 0.07
NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of the logistic regression, 1 / alpha of the ridge

Score = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
Method = Callable[[np.ndarray], np.ndarray]


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
            return torch.cat([model.features(images.to(device)).float().cpu() for images in batches]).numpy()
    finally:
        model.train(training)


def knn(x_MD: np.ndarray, y: np.ndarray, kind: str, classes: int, k: int) -> Method:
    """The vote of the k nearest training images.

    `y` are classes [M] (kind "multiclass"), labels [M, K] in {0, 1} ("multilabel") or targets [M, K] ("regression",
    where the votes' mean is taken).
    """
    train = F.normalize(torch.from_numpy(np.ascontiguousarray(x_MD, np.float32)), dim=1)
    value = _one_hot(y, classes) if kind == "multiclass" else torch.from_numpy(np.asarray(y, np.float32))
    k = min(k, len(train))

    def predict(z_ND: np.ndarray) -> np.ndarray:
        parts = []
        for part in F.normalize(torch.from_numpy(np.ascontiguousarray(z_ND, np.float32)), dim=1).split(1024):
            similarity, index = (part @ train.T).topk(k)
            weight = ((similarity - similarity[:, :1]) / TEMPERATURE).exp()
            parts.append((weight[..., None] * value[index]).sum(1) / weight.sum(1, keepdim=True))
        return torch.cat(parts).numpy()

    return predict


def _one_hot(y: np.ndarray, classes: int) -> Tensor:
    return F.one_hot(torch.from_numpy(np.asarray(y, np.int64)), classes).float()


def linear(x_MD: np.ndarray, y: np.ndarray, kind: str, classes: int, strength: float) -> Method:
    """One linear layer, fitted to convergence on standardised features; `y` as for `knn`."""
    from sklearn.linear_model import Ridge

    mean, std = x_MD.mean(0), x_MD.std(0) + 1e-6
    x = (x_MD - mean) / std
    if kind == "regression":
        ridge = Ridge(alpha=1 / strength).fit(x, y)
        return lambda z: ridge.predict((z - mean) / std).reshape(len(z), -1)
    if kind == "multilabel":
        columns = [_logistic(x, y[:, j].astype(np.int64), 2, strength) for j in range(classes)]
        return lambda z: np.stack([column((z - mean) / std)[:, 1] for column in columns], 1)
    whole = _logistic(x, y, classes, strength)
    return lambda z: whole((z - mean) / std)


def _logistic(x: np.ndarray, y: np.ndarray, classes: int, strength: float) -> Method:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(y)
    if len(present) == 1:
        row = np.eye(classes)[present[0]]
        return lambda z: np.tile(row, (len(z), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=300).fit(x, y)

    def predict(z: np.ndarray) -> np.ndarray:
        probability = np.zeros((len(z), classes))
        probability[:, model.classes_] = model.predict_proba(z)
        return probability

    return predict


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
    metrics = {split: dict(score(predict(x[split]), y[split])) for split in x if split not in ("train", "val")}
    return Probe(predict, best, {"val": dict(tried[best]), **metrics})


def of_trunk(task: VisionTask) -> dict[str, dict[str, dict[str, float]]]:
    """Both probes of the trunk that `train.init` names, as baselines: {"trunk_knn": {"val": metrics, ...}, ...}.

    At most 5,000 random training images are used, as for the other baselines; empty without training or validation
    images.
    """
    from isoform.core.engine import warm_start

    rows = task.data.rows
    if not task.config.train.init or not {"train", "val"} <= rows.keys():
        return {}
    model = task.build()
    warm_start.load_into(task, model, warm_start.initial_weights(task, task.config.train.init))
    known = {split: task.data.complete_rows(members) for split, members in rows.items()}
    if not (len(known["train"]) and len(known["val"])):
        return {}
    chosen = {**rows, "train": np.random.default_rng(0).permutation(known["train"])[:TRAIN_IMAGES]}
    size = task.config.eval.batch
    x = {
        split: features(
            model, (task.preprocess([task.data.fitted(int(row)) for row in part[i : i + size]])
                    for i in range(0, len(part), size)),
        )
        for split, part in chosen.items()
    }  # fmt: skip
    y = {split: task.data.targets[part] for split, part in chosen.items()}
    floor = None if task.kind == "regression" else 1e-9  # no class is impossible

    def score(guess: np.ndarray, target: np.ndarray) -> Mapping[str, float]:
        return task.score(guess if floor is None else np.clip(guess, floor, 1.0), target)

    return {
        f"trunk_{method}": fit(
            method, x, y, kind=task.kind, classes=len(task.classes), score=score, monitor=task.monitor,
            larger_is_better=task.monitor_mode == "max",
        ).metrics
        for method in ("knn", "linear")
    }  # fmt: skip


__all__ = ["NEIGHBOURS", "STRENGTHS", "Probe", "features", "fit", "knn", "linear", "of_trunk"]
