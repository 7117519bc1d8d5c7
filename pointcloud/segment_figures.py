"""The pictures of classes of points: clouds by their true and by their said classes, and confusion.

N points of a cloud or of the test scans, P classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.classification import class_table, confusion_figure
from isoform.core.report.drawing import short
from isoform.core.report.points import COLOURS, MOST, NONE, Scene, View, points_figure, thin
from isoform.pointcloud.metrics import part_counts

if TYPE_CHECKING:
    from isoform.pointcloud.segment_task import SegmentTask

SHOWN = 6000  # points of a scan
FAINT = f"{NONE}50"  # of points that are right, where the others are to be seen


def figures(task: SegmentTask, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Pictures of the test split; none where no point of it has a class."""
    target, said = outputs["target"], outputs["probability"].argmax(1)
    if not (target >= 0).any():
        return []
    k, part = task.parts("test")[0]
    scan = task.data.scans[k]
    chosen = thin(len(scan.xyz), SHOWN)
    caption = f"{scan.name} by its classes, {len(chosen):,} of {len(scan.xyz):,} points"
    scene = parts_scene([scan.xyz], [target[part]], [said[part]], task.classes, most=SHOWN)
    counts = part_counts(said, target, len(task.classes))
    return [
        points_figure(caption, scene),
        confusion_figure(counts, task.classes, "points"),
        class_table(counts, task.classes, "points"),
    ]


def parts_scene(
    clouds: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    said: Sequence[np.ndarray],
    classes: Sequence[str],
    names: Sequence[str] = (),
    most: int = MOST,
) -> Scene:
    """Each cloud three times: by its true classes, by the said ones, and the points where these differ.

    clouds      [N, 3] each, in any frame          true, said  int [N] each, numbers in `classes`; -1: none
    names       of the clouds, for captions         most        points of a cloud that are shown

    Classes that occur in these clouds have colours, in their order; points that are right, or that nobody can judge,
    are faint in the third view, and others have the colour of their true class.
    """
    seen = [np.unique(np.concatenate([a, b])) for a, b in zip(true, said, strict=True)]
    present = np.unique(np.concatenate(seen))
    present = present[present >= 0]
    colour = np.full(len(classes) + 1, len(present))  # the last is that of -1
    colour[present] = np.arange(len(present))
    most = min(most, MOST // 3 // max(1, len(clouds)))
    palette = [COLOURS[i % len(COLOURS)] for i in range(len(present))]
    views: list[View] = []
    for k, (cloud, a, b) in enumerate(zip(clouds, true, said, strict=True)):
        known = a >= 0
        share = float((a != b)[known].mean()) if known.any() else float("nan")
        wrong = np.where(known & (a != b), a, -1)
        chosen = thin(len(cloud), most)
        xyz = np.asarray(cloud[chosen, :3], np.float64)
        name = f"\n{short(names[k], 20)}" if len(names) else ""
        views += [
            View(xyz, colour[a[chosen]], f"true{name}", k),
            View(xyz, colour[b[chosen]], "said", k),
            View(xyz, colour[wrong[chosen]], f"differs: {share:.1%}", k, [*palette, FAINT]),
        ]
    labels = [short(classes[int(c)], 24) for c in present]
    columns = (3, 1) if len(clouds) == 1 else (6, 3)
    return Scene(views, [*palette, NONE], [*labels, "right, or not judged"], columns)
