"""A trained point cloud model on clouds from anywhere: one row a cloud, whatever the input is.

n clouds of a batch, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from isoform.core.data.below import LeftOut, warn_of_left_out
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import softmax
from isoform.core.supervised.predictor import SupervisedPredictor, describe_seen_inputs
from isoform.core.supervised.rows import name_of_input, rows_of
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import choose_evaluated, describe_thinned, frame_cloud
from isoform.pointcloud.data.features import FeatureReader, count_channels, parse_features
from isoform.pointcloud.data.folders import SURFACE, list_files
from isoform.pointcloud.data.records import usable_cloud
from isoform.pointcloud.data.thinning import Thinned
from isoform.pointcloud.files import Cloud
from isoform.pointcloud.files.cloud import AXES
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
        self.noticed = _Noticed(FeatureReader(self.config.data))

    def batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Clouds in their frames, with as many points as in training at most."""
        size = self.config.eval.batch
        for start in range(0, len(items), size):
            places, clouds = [], []
            for place in range(start, min(start + size, len(items))):
                try:
                    clouds.append(self._cloud(items[place]))
                    places.append(place)
                except UserError as error:
                    errors[place] = str(error)
            if places:
                yield places, pad(clouds)

    def _cloud(self, item: Any) -> np.ndarray:
        data, noticed = self.config.data, self.noticed
        if count_channels(data.features) != self.config.tokeniser.channels:
            raise UserError(
                f"this model reads {self.config.tokeniser.channels} channels of a point, and its data.features don't "
                "say which"
            )
        if isinstance(item, (str, Path)):
            cloud = usable_cloud(Path(item), data.columns, SURFACE * data.points)
        else:
            cloud = self._cloud_of_array(item)
        where = name_of_input(item, noticed.clouds)
        found = frame_cloud(cloud, data, noticed.features, where)
        noticed.clouds += 1
        noticed.resampled += len(cloud) > data.points
        if self.state.seen is not None:
            noticed.digests.append(found.digest)
        if found.thinned is not None:
            noticed.thinned[where] = found.thinned
        noticed.radii.append(float(np.linalg.norm(found.points[:, :3], axis=1).max()))
        return choose_evaluated(found.points, data)

    def _cloud_of_array(self, item: Any) -> Cloud:
        """Columns are x, y, z, then the fields of data.features, unless data.columns name them; others are ignored."""
        data, points = self.config.data, np.asarray(item, np.float64)
        own = [one.name for one in parse_features(data.features) if not one.computed]
        names = data.columns or (*AXES, *own)
        if points.ndim != 2 or points.shape[1] < (len(names) if own else 3) or not len(points):
            wanted = f"[points, {len(names)}: {', '.join(names)}]" if own else "[points, 3]"
            raise UserError(f"an array of shape {points.shape}: a cloud is {wanted}")
        points = points[np.isfinite(points[:, :3]).all(1)]
        if not len(points):
            raise UserError("an array without a point that is finite")
        fields = {name: points[:, k] for k, name in enumerate(names) if k > 2 and own}
        return Cloud(points[:, :3], fields)

    def run(self, function: Any, batch: dict[str, Tensor]) -> Tensor:
        """See SupervisedPredictor.run. Raises UserError where a model without classes is to predict them."""
        if function is self.model and self.config.model.kind != "classify":
            raise UserError(
                f"this run's model is for {self.config.model.kind}: it has no classes to predict; use embed"
            )
        output: Tensor = function(batch["points"].to(self.device), batch["lengths"].to(self.device))
        return output

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
        """What was done to the clouds, thinned, chosen of, kept in their unit, and how many are the training's."""
        noticed, self.noticed = self.noticed, _Noticed(FeatureReader(self.config.data))
        data, lines = self.config.data, describe_thinned(noticed.thinned)
        if noticed.resampled:
            lines.append(
                f"{noticed.resampled:,} of {len(rows):,} clouds have more points than the {data.points:,} that the "
                f"model was trained on: as many were chosen of each (data.draw = {data.draw})"
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


@dataclass
class _Noticed:
    """What was seen of the clouds since `remarks` was asked."""

    features: FeatureReader
    clouds: int = 0
    resampled: int = 0  # of more points than the model sees
    digests: list[int] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)
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
