"""What a trunk makes of clouds, as colours: the first three principal components of its tokens are red, green, blue.

N points, G tokens of a cloud, T tokens of all shown clouds, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from isoform.core.domain import Figure
from isoform.core.report.drawing import short
from isoform.core.report.points import MOST, Scene, View, points_figure, thin

if TYPE_CHECKING:
    from isoform.pointcloud.task import PointcloudTask

SHOWN = 12  # clouds
RANGE = (0.15, 0.85)  # of a colour's parts: seen on light and on dark paper
LEVELS = 6  # of each part, where there are more tokens than a view has colours


def feature_figure(task: PointcloudTask, model: nn.Module) -> Figure:
    """Test clouds, every point in the colour of the nearest token; like features have like colours everywhere."""
    rows = task.data.rows["test"]
    chosen = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)
    clouds = [task.sample("test", int(index), None) for index in chosen]
    found = [tokens_of(model, cloud.points) for cloud in clouds]
    colours, share = principal_colours(np.concatenate([states for _, states in found]))
    ends = np.cumsum([len(states) for _, states in found])[:-1]
    names = task.data.records.clouds.names
    views = []
    for k, (cloud, own) in enumerate(zip(clouds, np.split(colours, ends), strict=True)):
        xyz = cloud.points[thin(len(cloud.points), MOST // len(clouds)), :3]
        palette, number = palette_of(own)
        nearest = np.square(xyz[:, None] - found[k][0]).sum(2).argmin(1)
        label = short(_class_of(task, cloud.row) or names[cloud.row], 20)
        views.append(View(xyz, number[nearest], label, k, palette))
    caption = (
        "Features of test clouds behind the trunk: their first three principal components as red, green and blue "
        f"({share:.0%} of the variance); every point has the colour of its nearest patch"
    )
    flat = task.config.data.source == "strokes"
    return points_figure(caption, Scene(views, flat=flat))


def _class_of(task: PointcloudTask, row: int) -> str:
    target = -1 if task.pretrains else int(task.data.targets[row])
    return task.classes[target] if target >= 0 else ""


def tokens_of(model: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centres [G, 3], states [G, D] behind the trunk) of a cloud [N, C], without the class token."""
    cloud = torch.from_numpy(np.ascontiguousarray(points, np.float32))[None]
    with torch.no_grad():
        tokens = model.states(cloud.to(next(model.parameters()).device))
    assert tokens.coords is not None
    keep = slice(tokens.prefix, None)
    valid = slice(None) if tokens.valid is None else tokens.valid[0, keep]
    centres, states = tokens.coords[0, keep][valid], tokens.x[0, keep][valid]
    return centres.cpu().numpy(), states.float().cpu().numpy()


def principal_colours(states: np.ndarray) -> tuple[np.ndarray, float]:
    """(float64 [T, 3] within RANGE, share of the variance) of features [T, D].

    A component's sign is the one in which its largest loading is positive; its 2nd and 98th percentile are the ends.
    """
    centred = states - states.mean(0, dtype=np.float64)
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes[:3], ((0, max(0, 3 - len(axes))), (0, 0)))
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    parts = centred @ axes.T
    low, high = np.percentile(parts, [2, 98], axis=0)
    even = ((parts - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    share = float(np.square(size[:3]).sum() / max(np.square(size).sum(), 1e-30))
    return RANGE[0] + (RANGE[1] - RANGE[0]) * even, share


def palette_of(colours: np.ndarray) -> tuple[list[str], np.ndarray]:
    """("#rrggbb" of at most 256 colours, int64 [T] which of them) of parts [T, 3] between 0 and 1."""
    bytes_ = np.rint(colours * 255).astype(int)
    if len(np.unique(bytes_, axis=0)) > 256:
        bytes_ = np.rint(np.rint(colours * (LEVELS - 1)) / (LEVELS - 1) * 255).astype(int)
    each, number = np.unique(bytes_, axis=0, return_inverse=True)
    return ["#" + "".join(f"{part:02x}" for part in one) for one in each], number.ravel()
