"""A trained point cloud model on clouds from anywhere: one row a cloud, whatever the input is.

n clouds of a batch, K classes, D features.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.below import LeftOut, warn_of_left_out
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import softmax
from isoform.core.supervised.predictor import SupervisedPredictor, describe_seen_inputs
from isoform.core.supervised.rows import rows_of
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import choose_evaluated
from isoform.pointcloud.data.draws import Draws
from isoform.pointcloud.data.folders import SURFACE, list_files
from isoform.pointcloud.data.records import digest_of, points_of
from isoform.pointcloud.data.transforms import dominated_by_one, frame_of
from isoform.pointcloud.files import Cloud
from isoform.pointcloud.state import PointcloudState
from isoform.pointcloud.task import pad


class PointcloudPredictor(SupervisedPredictor):
    """Predictions and features of one model. An input is a file of points, or an array [N, 3]."""

    item = "cloud"

    def __init__(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> None:
        self.config, self.state = trained.config, trained.state
        self.model = trained.model.eval()
        self.calibration = calibration_of(self.state)
        self.kind = "multiclass"
        self.decision = Decision.of(self.config.eval, self.state.calibration)
        self.looked_at: list[int] = []  # digests of the clouds since `remarks` was asked
        self.dominated = 0  # clouds of which one point lies far from the others, since then
        self.resampled = 0  # clouds of more points than the model sees, since then
        self.sparse = 0  # clouds of fewer than any in training, since then
        self.draws, self.keep_points = 1, False

    def adopt(self, options: argparse.Namespace) -> None:
        """--draws and --points."""
        if options.draws < 1:
            raise UserError(f"--draws {options.draws}: should be at least 1")
        if options.draws > 1 and options.points == "keep":
            raise UserError("--draws with --points keep: all points are one draw; leave one out")
        self.draws, self.keep_points = options.draws, options.points == "keep"

    def batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Clouds in their frames, with as many points as in training at most; further draws of them are "again"."""
        size = self.config.eval.batch
        for start in range(0, len(items), size):
            places, looks = [], []
            for place in range(start, min(start + size, len(items))):
                try:
                    looks.append(self._looks(self._cloud(items[place])))
                    places.append(place)
                except UserError as error:
                    errors[place] = str(error)
            if places:
                first, *again = (pad(clouds) for clouds in zip(*looks, strict=True))
                yield places, {**first, "again": again}

    def read(self, item: Any) -> np.ndarray:
        """float64 [N, 3], N at least 1: the points of an item that have coordinates. Raises UserError."""
        data = self.config.data
        if isinstance(item, (str, Path)):
            return points_of(Path(item), data.columns, SURFACE * data.points)
        points = np.asarray(item, np.float64)
        if points.ndim != 2 or points.shape[1] < 3 or not len(points):
            raise UserError(f"an array of shape {points.shape}: a cloud is [points, 3]")
        found: np.ndarray = points[Cloud(points[:, :3]).usable(), :3]
        if not len(found):
            raise UserError("an array without a point that is finite")
        return found

    def _cloud(self, item: Any) -> np.ndarray:
        data, points = self.config.data, self.read(item)
        if self.state.seen is not None:
            self.looked_at.append(digest_of(points))
        self.dominated += data.scale == "unit" and dominated_by_one(points) is not None
        self.resampled += len(points) > data.points
        self.sparse += len(points) < (self.state.least_points or 0)
        return frame_of(points, data.scale, data.up).into(points)

    def _looks(self, own: np.ndarray) -> list[np.ndarray]:
        """What the model gets of a framed cloud: a cloud for each draw."""
        data = self.config.data
        if self.keep_points:
            return [own]
        if self.draws == 1:
            return [choose_evaluated(own, data)]
        drawn = Draws(own, data.points, digest_of(own))
        return [drawn[number] for number in range(self.draws)]

    def run(self, function: Any, batch: dict[str, Any]) -> Tensor:
        """See SupervisedPredictor.run. Raises UserError where a model without classes is to predict them."""
        if function is self.model and self.config.model.kind != "classify":
            raise UserError(
                f"this run's model is for {self.config.model.kind}: it has no classes to predict; use embed"
            )
        looks = [batch, *batch.get("again", ())]
        outputs = [
            function(look["points"].to(self.device), look["lengths"].to(self.device))
            for look in looks
        ]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)

    def make_rows(self, output: np.ndarray, batch: Any) -> list[dict[str, Any]]:
        """See core/supervised/rows.py."""
        names = list(self.state.classes) or [str(k) for k in range(output.shape[1])]
        guess, apart = self.guess(output), self.spread()
        return rows_of(
            "multiclass", names, guess, self.calibration, spread=apart, decision=self.decision
        )

    def guess(self, output: np.ndarray) -> np.ndarray:
        """Probabilities."""
        return softmax(output)

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """How many clouds the model was trained on, and how many had more points than it sees, or fewer than it saw."""
        looked_at, self.looked_at = self.looked_at, []
        resampled, self.resampled = self.resampled, 0
        sparse, self.sparse = self.sparse, 0
        dominated, self.dominated = self.dominated, 0
        lines = []
        if dominated:
            lines.append(
                f"in {dominated:,} of {len(rows):,} clouds one point lies so far away that scaling shrinks the others "
                "to nothing: remove it"
            )
        if resampled:
            lines.append(
                f"{resampled:,} of {len(rows):,} clouds have more points than the {self.config.data.points:,} that the "
                f"model was trained on: {self._resampling()}"
            )
        if sparse:
            lines.append(
                f"{sparse:,} of {len(rows):,} clouds have fewer points than any that the model was trained on "
                f"({self.state.least_points:,}): its answers to them are less sure than they say"
            )
        if self.state.seen is not None and looked_at:
            known = int(np.isin(np.array(looked_at, np.uint64), self.state.seen).sum())
            lines += [describe_seen_inputs(known, len(looked_at), "clouds")] if known else []
        return lines

    def _resampling(self) -> str:
        """What was done to clouds of more points, as a part of a sentence."""
        if self.keep_points:
            return "all were kept (--points keep), and answers to denser clouds can be far off"
        if self.draws > 1:
            return f"as many were drawn of each, {self.draws} times, and the logits averaged"
        return f"as many were chosen of each (data.draw = {self.config.data.draw})"


def calibration_of(state: PointcloudState) -> Calibration | None:
    """What validation taught of sets of classes; None of a model that was imported or pretrained."""
    learned = state.calibration
    return Calibration.of(learned) if learned and "levels" in learned else None


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Folders replaced by the files of points below them; a path that does not exist stays, to be named."""
    found: list[str] = []
    for one in inputs:
        path = Path(one)
        if path.is_dir():
            left_out: LeftOut = []
            found += [str(file) for file in list_files(path, left_out)]
            warn_of_left_out(path, left_out)
        else:
            found.append(one)
    return found
