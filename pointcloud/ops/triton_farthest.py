"""Farthest point sampling: one program a cloud, whose points compete for the next place in every step.

Legend: B clouds, N points, D coordinates. `nearest` [B, N] is the squared distance from every point to those that were
chosen: at first +inf, or -1 where a point must never be chosen. `order` [B, N] decides between equally far points, the
lowest first; None: their indices do.

Of distance and order one integer is made, so that a single maximum finds the farthest point and resolves ties: floats
that aren't negative are ordered as their bits are. What isn't a number is above all others, as in the reference.

Nothing may be fused here (`enable_fp_fusion=False`): distances are rounded after every operation, as torch's are.
"""

import triton
import triton.language as tl

INFINITE = tl.constexpr(0x7F800000)  # the bits of +inf
LAST = tl.constexpr(0x7FFFFFFF)


@triton.jit
def shortened(nearest, distance):
    """The smaller one; what isn't a number stays, and so does -1."""
    taken = (distance < nearest) | ((distance != distance) & (nearest >= 0))
    return tl.where(taken, distance, nearest)


@triton.jit
def rank_of(nearest, order):
    """An integer that is the greater, the farther a point is; negative where it must not be chosen."""
    bits = tl.where(nearest == nearest, nearest, float("nan")).to(tl.int32, bitcast=True)
    return (bits.to(tl.int64) << 32) + (LAST - order)


@triton.jit
def point_of(best, N):
    """The index of the point of highest rank; 0 where none may be chosen, or its distance isn't a number."""
    last = (LAST - (best & LAST)) % N
    return tl.where((best >= 0) & ((best >> 32) <= INFINITE), last, 0)


@triton.jit
def order_of(order, b, n, N):
    """What decides between equally far points."""
    found = n
    if order is not None:
        found = tl.load(order + b * N + n, mask=n < N, other=0)
    return found


@triton.jit
def unfilled(index, first, most):
    """-1 in the places from `first` to `most`."""
    for step in range(first, most):
        tl.store(index + step, -1)


@triton.jit
def farthest_kernel(
    points,
    nearest,
    order,
    start,
    count,
    index,
    N,
    most,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Up to BLOCK points of at most 3 coordinates: they and their distances stay in registers."""
    b = tl.program_id(0).to(tl.int64)
    cloud = points + b * N * D
    index += b * most
    n = tl.arange(0, BLOCK)
    there = n < N
    x = tl.load(cloud + n * D, mask=there, other=0.0)
    y, z = x, x
    if D > 1:
        y = tl.load(cloud + n * D + 1, mask=there, other=0.0)
    if D > 2:
        z = tl.load(cloud + n * D + 2, mask=there, other=0.0)
    near = tl.load(nearest + b * N + n, mask=there, other=-1.0)
    place = order_of(order, b, n, N)
    chosen = tl.load(count + b)
    last = tl.load(start + b)
    for step in range(0, chosen):
        tl.store(index + step, last)
        apart = x - tl.load(cloud + last * D)
        distance = apart * apart
        if D > 1:
            apart = y - tl.load(cloud + last * D + 1)
            distance += apart * apart
        if D > 2:
            apart = z - tl.load(cloud + last * D + 2)
            distance += apart * apart
        near = shortened(near, distance)
        last = point_of(tl.max(rank_of(near, place), 0), N)
    unfilled(index, chosen, most)


@triton.jit
def farthest_blocks_kernel(
    points,
    nearest,
    order,
    start,
    count,
    index,
    N,
    most,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Any number of points: each step reads them a block at a time, and keeps their distances in `nearest`."""
    b = tl.program_id(0).to(tl.int64)
    cloud = points + b * N * D
    index += b * most
    chosen = tl.load(count + b)
    last = tl.load(start + b)
    for step in range(0, chosen):
        tl.store(index + step, last)
        highest = tl.full([BLOCK], -1, tl.int64)
        for first in range(0, N, BLOCK):
            n = first + tl.arange(0, BLOCK)
            there = n < N
            distance = tl.zeros([BLOCK], tl.float32)
            for axis in tl.static_range(D):
                along = tl.load(cloud + n * D + axis, mask=there, other=0.0)
                apart = along - tl.load(cloud + last * D + axis)
                distance += apart * apart
            at = nearest + b * N + n
            near = shortened(tl.load(at, mask=there, other=-1.0), distance)
            tl.store(at, near, mask=there)
            highest = tl.maximum(highest, rank_of(near, order_of(order, b, n, N)))
        last = point_of(tl.max(highest, 0), N)
    unfilled(index, chosen, most)
