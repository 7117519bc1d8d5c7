"""The pictures of a segmentation's report: a scan by its true and by its said classes, and confusion.

N points of the test scans, P classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.classification import class_table, confusion_figure
from isoform.core.report.drawing import short, to_svg
from isoform.pointcloud.figures import draw_grid
from isoform.pointcloud.metrics import part_counts

if TYPE_CHECKING:
    from isoform.pointcloud.segment_task import SegmentTask

SHOWN = 3000  # points of a picture
COLOURS = tuple(
    [
        "#8c6d46",
        "#2f5bd0",
        "#c43a5e",
        "#2a9163",
        "#d9822b",
        "#7a4fb5",
        "#3aa6b9",
        "#9aa02c",
        "#d16ba5",
        "#555555",
    ]
)
NONE = "#bbbbbb"  # of a point without a class


def figures(task: SegmentTask, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Pictures of the test split; none where no point of it has a class."""
    target, said = outputs["target"], outputs["probability"].argmax(1)
    if not (target >= 0).any():
        return []
    k, part = task.parts("test")[0]
    rng = np.random.default_rng(0)
    points = part.stop - part.start
    chosen = np.sort(rng.choice(points, min(points, SHOWN), replace=False))
    xyz = task.data.scans[k].xyz[chosen]
    own = (xyz - xyz.mean(0)) / max(float(np.ptp(xyz, axis=0).max()), 1e-9)
    cells = [
        (own, what, [_colour(int(c)) for c in classes[part][chosen]])
        for what, classes in (("true", target), ("said", said))
    ]
    legend = ", ".join(
        f"{short(n, 14)} {COLOURS[i % len(COLOURS)]}" for i, n in enumerate(task.classes)
    )
    counts = part_counts(said, target, len(task.classes))
    caption = (
        f"{task.data.scans[k].name} by its classes, {len(chosen):,} of {points:,} points ({legend})"
    )
    return [
        Figure(caption, to_svg(draw_grid(cells, columns=2))),
        confusion_figure(counts, task.classes, "points"),
        class_table(counts, task.classes, "points"),
    ]


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)] if k >= 0 else NONE
