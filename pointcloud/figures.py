"""The pictures of a point cloud report: clouds and what was said of them, hidden patches drawn again, confusion.

N points, n test clouds whose class is known, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from isoform.core.domain import Figure
from isoform.core.report.classification import calibration_figure, class_table, confusion_figure
from isoform.core.report.drawing import INK, short, to_svg
from isoform.core.supervised.metrics import confusion
from isoform.pointcloud.masks import mask_of
from isoform.pointcloud.pointmae.model import PointMae
from isoform.pointcloud.pointmae.patches import cut_into_patches

if TYPE_CHECKING:
    from isoform.pointcloud.task import PointcloudTask

RIGHT, WRONG, HIDDEN, SHOWN = "#2a9163", "#c43a5e", "#d9822b", "#2f5bd0"
SAMPLES, MISTAKES, DRAWN = 12, 12, 4  # clouds of a picture
VIEW = (np.deg2rad(35), np.deg2rad(20))  # turned around z, then seen from above by

Cell = tuple[np.ndarray, str, Any]  # points [N, 3], caption, colours


def figures(
    task: PointcloudTask, model: nn.Module, outputs: Mapping[str, np.ndarray]
) -> list[Figure]:
    """Pictures of the test split."""
    if task.pretrains:
        return [_reconstructions(task, model)] if len(task.data.rows["test"]) else []
    rows, target, guess = task.data.rows["test"], outputs["target"], task.guess(outputs)
    known = np.flatnonzero(target >= 0)
    if not len(known):
        return []
    rows, target, guess = rows[known], target[known], guess[known]
    said = guess.argmax(1)
    counts = confusion(said, target, len(task.classes))
    chosen = np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int)
    found = [
        Figure(
            "Test clouds, evenly spaced, and what the model says of them",
            to_svg(draw_grid([_cell(task, rows, target, guess, i) for i in chosen])),
        )
    ]
    wrong = np.flatnonzero(said != target)
    if len(wrong):
        surest = wrong[np.argsort(-guess[wrong].max(1), kind="stable")][:MISTAKES]
        cells = [_cell(task, rows, target, guess, i) for i in surest]
        caption = f"The surest of {len(wrong)} mistakes on {len(rows)} test clouds"
        found.append(Figure(caption, to_svg(draw_grid(cells))))
    return [
        *found,
        confusion_figure(counts, task.classes, "clouds"),
        calibration_figure(guess.max(1), said == target),
        class_table(counts, task.classes, "clouds"),
    ]


def _cell(
    task: PointcloudTask, rows: np.ndarray, target: np.ndarray, guess: np.ndarray, i: int
) -> Cell:
    said, true = int(guess[i].argmax()), int(target[i])
    caption = f"{short(task.classes[said], 14)} {guess[i, said]:.0%}"
    if said != true:
        caption += f"\nis {short(task.classes[true], 14)}"
    return task.data.evaluated(int(rows[i]))[:, :3], caption, RIGHT if said == true else WRONG


def _reconstructions(task: PointcloudTask, model: nn.Module) -> Figure:
    """Clouds as they are, what the model sees of them, and what it draws."""
    assert isinstance(model, PointMae)
    count = len(task.data.rows["test"])
    chosen = np.linspace(0, count - 1, min(DRAWN, count)).astype(int)
    batch = task.collate([task.sample("test", int(i), None) for i in chosen])
    device = next(model.parameters()).device
    batch = {name: value.to(device) for name, value in batch.items()}
    with torch.no_grad():
        patches = cut_into_patches(batch["points"], task.config.tokeniser, batch["lengths"])
        mask = mask_of(task.config.mask, batch["noise"], patches.centres)
        drawn = model.draw_masked(patches, mask)
    cells: list[Cell] = []
    for b in range(len(chosen)):
        whole = batch["points"][b, : int(batch["lengths"][b]), :3].cpu().numpy()
        seen = _absolute(patches.points[b, ~mask[b]], patches.centres[b, ~mask[b]])
        made = _absolute(drawn.points[b], patches.centres[b, mask[b]])
        colours = [SHOWN] * len(seen) + [HIDDEN] * len(made)
        cells += [
            (whole, "the cloud", SHOWN),
            (seen, "what the model sees", SHOWN),
            (np.concatenate([seen, made]), "and draws (orange)", colours),
        ]
    hidden = f"{task.config.mask.ratio:.0%}"
    return Figure(
        f"Test clouds with {hidden} of their patches hidden and drawn again",
        to_svg(draw_grid(cells, 3)),
    )


def _absolute(points_GK3: torch.Tensor, centres_G3: torch.Tensor) -> np.ndarray:
    found: np.ndarray = (points_GK3[..., :3] + centres_G3[:, None]).flatten(0, 1).cpu().numpy()
    return found


def draw_grid(cells: Sequence[Cell], columns: int = 4) -> Any:
    """A matplotlib figure of clouds, seen from the side and a little from above; near points are darker."""
    from matplotlib.figure import Figure as Plot

    rows = -(-len(cells) // columns)
    plot = Plot(figsize=(1.9 * columns, 2.0 * rows), layout="constrained")
    places = np.atleast_1d(plot.subplots(rows, columns, squeeze=False)).ravel()
    for place in places:
        place.set_axis_off()
    for place, (points, caption, colours) in zip(places, cells, strict=False):
        across, up, depth = seen_from(points)
        order = np.argsort(depth)
        given = colours if isinstance(colours, str) else np.array(colours)[order]
        near = (depth[order] - depth.min()) / max(float(np.ptp(depth)), 1e-9)
        place.scatter(across[order], up[order], s=3, c=given, alpha=0.25 + 0.6 * near, lw=0)
        place.set_aspect("equal")
        place.set_title(caption, fontsize=8, color=INK, parse_math=False)
    return plot


def seen_from(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(to the right, upwards, towards the eye), each [N]; a flat cloud in x and y is seen from above."""
    if np.ptp(points[:, 2]) < 0.6 * min(np.ptp(points[:, 0]), np.ptp(points[:, 1])):
        return points[:, 0], points[:, 1], points[:, 2]
    turn, above = VIEW
    x = points[:, 0] * np.cos(turn) - points[:, 1] * np.sin(turn)
    y = points[:, 0] * np.sin(turn) + points[:, 1] * np.cos(turn)
    up = points[:, 2] * np.cos(above) + y * np.sin(above)
    return x, up, points[:, 2] * np.sin(above) - y * np.cos(above)
