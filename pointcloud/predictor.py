"""A trained point cloud model on clouds from anywhere: one row a cloud, whatever the input is.

n clouds of a batch, K classes, D features.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.below import LeftOut, warn_of_left_out
from isoform.core.data.inputs import list_inputs
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import softmax
from isoform.core.supervised.predictor import SupervisedPredictor, describe_seen_inputs
from isoform.core.supervised.rows import name_of_input, rows_of
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import choose_evaluated, describe_thinned, frame_cloud
from isoform.pointcloud.data.draws import Draws
from isoform.pointcloud.data.features import FeatureReader, count_channels, parse_features
from isoform.pointcloud.data.folders import SURFACE, list_files
from isoform.pointcloud.data.records import digest_of, usable_cloud
from isoform.pointcloud.data.thinning import Thinned
from isoform.pointcloud.data.transforms import dominated_by_one
from isoform.pointcloud.files import Cloud
from isoform.pointcloud.files.cloud import AXES
from isoform.pointcloud.state import PointcloudState
from isoform.pointcloud.task import pad


class PointcloudPredictor(SupervisedPredictor):
    """Predictions and features of one model.

    An input is a file of points, or an array [N, 3 + F] of x, y, z and the F fields of data.features. A single array of
    these two axes is one cloud, as a path is one; of a list or an array [clouds, N, 3 + F] each entry is a cloud.
    """

    item = "cloud"

    def __init__(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> None:
        self.config, self.state = trained.config, trained.state
        self.model = trained.model.eval()
        self.calibration = calibration_of(self.state)
        self.kind = "multiclass"
        self.decision = Decision.of(self.config.eval, self.state.calibration)
        self.noticed = _Noticed(FeatureReader(self.config.data))
        self.draws, self.keep_points = 1, False

    def adopt(self, options: argparse.Namespace) -> None:
        """--draws and --points."""
        if options.draws < 1:
            raise UserError(f"--draws {options.draws}: should be at least 1")
        if options.draws > 1 and options.points == "keep":
            raise UserError("--draws with --points keep: all points are one draw; leave one out")
        self.draws, self.keep_points = options.draws, options.points == "keep"

    def expand(self, inputs: Any) -> Sequence[Any]:
        """See Predictor.expand: numbers in two axes are one cloud."""
        one = isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iuf"
        if (one or isinstance(inputs, Tensor)) and inputs.ndim == 2:
            return [inputs]
        return list_inputs(inputs)

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

    def read(self, item: Any) -> Cloud:
        """The points of an item that have coordinates, one at least, and their fields. Raises UserError."""
        data = self.config.data
        if count_channels(data.features) != self.config.tokeniser.channels:
            raise UserError(
                f"this model reads {self.config.tokeniser.channels} channels of a point, and its data.features don't "
                "say which"
            )
        if isinstance(item, (str, Path)):
            return usable_cloud(Path(item), data.columns, SURFACE * data.points)
        return self._cloud_of_array(item)

    def _cloud(self, item: Any) -> np.ndarray:
        data, noticed, cloud = self.config.data, self.noticed, self.read(item)
        where = name_of_input(item, noticed.clouds)
        found = frame_cloud(cloud, data, noticed.features, where, whole=self.keep_points)
        noticed.clouds += 1
        if self.state.seen is not None:
            noticed.digests.append(found.digest)
        noticed.dominated += data.scale == "unit" and dominated_by_one(cloud.xyz) is not None
        noticed.resampled += len(cloud) > data.points
        noticed.sparse += len(cloud) < (self.state.least_points or 0)
        if found.thinned is not None:
            noticed.thinned[where] = found.thinned
        noticed.radii.append(float(np.linalg.norm(found.points[:, :3], axis=1).max()))
        return found.points

    def _cloud_of_array(self, item: Any) -> Cloud:
        """Columns are x, y, z, then the fields of data.features, unless data.columns name them; others are ignored."""
        data, points = self.config.data, np.asarray(item, np.float64)
        own = [one.name for one in parse_features(data.features) if not one.computed]
        names = data.columns or (*AXES, *own)
        if points.ndim != 2 or points.shape[1] < (len(names) if own else 3) or not len(points):
            wanted = f"[points, {len(names)}: {', '.join(names)}]" if own else "[points, 3]"
            raise UserError(f"an array of shape {points.shape}: a cloud is {wanted}")
        points = points[Cloud(points[:, :3]).usable()]
        if not len(points):
            raise UserError("an array without a point that is finite")
        fields = {name: points[:, k] for k, name in enumerate(names) if k > 2 and own}
        return Cloud(points[:, :3], fields)

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
        """What was done to the clouds, what is unlike the training's, and how many are the training's own."""
        noticed, self.noticed = self.noticed, _Noticed(FeatureReader(self.config.data))
        data, lines = self.config.data, [*noticed.done, *describe_thinned(noticed.thinned)]
        if noticed.dominated:
            lines.append(
                f"in {noticed.dominated:,} of {len(rows):,} clouds one point lies so far away that scaling shrinks the "
                "others to nothing: remove it"
            )
        if noticed.resampled:
            lines.append(
                f"{noticed.resampled:,} of {len(rows):,} clouds have more points than the {data.points:,} that the "
                f"model was trained on: {self._resampling()}"
            )
        if noticed.sparse:
            lines.append(
                f"{noticed.sparse:,} of {len(rows):,} clouds have fewer points than any that the model was trained on "
                f"({self.state.least_points:,}): its answers to them are less sure than they say"
            )
        if data.scale == "keep" and noticed.radii:
            low, high = min(noticed.radii), max(noticed.radii)
            lines.append(
                f"the unit is kept (data.scale = keep): clouds reach {low:.4g} to {high:.4g} from their middle"
            )
        lines += noticed.features.notes()
        seen = self.state.seen
        if seen is not None and noticed.digests:
            known = int(np.isin(np.array(noticed.digests, np.uint64), seen).sum())
            lines += [describe_seen_inputs(known, len(noticed.digests), "clouds")] if known else []
        return lines

    def _resampling(self) -> str:
        """What was done to clouds of more points, as a part of a sentence."""
        if self.keep_points:
            return "all were kept (--points keep), and answers to denser clouds can be far off"
        if self.draws > 1:
            return f"as many were drawn of each, {self.draws} times, and the logits averaged"
        return f"as many were chosen of each (data.draw = {self.config.data.draw})"


@dataclass
class _Noticed:
    """What was seen of the clouds since `remarks` was asked."""

    features: FeatureReader
    clouds: int = 0
    dominated: int = 0  # of which one point lies far from the others
    resampled: int = 0  # of more points than the model sees
    sparse: int = 0  # of fewer than any in training
    digests: list[int] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # what else was done to them, a sentence each
    thinned: dict[str, Thinned] = field(default_factory=dict)


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
