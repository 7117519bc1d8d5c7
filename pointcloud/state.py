"""task.json of a point cloud run: what predicting and exporting need beside settings and weights."""

from __future__ import annotations

from pydantic import Field

from isoform.core.config.schema import Names, Table
from isoform.core.config.state import RunState
from isoform.pointcloud.config import Codes


class SourceState(Table):
    """Where an imported model came from, for the way back."""

    layout: str


class PointcloudState(RunState):
    """A point cloud run's task.json."""

    classes: Names = Field(
        (), description="of the outputs, in their order; none: the outputs' numbers"
    )
    parts: dict[str, Codes] | None = Field(
        None,
        description="of a part segmentation: class of clouds -> codes of its parts, which are the outputs in turn",
    )
    least_points: int | None = Field(
        None, description="of the training cloud that has fewest; none for an imported model"
    )
    source: SourceState | None = Field(None, description="of an imported model")
