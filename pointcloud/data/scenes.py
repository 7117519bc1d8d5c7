"""Made scenes with a class for every point: ground, walls, poles, spheres and noise, at uneven density.

No real scan with labels may be handed on with a package, so a segmentation model is shown on these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Ground = Callable[[np.ndarray, np.ndarray], np.ndarray]  # height over x and y
CLASSES = ("ground", "wall", "pole", "sphere", "noise")


def make_scene(
    rng: np.random.Generator, points: int = 20_000, size: float = 20.0
) -> tuple[np.ndarray, np.ndarray]:
    """(xyz float64 [n, 3] in metres, class int64 [n]) of one scene about `size` metres wide.

    A rolling ground; 3 to 6 walls, 4 to 8 poles and 4 to 8 spheres that stand or hover on it, each at a density of its
    own; a hundredth of the points is noise in the air. As with a scanner in the middle, far points are fewer.
    """
    phase = rng.uniform(0, 2 * np.pi, 4)
    height = rng.uniform(0.1, 0.6)

    def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        waves = np.sin(x / 3 + phase[0]) + np.sin(y / 4 + phase[1]) + np.sin((x + y) / 5 + phase[2])
        found: np.ndarray = height * waves
        return found

    x, y = rng.uniform(-size / 2, size / 2, (2, points // 2))
    parts = [(np.stack([x, y, ground(x, y)], 1), 0)]
    parts += [(_wall(rng, size, ground, points // 16), 1) for _ in range(rng.integers(3, 7))]
    parts += [(_pole(rng, size, ground, points // 40), 2) for _ in range(rng.integers(4, 9))]
    parts += [(_sphere(rng, size, ground, points // 40), 3) for _ in range(rng.integers(4, 9))]
    air = rng.uniform(-size / 2, size / 2, (points // 100, 3))
    air[:, 2] = ground(air[:, 0], air[:, 1]) + rng.uniform(0.5, 6, len(air))
    parts.append((air, 4))
    xyz = np.concatenate([part for part, _ in parts])
    label = np.concatenate([np.full(len(part), code) for part, code in parts])
    xyz += rng.normal(0, 0.02, xyz.shape) * (label != 4)[:, None]
    far = np.linalg.norm(xyz[:, :2], axis=1) / (size / 2)
    kept = rng.random(len(xyz)) < np.clip(1.2 - 0.7 * far, 0.15, 1)
    order = rng.permutation(np.flatnonzero(kept))
    return xyz[order], label[order]


def _place(rng: np.random.Generator, size: float) -> np.ndarray:
    return rng.uniform(-0.4 * size, 0.4 * size, 2)


def _wall(rng: np.random.Generator, size: float, ground: Ground, points: int) -> np.ndarray:
    n = int(points * rng.uniform(0.5, 1.5))
    middle, angle = _place(rng, size), rng.uniform(0, np.pi)
    along = rng.uniform(-1, 1, n) * rng.uniform(1.5, 4)
    x, y = middle[0] + along * np.cos(angle), middle[1] + along * np.sin(angle)
    return np.stack([x, y, ground(x, y) + rng.uniform(0, rng.uniform(2, 4), n)], 1)


def _pole(rng: np.random.Generator, size: float, ground: Ground, points: int) -> np.ndarray:
    n = int(points * rng.uniform(0.5, 1.5))
    middle, angle = _place(rng, size), rng.uniform(0, 2 * np.pi, n)
    radius = rng.uniform(0.06, 0.2)
    x, y = middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)
    return np.stack([x, y, ground(x, y) + rng.uniform(0, rng.uniform(2.5, 6), n)], 1)


def _sphere(rng: np.random.Generator, size: float, ground: Ground, points: int) -> np.ndarray:
    n = int(points * rng.uniform(0.5, 1.5))
    x, y = _place(rng, size)
    radius = rng.uniform(0.3, 0.9)
    z = float(ground(np.array([x]), np.array([y]))[0]) + radius + rng.uniform(0, 1.5)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.array([x, y, z]) + radius * direction
