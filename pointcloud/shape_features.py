"""What simple methods read of a cloud, or of a point: the features of this domain's baselines.

N points, K neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

from isoform.pointcloud.ops import knn_gather, knn_points

BINS = 16
NEIGHBOURS = 16


def features_of_shape(xyz: np.ndarray) -> np.ndarray:
    """float64 [6 + 3 x 16]: extents, spreads, and histograms of height, distance from the middle and from the axis.

    xyz [N, 3], z upwards; centred on its mean, in units of its largest distance from it.
    """
    own = np.asarray(xyz, np.float64) - np.mean(xyz, axis=0)
    own /= max(float(np.linalg.norm(own, axis=1).max()), 1e-12)
    extent, deviation = np.ptp(own, axis=0), own.std(0)
    shares = [
        np.histogram(values, BINS, span)[0] / len(own)
        for values, span in (
            (own[:, 2], (-1, 1)),
            (np.linalg.norm(own, axis=1), (0, 1)),
            (np.linalg.norm(own[:, :2], axis=1), (0, 1)),
        )
    ]
    return np.concatenate([extent, deviation, *shares])


def features_of_points(xyz: np.ndarray) -> np.ndarray:
    """float32 [N, 7] of points: height above the lowest around, and the shape of the 16 nearest: their normal's slope,
    linearity, planarity, sphericity (Demantke et al. 2011), their vertical extent, and their radius.

    xyz [N, 3], z upwards.
    """
    points = torch.from_numpy(np.asarray(xyz - np.mean(xyz, axis=0), np.float32))[None]
    k = min(NEIGHBOURS, points.shape[1])
    index = knn_points(points, points, K=k).idx
    near = knn_gather(points, index)[0]
    apart = near - near.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(apart.transpose(1, 2) @ apart / k)
    spread = values.clamp(min=0).sqrt().flip(1)
    largest = spread[:, :1].clamp(min=1e-9)
    shape = torch.cat(
        [spread[:, :1] - spread[:, 1:2], spread[:, 1:2] - spread[:, 2:], spread[:, 2:]], 1
    )
    slope = vectors[:, 2, 0].abs()
    tall = near[:, :, 2].amax(1) - near[:, :, 2].amin(1)
    radius = (near - points[0][:, None]).square().sum(2).amax(1).sqrt()
    height = height_above_ground(np.asarray(xyz, np.float64))
    columns = [
        torch.from_numpy(height.astype(np.float32)),
        slope,
        *(shape / largest).T,
        tall,
        radius,
    ]
    return torch.stack(columns, 1).numpy()


def height_above_ground(xyz: np.ndarray, cell: float = 2.0) -> np.ndarray:
    """float64 [N]: above the lowest point of the square of edge `cell` (in the file's unit) that a point lies in."""
    if not len(xyz):
        return np.zeros(0)
    place = np.floor((xyz[:, :2] - xyz[:, :2].min(0)) / cell).astype(np.int64)
    code = place[:, 0] * (int(place[:, 1].max()) + 1) + place[:, 1]
    _, square = np.unique(code, return_inverse=True)
    lowest = np.full(int(square.max()) + 1, np.inf)
    np.minimum.at(lowest, square, xyz[:, 2])
    found: np.ndarray = xyz[:, 2] - lowest[square]
    return found
