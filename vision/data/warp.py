"""Flips, shifts, affine maps and elastic deformation as ONE resampling of the batch.

Each sample's parameters are drawn beforehand from its own generator, so the batch it lands in changes nothing.
Shapes: B samples, C channels, H rows, W columns, P parameters, G control points a side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.vision.config import AugmentConfig
from isoform.vision.data.values import Span


class Warp:
    """Draws and applies the geometric part of an augmentation for images of `size` = (height, width) pixels."""

    def __init__(self, augment: AugmentConfig, size: tuple[int, int], span: Span | None = None):
        self.augment = augment
        self.size = size
        self.fill: float | Tensor = augment.fill
        if span is not None:
            self.fill = span.from_unit(torch.full((len(span.low), 1, 1), augment.fill))
        a = augment
        self.affine = bool(a.degrees or a.translate or a.shear or a.scale != (1.0, 1.0))
        self.shift = a.pad if a.crop == "pad" else 0
        moves = self.shift or a.flip or a.flip_vertical or a.elastic
        self.active = self.affine or bool(moves)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """[P] float32: the 2 x 3 matrix from output to input pixels (origin: centre), then 2 x G x G displacements."""
        u = rng.random(
            9
        ).tolist()  # always nine, so that one switched-off change does not shift the others
        matrix = np.array(self._matrix(u), np.float32)
        if not self.augment.elastic:
            return matrix
        bend = rng.standard_normal(2 * self.augment.elastic_grid**2, dtype=np.float32)
        return np.concatenate([matrix, bend * self.augment.elastic])

    def _matrix(self, u: list[float]) -> list[float]:
        """The matrix row by row, from nine numbers in [0, 1)."""
        a = self.augment
        height, width = self.size
        xx, xy, yx, yy = 1.0, 0.0, 0.0, 1.0
        tx, ty = 0.0, 0.0
        if self.affine:
            angle = math.radians(_around_zero(u[0]) * a.degrees)
            shear = math.tan(math.radians(_around_zero(u[1]) * a.shear))
            least, most = a.scale
            zoom = least * (most / least) ** u[2]
            cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
            xx, xy = cos - shear * sin, sin + shear * cos
            yx, yy = -sin, cos
            tx = _around_zero(u[3]) * a.translate * width
            ty = _around_zero(u[4]) * a.translate * height
        if self.shift:
            tx += math.floor(u[5] * (2 * self.shift + 1)) - self.shift
            ty += math.floor(u[6] * (2 * self.shift + 1)) - self.shift
        mirror_x = -1.0 if u[7] < a.flip else 1.0
        mirror_y = -1.0 if u[8] < a.flip_vertical else 1.0
        return [
            mirror_x * xx,
            mirror_x * xy,
            tx,
            mirror_y * yx,
            mirror_y * yy,
            ty,
        ]

    def __call__(self, image_BCHW: Tensor, params_BP: Tensor) -> Tensor:
        """Float images resampled bilinearly; what comes from outside is `augment.fill` of the way up their span."""
        height, width = self.size
        x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
        y = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
        y = y[:, None]
        matrix = params_BP[:, :6, None, None]
        # Products by hand: a matmul's sum could depend on the batch.
        from_x = matrix[:, 0] * x + matrix[:, 1] * y + matrix[:, 2]
        from_y = matrix[:, 3] * x + matrix[:, 4] * y + matrix[:, 5]
        if self.augment.elastic:
            bend = self._displacements(params_BP[:, 6:])
            from_x = from_x + bend[:, 0]
            from_y = from_y + bend[:, 1]
        grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)
        fill = self.fill
        warped = F.grid_sample(
            image_BCHW - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return warped + fill

    def _displacements(self, bend: Tensor) -> Tensor:
        """[B, 2, H, W] smooth displacements from those of the control points."""
        side = self.augment.elastic_grid
        bend_B2GG = bend.reshape(-1, 2, side, side)
        return F.interpolate(bend_B2GG, self.size, mode="bicubic", align_corners=True)


def _around_zero(u: float) -> float:
    """From [0, 1) to [-1, 1)."""
    return 2 * u - 1
