"""The pictures of a part segmentation's report: clouds by their true and their said parts, and a table of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.points import points_figure
from isoform.pointcloud.segment_figures import parts_scene

if TYPE_CHECKING:
    from isoform.pointcloud.parts.task import Judged, PartTask

CLOUDS = 4  # of a picture


def figures(task: PartTask, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Pictures of the test split; none where no point of it has a part."""
    clouds = [c for c in task.clouds_of(outputs) if (c.target >= 0).any()]
    if not clouds:
        return []
    found = [_table(task, clouds)]
    if task.official:  # which judged drawn points alone
        return found
    chosen = [
        clouds[k] for k in np.linspace(0, len(clouds) - 1, min(CLOUDS, len(clouds))).astype(int)
    ]
    scene = parts_scene(
        [task.data.points(cloud.row) for cloud in chosen],
        [cloud.target for cloud in chosen],
        [cloud.guess for cloud in chosen],
        task.classes,
        [task.table.shapes[task.data.clouds.targets[cloud.row]] for cloud in chosen],
    )
    caption = "Test clouds, evenly spaced, by their true parts and by what the model says"
    return [points_figure(caption, scene), *found]


def _table(task: PartTask, clouds: list[Judged]) -> Figure:
    shapes = np.array(task.shapes_of(clouds), dtype=object)
    each = task.mious(clouds)
    rows = []
    for shape in task.table.shapes:
        own = each[shapes == shape]
        if len(own):
            official, strict = own.mean(0)
            rows.append([shape, f"{len(own):,}", f"{official:.3f}", f"{strict:.3f}"])
    caption = "Mean IoU of the clouds of each class; strict: parts that are neither there nor said are left out"
    return Figure(caption, head=["class", "clouds", "mIoU official", "mIoU strict"], rows=rows)
