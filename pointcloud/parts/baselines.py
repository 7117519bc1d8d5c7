"""What a part segmentation must beat: fixed methods with fixed settings, told each cloud's class, fitted on training.

    majority      the shares of the parts among the training points of a class
    point_forest  for each class a random forest of 100 trees on a point's coordinates in its cloud's frame, height and
                  local shape (shape_features.py), of 10,000 points of at most 100 training clouds

N points, M parts of a class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.baselines import Baseline, Fitting
from isoform.pointcloud.parts.data import PartData
from isoform.pointcloud.shape_features import features_of_points

if TYPE_CHECKING:
    from isoform.pointcloud.parts.task import PartTask

TREES, LEAST = 100, 5  # points of a leaf
CLOUDS, SAMPLE = 100, 10_000
MOST = 10_000  # points of a cloud whose neighbours are sought; of a larger one they are looked for among a part
SECONDS_A_POINT = 2e-4

Metrics = dict[str, dict[str, float]]  # split -> metrics
Guess = Callable[[int], np.ndarray]  # row -> probabilities [N, M]


def baselines(task: PartTask) -> list[Baseline]:
    """The methods, ready to be fitted and judged on every split but training; none without training clouds."""
    train = task.rows("train")
    if not train:
        return []
    fitted = [row for rows in _by_shape(task, train).values() for row in rows[:CLOUDS]]
    read = fitted + [row for split in _held_out(task) for row in task.rows(split)]
    minutes = SECONDS_A_POINT * sum(len(task.data.targets[row]) for row in read) / 60
    return [
        Baseline("majority", lambda fitting: _judge(task, _majority(task))),
        Baseline("point_forest", lambda fitting: _forest(task, fitting), minutes),
    ]


def _by_shape(task: PartTask, rows: list[int]) -> dict[int, list[int]]:
    """Class's number -> the clouds of it that have a part somewhere, in a random order."""
    found: dict[int, list[int]] = {}
    for row in np.random.default_rng(0).permutation(rows).tolist():
        if (task.data.targets[row] >= 0).any():
            found.setdefault(int(task.data.clouds.targets[row]), []).append(row)
    return found


def _held_out(task: PartTask) -> list[str]:
    return [split for split in ("val", "test") if task.rows(split)]


def _judge(task: PartTask, guess: Guess) -> Metrics:
    return {
        split: task.score([task.judge(row, guess(row)) for row in task.rows(split)])
        for split in _held_out(task)
    }


def _majority(task: PartTask) -> Guess:
    table, data = task.table, task.data
    counts = np.zeros((len(table.shapes), int(table.counts.max())))
    for row in task.rows("train"):
        shape = int(data.clouds.targets[row])
        own = data.targets[row][data.targets[row] >= 0] - table.first[shape]
        counts[shape] += np.bincount(own, minlength=counts.shape[1])
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)

    def guess(row: int) -> np.ndarray:
        return np.tile(shares[data.clouds.targets[row]], (len(data.targets[row]), 1))

    return guess


def _forest(task: PartTask, fitting: Fitting) -> Metrics:
    from sklearn.ensemble import RandomForestClassifier

    data, table = task.data, task.table
    forests = {}
    by_shape = _by_shape(task, task.rows("train"))
    for number, (shape, rows) in enumerate(by_shape.items()):
        fitting.step(number, len(by_shape), "classes of clouds")
        x = np.concatenate([features_of_part_points(data, row) for row in rows[:CLOUDS]])
        y = np.concatenate([data.targets[row] for row in rows[:CLOUDS]]) - table.first[shape]
        known = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))[:SAMPLE]
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAST, random_state=0, n_jobs=1)
        forests[shape] = forest.fit(x[known], y[known])

    def guess(row: int) -> np.ndarray:
        forest = forests.get(int(data.clouds.targets[row]))
        found = np.zeros((len(data.targets[row]), int(table.counts.max())))
        if forest is not None:
            found[:, forest.classes_] = forest.predict_proba(features_of_part_points(data, row))
        return found

    return _judge(task, guess)


def features_of_part_points(data: PartData, row: int) -> np.ndarray:
    """float32 [N, 10]: x, y, z in the cloud's frame, and `features_of_points`."""
    xyz = data.points(row)
    pieces = np.array_split(np.random.default_rng(0).permutation(len(xyz)), -(-len(xyz) // MOST))
    found = np.zeros((len(xyz), 7), np.float32)
    for piece in pieces:
        found[piece] = features_of_points(xyz[piece])
    return np.concatenate([xyz, found], 1)
