"""What is done to a cloud before the tokeniser: centred, scaled, a fixed number of points drawn, changed at random.

N points, C channels: x, y, z, and features behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from isoform.pointcloud.ops import sample_farthest_points

Scale = Literal["unit", "keep"]
Draw = Literal["farthest", "random", "first"]
Up = Literal["x", "y", "z"]

# Rotations [3, 3] that turn the axis that points upwards in a file into z.
UPRIGHT: Mapping[str, np.ndarray] = {
    "x": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]]),
    "y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]),
    "z": np.eye(3),
}


@dataclass(frozen=True)
class Frame:
    """Where a cloud lay in its file: own = turn (file - centre) / size."""

    centre: np.ndarray  # float64 [3]
    size: float
    turn: np.ndarray  # float64 [3, 3], a rotation

    def into(self, xyz: np.ndarray) -> np.ndarray:
        """float32 [N, 3] from the file's frame; the difference is taken in float64, where large numbers are exact."""
        moved = (np.asarray(xyz, np.float64) - self.centre) / self.size
        turned: np.ndarray = (moved @ self.turn.T).astype(np.float32)
        return turned

    def back(self, xyz: np.ndarray) -> np.ndarray:
        """float64 [N, 3] in the file's frame."""
        moved: np.ndarray = np.asarray(xyz, np.float64) @ self.turn * self.size + self.centre
        return moved


def frame_of(xyz: np.ndarray, scale: Scale = "unit", up: Up = "z") -> Frame:
    """The frame of points [N, 3]: their mean, and with "unit" the largest distance from it (1 where there is none).

    That is ModelNet40's and ShapeNet's normalisation. "keep" leaves the unit of length as it is. `up` is the axis of
    the file that becomes z.
    """
    xyz = np.asarray(xyz, np.float64)
    if not len(xyz):
        return Frame(np.zeros(3), 1.0, UPRIGHT[up])
    centre = xyz.mean(0)
    radius = float(np.sqrt(np.square(xyz - centre).sum(1).max()))
    return Frame(centre, radius if scale == "unit" and radius > 0 else 1.0, UPRIGHT[up])


def upright(xyz: np.ndarray, up: Up) -> np.ndarray:
    """float64 [N, 3] of a file whose axis `up` points upwards, with z upwards."""
    turned: np.ndarray = np.asarray(xyz, np.float64) @ UPRIGHT[up].T
    return turned


def dominated_by_one(xyz: np.ndarray) -> int | None:
    """The index of a point so far away that the others shrink to nothing beside it; None where there is none.

    That is more than 100 times as far from the median point as 99 in 100 others.
    """
    if len(xyz) < 3:
        return None
    apart = np.sqrt(np.square(xyz - np.median(xyz, axis=0)).sum(1))
    farthest = int(apart.argmax())
    others = np.quantile(np.delete(apart, farthest), 0.99)
    return farthest if apart[farthest] > 100 * others and others > 0 else None


def draw_points(
    cloud: np.ndarray, count: int, how: Draw, rng: np.random.Generator | None = None
) -> np.ndarray:
    """int64 [count]: which points of [N, C] stand for a cloud.

    farthest  farthest point sampling from the first point on
    random    without replacement, drawn by `rng`
    first     the first ones, as benchmarks of equal clouds are cut

    Where there are fewer, all of them, then some again: evenly, or drawn by `rng`. Raises ValueError for no points.
    """
    n = len(cloud)
    if n == 0:
        raise ValueError("a cloud without points")
    if n < count:
        again = np.arange(count - n) % n if rng is None else rng.integers(n, size=count - n)
        return np.concatenate([np.arange(n), again])
    if how == "random":
        if rng is None:
            raise ValueError('how = "random" draws from rng')
        return rng.choice(n, count, replace=False)
    if how == "first":
        return np.arange(count)
    xyz = torch.from_numpy(np.ascontiguousarray(cloud[None, :, :3]))
    return sample_farthest_points(xyz, K=count)[1][0].numpy()


@dataclass(frozen=True)
class Augment:
    """Random changes of a training cloud; every draw comes from the generator that is handed in.

    scale   smallest and largest factor, of each axis by itself, or of all (axes = False)
    shift   largest, of each axis
    yaw     largest turn around z either way, degrees               noise  deviation of each coordinate
    normals channels of a normal [first, last), which turn with the points, and which a scale by axes turns inversely
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    yaw: float = 0.0
    noise: float = 0.0
    normals: tuple[int, int] | None = None
    axes: bool = True

    def __call__(self, cloud: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 [N, C], a changed copy."""
        changed = cloud.astype(np.float32, copy=True)
        factor = np.broadcast_to(rng.uniform(*self.scale, size=3 if self.axes else 1), 3)
        turn = turn_around_z(np.deg2rad(rng.uniform(-self.yaw, self.yaw)))
        matrix = turn @ np.diag(factor)
        changed[:, :3] = changed[:, :3] @ matrix.T + rng.uniform(-self.shift, self.shift, 3)
        if self.noise:
            changed[:, :3] += rng.normal(0, self.noise, (len(cloud), 3))
        if self.normals is not None:
            part = slice(*self.normals)
            changed[:, part] = turn_normals(changed[:, part], matrix)
        return changed


def turn_around_z(angle: float) -> np.ndarray:
    """float64 [3, 3], radians."""
    sin, cos = np.sin(angle), np.cos(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


def turn_normals(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Normals [N, 3] of points that a matrix [3, 3] moved: by its inverse transpose, and of length 1 again.

    A normal of length 0 (unknown) stays so.
    """
    moved = normals @ np.linalg.inv(matrix)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.where(length > 0, moved / np.where(length > 0, length, 1), 0)
