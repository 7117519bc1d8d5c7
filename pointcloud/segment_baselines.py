"""What a segmentation must beat: fixed methods with fixed settings, fitted on the training scans alone.

    majority      the training points' shares of the classes as every point's probabilities
    point_forest  a random forest of 100 trees on height and local shape (shape_features.py) of 30,000 training points

N points, P classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isoform.core.baselines import Baseline, Fitting
from isoform.pointcloud.data.tiles import cut_into_tiles
from isoform.pointcloud.shape_features import features_of_points

if TYPE_CHECKING:
    from isoform.pointcloud.segment_task import SegmentTask

TREES, LEAST = 100, 5  # points of a leaf
SAMPLE = 30_000
WHOLE = (
    30_000  # points of a scan whose neighbours are sought among all; a larger one is cut into tiles
)
SECONDS_A_POINT = 2e-4

Metrics = dict[str, dict[str, float]]  # split -> metrics


def baselines(task: SegmentTask) -> list[Baseline]:
    """The methods, ready to be fitted and judged on every split but training; none without training scans."""
    if not task.data.rows("train"):
        return []
    minutes = SECONDS_A_POINT * sum(len(scan.xyz) for scan in task.data.scans) / 60
    return [
        Baseline("majority", lambda fitting: _majority(task)),
        Baseline("point_forest", lambda fitting: _forest(task, fitting), minutes),
    ]


def _targets(task: SegmentTask, split: str) -> np.ndarray:
    return np.concatenate([task.data.targets[k] for k in task.data.rows(split)])


def _held_out(task: SegmentTask) -> list[str]:
    return [split for split in ("val", "test") if task.data.rows(split)]


def _majority(task: SegmentTask) -> Metrics:
    train = _targets(task, "train")
    counts = np.bincount(train[train >= 0], minlength=len(task.classes)) + 1
    found = {}
    for split in _held_out(task):
        target = _targets(task, split)
        found[split] = task.score(np.tile(counts / counts.sum(), (len(target), 1)), target)
    return found


def _forest(task: SegmentTask, fitting: Fitting) -> Metrics:
    from sklearn.ensemble import RandomForestClassifier

    def read(split: str) -> np.ndarray:
        own, found = task.data.rows(split), []
        for number, k in enumerate(own):
            fitting.step(number, len(own), f"{split} scans")
            found.append(features_of_scan(task.data.scans[k].xyz, task.config.data.tile))
        return np.concatenate(found)

    target = _targets(task, "train")
    known = np.flatnonzero(target >= 0)
    drawn = np.random.default_rng(0).permutation(known)[:SAMPLE]
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAST, random_state=0, n_jobs=1)
    forest.fit(read("train")[drawn], target[drawn])
    metrics = {}
    for split in _held_out(task):
        there = _targets(task, split)
        probability = np.zeros((len(there), len(task.classes)))
        probability[:, forest.classes_] = forest.predict_proba(read(split))
        metrics[split] = task.score(probability, there)
    return metrics


def features_of_scan(xyz: np.ndarray, tile: float) -> np.ndarray:
    """float32 [N, 7] of `features_of_points`; of a large scan tile by tile, so that time grows with the points."""
    if len(xyz) <= WHOLE:
        return features_of_points(xyz)
    found = np.zeros((len(xyz), 7), np.float32)
    for one in cut_into_tiles(xyz, tile, 0.0):
        found[one.index] = features_of_points(xyz[one.index])
    return found
