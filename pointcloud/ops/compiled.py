"""numba kernels for CPUs: farthest points, nearest neighbours, balls. Same indices as the reference, bit for bit.

Neighbours in small clouds are sought among all points, in others by a tree, see tree.py. Distances are summed
coordinate by coordinate in the clouds' own type, without fused operations, so they round as torch's do.

N asking and M answering points, K neighbours, D coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.pointcloud.ops.kernel import kernel
from isoform.pointcloud.ops.tree import insert, search_tree

FEW = 256  # answering points up to which all are asked


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
    _nearest(_arrays(p1), _arrays(p2), n1.numpy(), n2.numpy(), index)
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


@kernel()
def _squared(a: np.ndarray, b: np.ndarray) -> Any:
    total = (a[0] - b[0]) * (a[0] - b[0])
    for axis in range(1, len(a)):
        total = total + (a[axis] - b[axis]) * (a[axis] - b[axis])
    return total


@kernel()
def _nearest(
    a_BND: np.ndarray, m_BMD: np.ndarray, n: np.ndarray, m: np.ndarray, index: np.ndarray
) -> None:
    for b in range(len(index)):
        asking, answering = a_BND[b, : n[b]], m_BMD[b, : m[b]]
        if not len(asking) or not len(answering):
            continue
        plain = len(answering) <= FEW or answering.shape[1] != 3
        if plain or not _finite(asking) or not _finite(answering):
            _nearest_of_all(asking, answering, index[b])
        else:
            search_tree(asking, answering, index[b])


@kernel()
def _finite(points: np.ndarray) -> bool:
    for i in range(points.shape[0]):
        for axis in range(points.shape[1]):
            if not np.isfinite(points[i, axis]):
                return False
    return True


@kernel()
def _nearest_of_all(a: np.ndarray, m: np.ndarray, index: np.ndarray) -> None:
    k = min(index.shape[1], len(m))
    rows = np.ascontiguousarray(m.T)
    apart, distances = np.empty(len(m), a.dtype), np.empty(k, a.dtype)
    for row in range(len(a)):
        for axis in range(len(rows)):  # becomes vector instructions
            x, along = a[row, axis], rows[axis]
            for i in range(len(m)):
                d = x - along[i]
                apart[i] = d * d if axis == 0 else apart[i] + d * d
        found = index[row, :k]
        distances[:] = np.inf
        found[:] = len(m)
        worst = distances[k - 1]
        for i in range(len(m)):
            distance = (
                np.inf if np.isnan(apart[i]) else apart[i]
            )  # the reference sorts NaN to the end
            if distance < worst or found[k - 1] == len(m):
                insert(distances, found, distance, i)
                worst = distances[k - 1]


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
