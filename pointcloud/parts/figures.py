"""The pictures of a part segmentation's report: clouds by their true and their said parts, and a table of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.drawing import short, to_svg
from isoform.pointcloud.figures import draw_grid
from isoform.pointcloud.segment_figures import COLOURS, NONE

if TYPE_CHECKING:
    from isoform.pointcloud.parts.task import Judged, PartTask

CLOUDS, POINTS = 8, 1500  # of a picture, and of each of its clouds


def figures(task: PartTask, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Pictures of the test split; none where no point of it has a part."""
    clouds = [c for c in task.clouds_of(outputs) if (c.target >= 0).any()]
    if not clouds:
        return []
    found = [_table(task, clouds)]
    if task.official:  # which judged drawn points alone
        return found
    cells = []
    each = task.mious(clouds)[:, 0]
    for k in np.linspace(0, len(clouds) - 1, min(CLOUDS, len(clouds))).astype(int):
        cloud = clouds[k]
        xyz = task.data.points(cloud.row)
        shown = np.sort(np.random.default_rng(0).permutation(len(xyz))[:POINTS])
        name = short(task.table.shapes[task.data.clouds.targets[cloud.row]], 14)
        for what, parts in (("true", cloud.target), (f"said, mIoU {each[k]:.2f}", cloud.guess)):
            colours = _colours(task, cloud, parts[shown])
            cells.append((xyz[shown], f"{name}: {what}", colours))
    caption = "Test clouds, evenly spaced, by their true parts and by what the model says"
    return [Figure(caption, to_svg(draw_grid(cells))), *found]


def _colours(task: PartTask, cloud: Judged, parts: np.ndarray) -> list[str]:
    """The first part of each class has the first colour."""
    first = int(task.table.first[task.data.clouds.targets[cloud.row]])
    return [COLOURS[(k - first) % len(COLOURS)] if k >= 0 else NONE for k in parts.tolist()]


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
