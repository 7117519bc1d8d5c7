"""A linear SVM on the features of a frozen encoder, as the field judges a pretraining.

Features are mean and largest value over an encoder's patches behind its final norm, of the points that an evaluation
sees, brought to mean 0 and deviation 1 of the training clouds. One classifier against the rest a class (scikit-learn's
LinearSVC); its C is the one that classifies validation best, the smallest of equals; test is judged once, with it.

N clouds, M training clouds, D features, K classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from isoform.core.domain import Speaker
from isoform.core.engine import distributed, precision
from isoform.core.engine.evaluate import to_device
from isoform.core.errors import UserError, join_names
from isoform.core.readout import read
from isoform.core.supervised.metrics import confusion, per_class
from isoform.pointcloud.data.dataset import CloudData, sizes_of
from isoform.pointcloud.judging import Judged, open_judged, write_judgement
from isoform.pointcloud.point_task import name_of
from isoform.pointcloud.pointmae.model import PointClassifier, PointMae
from isoform.pointcloud.task import pad

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C, from the strongest regularisation on
ITERATIONS = 10_000
LEAST_DEVIATION = 1e-6

Track = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class LinearSvm:
    """The chosen C, top1 on validation of every C, and top1 and balanced_accuracy of each split but train."""

    strength: float
    tried: Mapping[float, float]
    metrics: Mapping[str, Mapping[str, float]]


def fit_svm(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray], classes: int) -> LinearSvm:
    """A linear SVM on features [N, D] and classes [N] by split: "train", "val" and others.

    Raises ValueError for training clouds of one class.
    """
    from sklearn.svm import LinearSVC

    mean_D, std_D = x["train"].mean(0), x["train"].std(0) + LEAST_DEVIATION
    scaled = {split: (one - mean_D) / std_D for split, one in x.items()}
    fitted, tried = {}, {}
    for strength in STRENGTHS:
        svm = LinearSVC(C=strength, max_iter=ITERATIONS, random_state=0)
        fitted[strength] = svm.fit(scaled["train"], y["train"])
        tried[strength] = float((svm.predict(scaled["val"]) == y["val"]).mean())
    best = max(tried, key=lambda strength: tried[strength])
    metrics = {}
    for split in x:
        if split != "train":
            guess = fitted[best].predict(scaled[split])
            metrics[split] = _score(guess, y[split], classes)
    return LinearSvm(best, tried, metrics)


def _score(guess_N: np.ndarray, target_N: np.ndarray, classes: int) -> dict[str, float]:
    recall, *_ = per_class(confusion(guess_N, target_N, classes))
    return {
        "top1": float((guess_N == target_N).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
    }


def features_of(judged: Judged, rows: np.ndarray, track: Track, what: str) -> np.ndarray:
    """float32 [N, 2 D] of clouds by their rows: mean and largest value over the patches."""
    model = cast("PointMae | PointClassifier", judged.trained.model).eval()
    size = judged.trained.config.eval.batch
    device = distributed.this_process().device
    model.to(device)
    parts = []
    for part in track([rows[i : i + size] for i in range(0, len(rows), size)], what):
        batch = to_device(pad([judged.clouds.evaluated(row) for row in part.tolist()]), device)
        with torch.no_grad(), precision.autocast(judged.trained.precision, device):
            states = model.states(batch["points"], batch["lengths"])
            parts.append(read(states, "cat_mean_max").float().cpu().numpy())
    return np.concatenate(parts)


def labelled_rows(clouds: CloudData) -> dict[str, np.ndarray]:
    """The rows with a class of train, val and test. Raises UserError where one of them has none."""
    rows = {split: own[clouds.targets[own] >= 0] for split, own in clouds.rows.items()}
    empty = [split for split in ("train", "val", "test") if not len(rows.get(split, ()))]
    if empty:
        raise UserError(
            f"{clouds.records.origin}: no labelled clouds in {join_names(empty)}; a linear SVM is fitted on train, its "
            "C is chosen on val, and test judges it"
        )
    if len(np.unique(clouds.targets[rows["train"]])) < 2:
        raise UserError(f"{clouds.records.origin}: the training clouds are of one class")
    return rows


def run_svm(args: argparse.Namespace, console: Speaker) -> int:
    """The command; writes its judgement as JSON."""
    judged = open_judged(args.run_dir, checkpoint=args.checkpoint, data=args.data, sets=args.sets)
    clouds = judged.clouds
    rows = labelled_rows(clouds)
    for note in judged.notes:
        console.warn(note)
    x = {s: features_of(judged, own, console.track, f"features of {s}") for s, own in rows.items()}
    y = {split: clouds.targets[own] for split, own in rows.items()}
    found = fit_svm(x, y, len(clouds.classes))
    sizes = sizes_of(rows)
    table = [[split, sizes[split], *found.metrics[split].values()] for split in ("val", "test")]
    console.say(
        f"linear SVM on {x['train'].shape[1]} features of {sizes['train']:,} training clouds; C = {found.strength:g} "
        f"by {sizes['val']:,} validation clouds"
    )
    console.table(["split", "clouds", "top1", "balanced_accuracy"], table)
    content = {
        "method": "linear SVM on the frozen encoder's features (cat_mean_max)",
        "data": name_of(clouds.records.origin),
        "settings": list(args.sets),
        "checkpoint": judged.trained.step,
        "clouds": sizes,
        "C": found.strength,
        "val_top1_by_C": {f"{c:g}": value for c, value in found.tried.items()},
        "metrics": found.metrics,
    }
    place = Path(args.out) if args.out else judged.trained.folder / "svm.json"
    write_judgement(place, content)
    console.say(f"written: {place}")
    console.result |= {**content, "out": str(place)}
    return 0
