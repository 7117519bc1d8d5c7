"""`isoform pointcloud label RUN CLOUD... --shape NAME --out FILE`: clouds written with a part for every point.

N points of a file, n points of a draw, P parts of the named class.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError, join_names
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import frame_cloud
from isoform.pointcloud.data.records import taken
from isoform.pointcloud.data.tiles import Votes
from isoform.pointcloud.files import Cloud
from isoform.pointcloud.labels import UNCLASSIFIED, Labeller
from isoform.pointcloud.parts.data import every_turn, turns_of
from isoform.pointcloud.parts.table import PartTable
from isoform.pointcloud.state import PointcloudState

NO_PART = -1  # what is written for none where 0 is a part


class PartLabeller(Labeller):
    """A part segmentation on clouds from outside, all of one class until another is taken."""

    def __init__(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> None:
        super().__init__(trained)
        self.table = PartTable(self.state.parts or {})
        self.shape: int | None = 0 if len(self.table.shapes) == 1 else None

    def take_shape(self, name: str | None) -> None:
        """See Labeller.take_shape. Raises UserError where it isn't told, or unknown."""
        if not self.table.shapes:
            raise UserError(
                "nothing says which parts this imported model's classes have; label takes what was trained"
            )
        if name is not None:
            self.shape = self.table.number_of(name)
        elif self.shape is None:
            raise UserError(
                "this run's model reads the class of a cloud beside its points: name it with --shape, one of "
                f"{join_names(self.table.shapes, 20)}"
            )

    @property
    def codes(self) -> tuple[np.ndarray, int]:
        """See Labeller.codes."""
        own = self.table.codes[self.table.shapes[self._shape()]]
        return np.array(own, np.int64), NO_PART if UNCLASSIFIED in own else UNCLASSIFIED

    def _shape(self) -> int:
        if self.shape is None:
            self.take_shape(None)
        assert self.shape is not None
        return self.shape

    def probabilities(self, cloud: Cloud, where: str = "the cloud") -> np.ndarray:
        """float32 [N, P], averaged over the draws that a point is in; zeros for a point without coordinates.

        Draws and frame are those of an evaluation. Raises UserError, naming the cloud as `where`.
        """
        data, shape = self.config.data, self._shape()
        usable = cloud.usable()
        parts = int(self.table.counts[shape])
        found = np.zeros((len(cloud), parts), np.float32)
        if not usable.any():
            return found
        reader = self.noticed.features
        own = frame_cloud(taken(cloud, usable), data, reader, where, whole=True).points
        votes = Votes(len(own), parts)
        size, turns = self.config.eval.batch, every_turn(len(own), data.points)
        starts = range(0, turns_of(len(own), data.points), size)
        for _ in self.track(starts, "labelling"):
            chosen = list(itertools.islice(turns, size))
            points = torch.from_numpy(own[np.stack(chosen)]).to(self.device)
            for index, probability in zip(chosen, self._judge(points, shape), strict=True):
                votes.add(index, probability[:, :parts])
        found[usable] = votes.mean()
        return found

    def _judge(self, points: torch.Tensor, shape: int) -> np.ndarray:
        shape_B = torch.full((len(points),), shape, device=points.device)
        with torch.no_grad():
            logits: Any = self.model(points, F.one_hot(shape_B, len(self.table.shapes)).float())
            own = self.table.own_probabilities(logits, shape_B)
        return own.cpu().numpy()
