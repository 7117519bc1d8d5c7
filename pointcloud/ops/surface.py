"""Points on the surface of a mesh, as many on every patch of equal area.

V vertices, F triangles, n points.
"""

from __future__ import annotations

import numpy as np


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points float64 [n, 3], triangle int64 [n], weights float64 [n, 3] of its corners): uniform in area.

    vertices [V, 3], faces [F, 3] of triangles. A face without area gets nothing. Colours or normals of vertices go
    along as (values[faces[triangle]] * weights[..., None]).sum(1). Osada et al. 2002, equation 1. Raises ValueError
    for faces that name no vertex, and for a mesh without area.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(
            f"faces: name vertices {faces.min()} to {faces.max()}, and there are {len(vertices)}"
        )
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2 if len(faces) else np.zeros(0)
    area = np.where(np.isfinite(area), area, 0)
    if not area.sum() > 0:
        raise ValueError(f"a mesh of {len(faces)} faces without area: there is no surface")
    bounds = np.cumsum(area)
    triangle = np.searchsorted(bounds, rng.random(count) * bounds[-1], side="right")
    triangle = np.minimum(triangle, int(np.flatnonzero(area)[-1]))
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], 1)
    points = (vertices[faces[triangle]] * weights[..., None]).sum(1)
    return points, triangle, weights


def triangulate(polygons: list[np.ndarray]) -> np.ndarray:
    """int64 [F, 3]: polygons, each a list of vertex numbers, as fans around their first corner; others are left out."""
    fans = [
        (polygon[0], polygon[i], polygon[i + 1])
        for polygon in polygons
        for i in range(1, len(polygon) - 1)
    ]
    return np.array(fans, np.int64).reshape(-1, 3)
