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


class Warp:
    """Draws and applies the geometric part of an augmentation for images of `size` = (height, width) pixels."""

    def __init__(self, augment: AugmentConfig, size: tuple[int, int]):
        self.augment, self.size = augment, size
        a = augment
        self.affine = bool(a.degrees or a.translate or a.shear or a.scale != (1.0, 1.0))
        self.shift = a.pad if a.crop == "pad" else 0
        self.active = self.affine or bool(self.shift or a.flip or a.flip_vertical or a.elastic)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """[P] float32: the 2 x 3 matrix from output to input pixels (origin: centre), then 2 x G x G displacements."""
        a, (height, width) = self.augment, self.size
        u = rng.random(9).tolist()  # always nine, so that one switched-off change does not shift the others
        xx, xy, yx, yy, tx, ty = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
        if self.affine:
            angle = math.radians((2 * u[0] - 1) * a.degrees)
            shear = math.tan(math.radians((2 * u[1] - 1) * a.shear))
            zoom = a.scale[0] * (a.scale[1] / a.scale[0]) ** u[2]
            cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
            xx, xy, yx, yy = cos - shear * sin, sin + shear * cos, -sin, cos
            tx, ty = (2 * u[3] - 1) * a.translate * width, (2 * u[4] - 1) * a.translate * height
        if self.shift:
            tx += math.floor(u[5] * (2 * self.shift + 1)) - self.shift
            ty += math.floor(u[6] * (2 * self.shift + 1)) - self.shift
        mirror_x = -1.0 if u[7] < a.flip else 1.0
        mirror_y = -1.0 if u[8] < a.flip_vertical else 1.0
        matrix = [mirror_x * xx, mirror_x * xy, tx, mirror_y * yx, mirror_y * yy, ty]
        if not a.elastic:
            return np.array(matrix, np.float32)
        bend = rng.standard_normal(2 * a.elastic_grid**2, dtype=np.float32) * a.elastic
        return np.concatenate([np.array(matrix, np.float32), bend])

    def __call__(self, image_BCHW: Tensor, params_BP: Tensor) -> Tensor:
        """Float images resampled bilinearly; what comes from outside the image has the value `augment.fill`."""
        height, width = self.size
        x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
        y = (torch.arange(height, dtype=torch.float32) - (height - 1) / 2)[:, None]
        m = params_BP[:, :6, None, None]
        from_x = m[:, 0] * x + m[:, 1] * y + m[:, 2]  # products by hand: a matmul's sum could depend on the batch
        from_y = m[:, 3] * x + m[:, 4] * y + m[:, 5]
        if self.augment.elastic:
            g = self.augment.elastic_grid
            bend = params_BP[:, 6:].reshape(-1, 2, g, g)
            bend = F.interpolate(bend, self.size, mode="bicubic", align_corners=True)
            from_x, from_y = from_x + bend[:, 0], from_y + bend[:, 1]
        grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)
        fill = self.augment.fill
        warped = F.grid_sample(image_BCHW - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return warped + fill
