"""numba kernels for CPUs: farthest points, nearest neighbours, balls. Same indices as the reference, bit for bit.

Neighbours are sought in a grid of cubes (Bentley & Friedman 1979): the cubes around a point in growing shells, until no
point of a farther one can be nearer. Points beyond the grid's box, of which there are few, lie in its border cubes.
Distances are summed coordinate by coordinate in the clouds' own type, without fused operations, so they round as
torch's do.

N asking and M answering points, K neighbours, D coordinates, C cubes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from torch import Tensor

FEW = 256  # answering points up to which all are asked
A_CUBE = 6  # points a cube, on average, that the grid aims at

F = TypeVar("F", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[F], F]:
    """Compiled when first called, and kept on disk where that is possible."""
    return cast(Callable[[F], F], numba.njit(cache=True, nogil=True, **options))


def farthest(
    points: Tensor,
    n: Tensor,
    count: Tensor,
    start: Tensor,
    most: int,
    origin_rule: float | None,
    cuda_ties: bool,
) -> Tensor:
    """int64 [B, most], see sample.py."""
    clouds_BDN = np.ascontiguousarray(_arrays(points).transpose(0, 2, 1))
    real_BN = np.arange(points.shape[1]) < n.numpy()[:, None]
    if origin_rule is not None:
        real_BN &= _squared_norms(clouds_BDN) > origin_rule
    # What is below all distances stays there, and is never the farthest.
    nearest_BN = np.where(real_BN, np.inf, -1).astype(clouds_BDN.dtype)
    index = np.full((len(points), most), -1, np.int64)
    last_B = start.numpy().copy()
    for k in range(most if points.shape[1] else 0):
        index[:, k] = last_B
        if k + 1 < most:
            _shorten(clouds_BDN, last_B, nearest_BN)
            last_B = nearest_BN.argmax(1)
            if cuda_ties:
                _resolve_ties(nearest_BN, n.numpy(), last_B)
    index[np.arange(most) >= count.numpy()[:, None]] = -1
    return torch.from_numpy(index)


def nearest(p1: Tensor, p2: Tensor, n1: Tensor, n2: Tensor, k: int) -> Tensor:
    """int64 [B, N, K], see neighbours.py."""
    index = np.full((*p1.shape[:2], k), -1, np.int64)
    for b, (asking, answering) in enumerate(zip(_arrays(p1), _arrays(p2), strict=True)):
        a, m = asking[: int(n1[b])], answering[: int(n2[b])]
        if not len(a) or not len(m):
            continue
        if len(m) <= FEW or m.shape[1] != 3 or not np.isfinite(m).all() or not np.isfinite(a).all():
            _nearest_of_all(a, m, index[b])
        else:
            grid = _Grid(m)
            _nearest_in_grid(a, m, *grid.parts, index[b])
    return torch.from_numpy(index)


def ball(p1: Tensor, p2: Tensor, n1: Tensor, n2: Tensor, k: int, radius: float) -> Tensor:
    """int64 [B, N, K], see neighbours.py."""
    index = np.full((*p1.shape[:2], k), -1, np.int64)
    for b, (asking, answering) in enumerate(zip(_arrays(p1), _arrays(p2), strict=True)):
        a, m = asking[: int(n1[b])], answering[: int(n2[b])]
        limit = m.dtype.type(radius) * m.dtype.type(radius)
        if len(a) and len(m):
            _ball(a, m, limit, index[b])
    return torch.from_numpy(index)


def _arrays(clouds: Tensor) -> np.ndarray:
    return np.ascontiguousarray(clouds.detach().numpy())


class _Grid:
    """Points [M, 3] sorted by the cube that they lie in; the box holds 98 % of them along each axis."""

    def __init__(self, points: np.ndarray) -> None:
        exact = points.astype(np.float64)
        cut = np.partition(exact, (len(exact) // 100, len(exact) - 1 - len(exact) // 100), axis=0)
        low, high = cut[len(exact) // 100], cut[len(exact) - 1 - len(exact) // 100]
        extent = np.maximum(high - low, 1e-30)
        cubes = max(1, len(exact) // A_CUBE)
        size = float(np.cbrt(np.prod(np.maximum(extent, extent.max() * 1e-3)) / cubes))
        size = max(size, float(extent.max()) / 1024, 1e-30)
        shape = np.minimum(np.ceil(extent / size), 1024).astype(np.int64).clip(1)
        order, bounds = _sort_into_cubes(exact, low, size, shape)
        self.parts = (low, size, shape, order, bounds)


@kernel()
def _cube_of(value: float, low: float, size: float, count: int) -> int:
    place = np.floor((value - low) / size)
    return int(min(max(place, 0.0), count - 1.0))


@kernel()
def _sort_into_cubes(
    points: np.ndarray, low: np.ndarray, size: float, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(order [M], bounds [C + 1]): the points of cube c are order[bounds[c]:bounds[c + 1]], ascending."""
    cube = np.empty(len(points), np.int64)
    bounds = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for i in range(len(points)):
        x = _cube_of(points[i, 0], low[0], size, shape[0])
        y = _cube_of(points[i, 1], low[1], size, shape[1])
        z = _cube_of(points[i, 2], low[2], size, shape[2])
        cube[i] = (x * shape[1] + y) * shape[2] + z
        bounds[cube[i] + 1] += 1
    for c in range(1, len(bounds)):
        bounds[c] += bounds[c - 1]
    filled = bounds[:-1].copy()
    order = np.empty(len(points), np.int64)
    for i in range(len(points)):
        order[filled[cube[i]]] = i
        filled[cube[i]] += 1
    return order, bounds


@kernel()
def _squared(a: np.ndarray, b: np.ndarray) -> Any:
    total = (a[0] - b[0]) * (a[0] - b[0])
    for axis in range(1, len(a)):
        total = total + (a[axis] - b[axis]) * (a[axis] - b[axis])
    return total


@kernel()
def _insert(distances: np.ndarray, index: np.ndarray, held: int, distance: Any, i: int) -> int:
    """Puts a neighbour at its place among the `held` nearest so far; returns how many are held then."""
    k = len(index)
    if held == k:
        last = distances[k - 1]
        if distance > last or (distance == last and i > index[k - 1]):
            return held
        place = k - 1
    else:
        place = held
        held += 1
    while place > 0:
        before = distances[place - 1]
        if before < distance or (before == distance and index[place - 1] < i):
            break
        distances[place] = before
        index[place] = index[place - 1]
        place -= 1
    distances[place] = distance
    index[place] = i
    return held


@kernel()
def _nearest_of_all(a: np.ndarray, m: np.ndarray, index: np.ndarray) -> None:
    k = index.shape[1]
    distances = np.empty(k, a.dtype)
    for row in range(len(a)):
        held = 0
        for i in range(len(m)):
            distance = _squared(a[row], m[i])
            if held < k or distance <= distances[k - 1]:
                held = _insert(distances, index[row], held, distance, i)


@kernel()
def _nearest_in_grid(
    a: np.ndarray,
    m: np.ndarray,
    low: np.ndarray,
    size: float,
    shape: np.ndarray,
    order: np.ndarray,
    bounds: np.ndarray,
    index: np.ndarray,
) -> None:
    k = min(index.shape[1], len(m))
    distances = np.empty(k, a.dtype)
    most = max(shape[0], shape[1], shape[2])
    sorted_m = np.empty_like(m)
    for place in range(len(order)):
        sorted_m[place] = m[order[place]]
    for row in range(len(a)):
        x0, y0, z0 = a[row, 0], a[row, 1], a[row, 2]
        cx = _cube_of(np.float64(x0), low[0], size, shape[0])
        cy = _cube_of(np.float64(y0), low[1], size, shape[1])
        cz = _cube_of(np.float64(z0), low[2], size, shape[2])
        held = 0
        nearest_k = index[row, :k]
        for shell in range(most + 1):
            for x in range(max(cx - shell, 0), min(cx + shell, shape[0] - 1) + 1):
                for y in range(max(cy - shell, 0), min(cy + shell, shape[1] - 1) + 1):
                    rim = abs(x - cx) == shell or abs(y - cy) == shell
                    step = 1 if rim or shell == 0 else 2 * shell
                    for z in range(cz - shell, cz + shell + 1, step):
                        if z < 0 or z >= shape[2]:
                            continue
                        cube = (x * shape[1] + y) * shape[2] + z
                        for place in range(bounds[cube], bounds[cube + 1]):
                            dx = x0 - sorted_m[place, 0]
                            dy = y0 - sorted_m[place, 1]
                            dz = z0 - sorted_m[place, 2]
                            distance = dx * dx + dy * dy + dz * dz
                            if held < k or distance <= distances[k - 1]:
                                held = _insert(distances, nearest_k, held, distance, order[place])
            # What is left lies `shell` cubes away or more, but for the rounding of where a cube ends.
            reach = (shell - 1e-3) * size
            if held == k and shell > 0 and distances[k - 1] < reach * reach:
                break


@kernel()
def _ball(a: np.ndarray, m: np.ndarray, limit: Any, index: np.ndarray) -> None:
    for row in range(len(a)):
        held = 0
        for i in range(len(m)):
            if _squared(a[row], m[i]) < limit:
                index[row, held] = i
                held += 1
                if held == index.shape[1]:
                    break


@kernel()
def _squared_norms(clouds_BDN: np.ndarray) -> np.ndarray:
    """[B, N]"""
    found = np.empty((clouds_BDN.shape[0], clouds_BDN.shape[2]), clouds_BDN.dtype)
    origin = np.zeros(clouds_BDN.shape[1], clouds_BDN.dtype)
    for b in range(found.shape[0]):
        for i in range(found.shape[1]):
            found[b, i] = _squared(clouds_BDN[b, :, i], origin)
    return found


@kernel()
def _shorten(clouds_BDN: np.ndarray, last_B: np.ndarray, nearest_BN: np.ndarray) -> None:
    """nearest = min(nearest, squared distance to the point `last`) in every cloud."""
    for b in range(len(last_B)):
        if clouds_BDN.shape[1] == 3:
            x, y, z = clouds_BDN[b, 0], clouds_BDN[b, 1], clouds_BDN[b, 2]
            _shorten_3d(x, y, z, last_B[b], nearest_BN[b])
            continue
        for i in range(nearest_BN.shape[1]):
            distance = _squared(clouds_BDN[b, :, i], clouds_BDN[b, :, last_B[b]])
            nearest_BN[b, i] = min(distance, nearest_BN[b, i])


@kernel()
def _shorten_3d(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, last: int, nearest: np.ndarray
) -> None:
    x0, y0, z0 = x[last], y[last], z[last]
    for i in range(len(nearest)):  # becomes vector instructions
        dx, dy, dz = x[i] - x0, y[i] - y0, z[i] - z0
        distance = dx * dx + dy * dy + dz * dz
        before = nearest[i]
        nearest[i] = distance if distance < before else before


@kernel()
def _resolve_ties(nearest_BN: np.ndarray, n: np.ndarray, last_B: np.ndarray) -> None:
    """Of equally far points the one that the threads of the CUDA kernel keep; see sample.py."""
    for b in range(len(last_B)):
        bits = 0
        while 2 << bits <= min(n[b], 512):
            bits += 1
        best = nearest_BN[b, last_B[b]]
        for i in range(n[b] if best >= 0 else 0):
            lower = _place_of(i, bits) < _place_of(last_B[b], bits)
            if lower and nearest_BN[b, i] == best:
                last_B[b] = i


@kernel()
def _place_of(index: int, bits: int) -> int:
    """Among 2**bits threads of which t and t + T/2 are compared first, then t and t + T/4: the bits of t reversed."""
    place = 0
    for bit in range(bits):
        place = 2 * place + ((index >> bit) & 1)
    return place
