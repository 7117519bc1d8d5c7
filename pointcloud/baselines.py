"""What a model must beat: fixed methods with fixed settings, fitted on the training clouds alone.

    majority      the training set's shares of the classes as every cloud's probabilities
    shape_forest  a random forest of 300 trees on extents, spreads and histograms of the cloud (shape_features.py)
    centre        of pretraining: every hidden point lies in the middle of its patch

N clouds, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isoform.core.baselines import Baseline, Fitting
from isoform.pointcloud.shape_features import features_of_shape

if TYPE_CHECKING:
    from isoform.pointcloud.task import PointcloudTask

TREES = 300
SECONDS_A_CLOUD = 5e-3

Metrics = dict[str, dict[str, float]]  # split -> metrics


def baselines(task: PointcloudTask) -> list[Baseline]:
    """The methods, ready to be fitted and judged on every split but training; none without training clouds."""
    if "train" not in task.data.rows:
        return []
    if task.pretrains:
        return [Baseline("centre", lambda fitting: _centre(task))]
    train = task.data.rows["train"]
    train = train[task.data.targets[train] >= 0]
    if not len(train):
        return []
    minutes = SECONDS_A_CLOUD * sum(map(len, task.data.rows.values())) / 60
    return [
        Baseline("majority", lambda fitting: _majority(task, train)),
        Baseline("shape_forest", lambda fitting: _forest(task, train, fitting), minutes),
    ]


def _held_out(task: PointcloudTask) -> dict[str, np.ndarray]:
    return {split: rows for split, rows in task.data.rows.items() if split != "train"}


def _majority(task: PointcloudTask, train: np.ndarray) -> Metrics:
    classes = len(task.classes)
    shares = (np.bincount(task.data.targets[train], minlength=classes) + 1) / (len(train) + classes)
    return {
        split: task.score(np.tile(shares, (len(rows), 1)), task.data.targets[rows])
        for split, rows in _held_out(task).items()
    }


def _forest(task: PointcloudTask, train: np.ndarray, fitting: Fitting) -> Metrics:
    from sklearn.ensemble import RandomForestClassifier

    def read(rows: np.ndarray, what: str) -> np.ndarray:
        found = []
        for number, row in enumerate(rows.tolist()):
            if number % 100 == 0:
                fitting.step(number, len(rows), what)
            found.append(features_of_shape(task.data.cloud(row)[:, :3]))
        return np.stack(found)

    forest = RandomForestClassifier(TREES, random_state=0, n_jobs=1)
    forest.fit(read(train, "training clouds"), task.data.targets[train])
    metrics = {}
    for split, rows in _held_out(task).items():
        probability = np.zeros((len(rows), len(task.classes)))
        probability[:, forest.classes_] = forest.predict_proba(read(rows, f"{split} clouds"))
        metrics[split] = task.score(probability, task.data.targets[rows])
    return metrics


def _centre(task: PointcloudTask) -> Metrics:
    """The distance of hidden points to their centre, both ways: a drawn patch of equal points at it."""
    import torch

    from isoform.pointcloud.losses import drawn_distances
    from isoform.pointcloud.masks import mask_of
    from isoform.pointcloud.pointmae.model import Drawn
    from isoform.pointcloud.pointmae.patches import cut_into_patches

    found = {}
    for split, rows in _held_out(task).items():
        distances = []
        for part in task.batches(split, task.config.eval.batch, None):
            batch = task.collate([task.sample(split, index, None) for index in part])
            patches = cut_into_patches(batch["points"], task.config.tokeniser, batch["lengths"])
            mask = mask_of(task.config.mask, batch["noise"], patches.centres)
            target = patches.points[mask].unflatten(0, (len(mask), -1))[..., :3]
            empty = torch.zeros_like(target)
            drawn = Drawn(empty, empty, empty, target)
            distances.append(drawn_distances(drawn, task.config.loss.chamfer))
        found[split] = {"loss": float(torch.cat(distances).mean())} if len(rows) else {}
    return found
