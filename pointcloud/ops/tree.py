"""Nearest neighbours by a k-d tree (Friedman, Bentley & Finkel 1977), in numba: the reference's indices, bit for bit.

The tree is complete: all leaves lie at one depth, and leaf j of 2**L holds the points from j M / 2**L on, so that no
links are kept. A node knows the tight box of its points and the lowest of their indices. The distance to a box is
rounded as that to a point is, coordinate by coordinate and without fused operations, and rounding keeps order: it is
never above the computed distance to a point inside. So nothing nearer is ever passed over, and of equally near points
that of the lowest index is found, however many lie in one place.

N asking and M answering points, K neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isoform.pointcloud.ops.kernel import kernel

A_LEAF = 8  # points of a leaf, at most


@kernel()
def search_tree(a: np.ndarray, m: np.ndarray, index: np.ndarray) -> None:
    """Writes the indices [N, K] of the neighbours of a [N, 3] in m [M, 3], M > 0 and all finite; nearest first."""
    rows, order, boxes, lowest = _build(m)
    inner = len(boxes) // 2
    leaves = inner + 1
    k = min(index.shape[1], len(m))
    distances = np.empty(k, a.dtype)
    nodes, bounds = np.empty(64, np.int64), np.empty(64, a.dtype)
    for row in range(len(a)):
        x, y, z = a[row, 0], a[row, 1], a[row, 2]
        found = index[row, :k]
        distances[:] = np.inf
        found[:] = len(m)
        worst, last = distances[k - 1], found[k - 1]
        nodes[0], bounds[0], waiting = 0, 0, 1
        while waiting:
            waiting -= 1
            node, bound = nodes[waiting], bounds[waiting]
            while node < inner and _may_hold(bound, lowest[node], worst, last):
                near, far = 2 * node + 1, 2 * node + 2
                bound, beyond = _to_box(boxes[near], x, y, z), _to_box(boxes[far], x, y, z)
                if beyond < bound or (beyond == bound and lowest[far] < lowest[near]):
                    near, far = far, near
                    bound, beyond = beyond, bound
                if _may_hold(beyond, lowest[far], worst, last):
                    nodes[waiting], bounds[waiting] = far, beyond
                    waiting += 1
                node = near
            if not _may_hold(bound, lowest[node], worst, last):
                continue
            leaf = node - inner
            for place in range(leaf * len(m) // leaves, (leaf + 1) * len(m) // leaves):
                dx, dy, dz = x - rows[0, place], y - rows[1, place], z - rows[2, place]
                distance = dx * dx + dy * dy + dz * dz
                if _may_hold(distance, order[place], worst, last):
                    insert(distances, found, distance, order[place])
                    worst, last = distances[k - 1], found[k - 1]


@kernel(inline="always")
def _may_hold(distance: Any, lowest: int, worst: Any, last: int) -> bool:
    """Whether what is so far away, with so low an index, comes before the last neighbour so far."""
    return distance < worst or (distance == worst and lowest < last)


@kernel(inline="always")
def _to_box(box: np.ndarray, x: Any, y: Any, z: Any) -> Any:
    """The squared distance to a box [6], 0 inside."""
    dx = max(box[0] - x, x - box[3], x - x)
    dy = max(box[1] - y, y - box[4], y - y)
    dz = max(box[2] - z, z - box[5], z - z)
    return dx * dx + dy * dy + dz * dz


@kernel()
def insert(distances: np.ndarray, index: np.ndarray, distance: Any, i: int) -> None:
    """Puts a neighbour that comes before the last one at its place among the K."""
    place = len(index) - 1
    while place > 0:
        before = distances[place - 1]
        if before < distance or (before == distance and index[place - 1] < i):
            break
        distances[place] = before
        index[place] = index[place - 1]
        place -= 1
    distances[place] = distance
    index[place] = i


@kernel()
def _build(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(coordinates [3, M] and indices [M] by leaf, boxes [nodes, 6] from low to high, lowest index [nodes])."""
    count = len(points)
    depth = 0
    while (count - 1) >> depth >= A_LEAF:
        depth += 1
    rows, order = np.ascontiguousarray(points.T), np.arange(count)
    boxes = np.empty((2 ** (depth + 1) - 1, 6), points.dtype)
    lowest = np.empty(len(boxes), np.int64)
    for axis in range(3):
        boxes[0, axis], boxes[0, axis + 3] = rows[axis].min(), rows[axis].max()
    for level in range(depth):
        for j in range(1 << level):
            node = (1 << level) - 1 + j
            extent = boxes[node, 3:] - boxes[node, :3]
            axis = int(np.argmax(extent))
            middle = (2 * j + 1) * count >> (level + 1)
            if extent[axis] > 0:
                _halve(rows, order, axis, j * count >> level, (j + 1) * count >> level, middle)
            left, right = boxes[2 * node + 1], boxes[2 * node + 2]
            left[:], right[:] = boxes[node], boxes[node]
            left[3 + axis] = right[axis] = rows[axis, middle]
    # The boxes so far were those of the cuts; from the leaves upwards they become tight.
    for node in range(len(boxes) - 1, -1, -1):
        box = boxes[node]
        j = node - len(boxes) // 2
        if j >= 0:
            _tighten(rows, j * count >> depth, (j + 1) * count >> depth, box)
            lowest[node] = order[j * count >> depth : (j + 1) * count >> depth].min()
            continue
        left, right = boxes[2 * node + 1], boxes[2 * node + 2]
        for axis in range(3):
            box[axis] = min(left[axis], right[axis])
            box[3 + axis] = max(left[3 + axis], right[3 + axis])
        lowest[node] = min(lowest[2 * node + 1], lowest[2 * node + 2])
    return rows, order, boxes, lowest


@kernel()
def _tighten(rows: np.ndarray, start: int, end: int, box: np.ndarray) -> None:
    for axis in range(3):
        low = high = rows[axis, start]
        for place in range(start + 1, end):
            low, high = min(low, rows[axis, place]), max(high, rows[axis, place])
        box[axis], box[3 + axis] = low, high


@kernel()
def _halve(
    rows: np.ndarray, order: np.ndarray, axis: int, start: int, end: int, middle: int
) -> None:
    """Hoare's selection: what lies below the middle place is no greater along the axis, what lies above no less."""
    key = rows[axis]
    first, last = start, end - 1
    while first < last:
        a, b, c = key[first], key[middle], key[last]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = first, last
        while i <= j:
            while key[i] < pivot:
                i += 1
            while pivot < key[j]:
                j -= 1
            if i <= j:
                for row in range(3):
                    rows[row, i], rows[row, j] = rows[row, j], rows[row, i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if j < middle:
            first = i
        if middle < i:
            last = j
