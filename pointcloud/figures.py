"""The pictures of a point cloud report: clouds and what was said of them, hidden patches drawn again, confusion.

N points, C channels, n test clouds whose class is known, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from isoform.core.domain import Figure
from isoform.core.report.classification import calibration_figure, class_table, confusion_figure
from isoform.core.report.drawing import short
from isoform.core.report.points import COLOURS, MOST, NONE, Scene, View, points_figure, thin
from isoform.core.supervised.metrics import confusion
from isoform.pointcloud.feature_figure import feature_figure
from isoform.pointcloud.pointmae.model import PointMae
from isoform.pointcloud.reconstruct import draw_again

if TYPE_CHECKING:
    from isoform.pointcloud.task import PointcloudTask

RIGHT, WRONG, UNKNOWN = 0, 1, 2  # by number in ANSWERS
ANSWERS = (*COLOURS[:2], NONE)
SEEN, HIDDEN, DRAWN = 0, 1, 2  # in PARTS
PARTS = (COLOURS[0], COLOURS[2], COLOURS[1])
SAMPLES, TRIPLES = 12, 4  # clouds of a picture


def figures(
    task: PointcloudTask, model: nn.Module, outputs: Mapping[str, np.ndarray]
) -> list[Figure]:
    """Pictures of the test split."""
    if not len(task.data.rows["test"]):
        return []
    if task.pretrains:
        assert isinstance(model, PointMae)
        return [reconstruction_figure(task, model), feature_figure(task, model)]
    rows, target, guess = task.data.rows["test"], outputs["target"], task.guess(outputs)
    known = np.flatnonzero(target >= 0)
    if not len(known):
        return []
    rows, target, guess = rows[known], target[known], guess[known]
    said = guess.argmax(1)
    counts = confusion(said, target, len(task.classes))
    chosen = np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int)
    found = [
        points_figure(
            "Test clouds, evenly spaced, and what the model says of them",
            answer_scene(task, rows[chosen], target[chosen], guess[chosen]),
        )
    ]
    wrong = np.flatnonzero(said != target)
    if len(wrong):
        surest = wrong[np.argsort(-guess[wrong].max(1), kind="stable")][:SAMPLES]
        caption = f"The surest of {len(wrong)} mistakes on {len(rows)} test clouds"
        scene = answer_scene(task, rows[surest], target[surest], guess[surest])
        found.append(points_figure(caption, scene))
    return [
        *found,
        confusion_figure(counts, task.classes, "clouds"),
        calibration_figure(guess.max(1), said == target),
        class_table(counts, task.classes, "clouds"),
        feature_figure(task, model),
    ]


def lies_flat(task: PointcloudTask) -> bool:
    """Strokes are written in x and y; z is their ink."""
    return task.config.data.source == "strokes"


def answer_scene(
    task: PointcloudTask, rows: np.ndarray, target: np.ndarray, guess: np.ndarray
) -> Scene:
    """Clouds by their rows in the data [n], true classes [n] (-1: unknown) and probabilities [n, K]."""
    views: list[View] = []
    for row, true, probability in zip(rows.tolist(), target.tolist(), guess, strict=True):
        said = int(probability.argmax())
        caption = f"{short(task.classes[said], 14)} {probability[said]:.0%}"
        answer = UNKNOWN if true < 0 else RIGHT if said == true else WRONG
        if answer == WRONG:
            caption += f"\nis {short(task.classes[true], 14)}"
        points = task.data.evaluated(row)[:, :3]
        points = points[thin(len(points), MOST // len(rows))]
        views.append(View(points, np.full(len(points), answer), caption, frame=len(views)))
    names = ("right", "wrong") if len({int(view.colour[0]) for view in views}) > 1 else ()
    return Scene(views, ANSWERS, names, flat=lies_flat(task))


def reconstruction_figure(task: PointcloudTask, model: PointMae) -> Figure:
    """Clouds as they are, what the model sees of them, and what it draws, side by side."""
    count = len(task.data.rows["test"])
    names = task.data.records.clouds.names
    views: list[View] = []
    for k, index in enumerate(np.linspace(0, count - 1, min(TRIPLES, count)).astype(int)):
        sample = task.sample("test", int(index), None)
        assert sample.noise is not None
        made = draw_again(model, task.config, sample.points, sample.noise)
        xyz = sample.points[:, :3]
        completed = np.concatenate([xyz[made.seen], made.drawn])
        drawn = np.repeat([SEEN, DRAWN], [int(made.seen.sum()), len(made.drawn)])
        shown = made.seen | made.hidden
        whole = np.where(made.seen, SEEN, HIDDEN)[shown]
        views += _few(
            View(xyz[shown], whole, f"original\n{short(names[sample.row], 20)}", k),
            View(xyz[made.seen], whole[made.seen[shown]], "masked", k),
            View(completed, drawn, f"reconstructed\ndistance {made.distance:.3g}", k),
        )
    hidden = f"{task.config.mask.ratio:.0%}"
    caption = f"Test clouds with {hidden} of their patches hidden and drawn again"
    scene = Scene(views, PARTS, ("seen", "hidden", "drawn"), flat=lies_flat(task))
    return points_figure(caption, scene)


def _few(*views: View) -> Sequence[View]:
    """The same with as many points as a page bears."""
    found = []
    for view in views:
        chosen = thin(len(view.points), MOST // len(views) // TRIPLES)
        found.append(View(view.points[chosen], view.colour[chosen], view.caption, view.frame))
    return found
