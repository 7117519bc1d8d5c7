"""Nearest neighbours, and the gradients of their distances without atomic additions.

Legend: B clouds, N asking and M answering points, K neighbours, D coordinates. Points pass by a tile at a time, and the
K nearest of each row stay. Of a squared distance and an index one integer is made: floats that aren't negative are
ordered as their bits are, so the smaller integer is the nearer point, of equally near ones that of the lower index.
What isn't a number comes last, as in the reference's sort.

Nothing may be fused here (`enable_fp_fusion=False`): distances are rounded after every operation, as torch's are.
"""

import triton
import triton.language as tl

NEVER = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # behind every neighbour
LOW = tl.constexpr(0xFFFFFFFF)


@triton.jit
def rank_of(distance, m):
    """An integer that is the smaller, the nearer a point is."""
    bits = tl.where(distance == distance, distance, float("nan")).to(tl.int32, bitcast=True)
    return (bits.to(tl.int64) << 32) + m


@triton.jit
def kept_nearest(held, ranks):
    """The smallest of `held` [N, K] and of a tile's `ranks` [N, M], in no order; all are different.

    One pass replaces at most one neighbour of each row, by the nearest of the tile that comes before its last.
    """
    worst = tl.max(held, 1)
    least = tl.min(ranks, 1)
    while tl.max((least < worst).to(tl.int32), 0) > 0:
        replaced = (held == worst[:, None]) & (least < worst)[:, None]
        held = tl.where(replaced, least[:, None], held)
        ranks = tl.where(ranks == least[:, None], NEVER, ranks)
        worst = tl.max(held, 1)
        least = tl.min(ranks, 1)
    return held


@triton.jit
def nearest_kernel(
    asking,
    answering,
    n_asking,
    n_answering,
    dists,
    index,
    N,
    M,
    K,
    tiles,
    D: tl.constexpr,
    KEPT: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_M: tl.constexpr,
):
    """One program: TILE_N points and the K <= KEPT nearest to each, nearest first. Writes dists and index."""
    pid = tl.program_id(0)
    b = (pid // tiles).to(tl.int64)
    first = pid % tiles * TILE_N
    n = first + tl.arange(0, TILE_N)
    there = n < N
    own = asking + b * N * D + n * D
    others = answering + b * M * D
    n_real = tl.load(n_asking + b)
    end = tl.where(first < n_real, tl.load(n_answering + b), 0)
    place = tl.arange(0, KEPT).to(tl.int64)
    # Places that nothing fills are all different; those behind the K-th are before every neighbour, and so stay.
    empty = tl.where(place < K, NEVER - 1 - place, -1 - place)
    held = tl.zeros([TILE_N, KEPT], tl.int64) + empty[None, :]
    nearest = tl.full(
        [TILE_N, TILE_M], NEVER, tl.int64
    )  # of one neighbour alone, by columns of the tiles
    for begin in range(0, end, TILE_M):
        m = begin + tl.arange(0, TILE_M)
        real = m < end
        distance = tl.zeros([TILE_N, TILE_M], tl.float32)
        for axis in tl.static_range(D):
            here = tl.load(own + axis, mask=there, other=0.0)
            along = tl.load(others + m * D + axis, mask=real, other=0.0)
            apart = here[:, None] - along[None, :]
            distance += apart * apart
        ranks = tl.where(real[None, :], rank_of(distance, m[None, :]), NEVER)
        if KEPT == 1:
            nearest = tl.minimum(nearest, ranks)
        else:
            held = kept_nearest(held, ranks)
    if KEPT == 1:
        held = tl.min(nearest, 1)[:, None]
    held = tl.where(place[None, :] < K, held, NEVER)
    row = (b * N + n) * K
    for k in range(0, K):
        least = tl.min(held, 1)
        held = tl.where(held == least[:, None], NEVER, held)
        found = (k < end) & (n < n_real)
        distance = (least >> 32).to(tl.int32).to(tl.float32, bitcast=True)
        tl.store(dists + row + k, tl.where(found, distance, 0.0), mask=there)
        tl.store(index + row + k, tl.where(found, least & LOW, -1), mask=there)


@triton.jit
def gradient_kernel(
    own,
    others,
    d_dists,
    index,
    firsts,
    entries,
    d_own,
    N,
    M,
    K,
    tiles,
    D: tl.constexpr,
    DIM: tl.constexpr,
    TILE: tl.constexpr,
):
    """The gradient of squared distances in TILE points of `own` [B, N, D], each summed by one lane in a fixed order.

    Of the asking points (`entries` is None) neighbour k of point n is entry n K + k of `index`. Of the answering ones
    `entries` names, point after point, where it is a neighbour, and `firsts` [B, N + 1] where its own begin.
    """
    pid = tl.program_id(0)
    b = (pid // tiles).to(tl.int64)
    n = pid % tiles * TILE + tl.arange(0, TILE)
    there = n < N
    dim = tl.arange(0, DIM)
    inside = there[:, None] & (dim < D)[None, :]
    own_at = (b * N + n)[:, None] * D + dim[None, :]
    here = tl.load(own + own_at, mask=inside, other=0.0)
    if entries is None:
        begin, end = n * K, n * K + K
        of_cloud = b * N * K
    else:
        begin = tl.load(firsts + b * (N + 1) + n, mask=there, other=0)
        end = tl.load(firsts + b * (N + 1) + n + 1, mask=there, other=0)
        of_cloud = b * M * K
    total = tl.zeros([TILE, DIM], tl.float32)
    for step in range(0, tl.max(end - begin, 0)):
        entry = begin + step
        used = there & (entry < end)
        if entries is None:
            partner = tl.load(index + of_cloud + entry, mask=used, other=-1)
            used = used & (partner >= 0)
        else:
            entry = tl.load(entries + of_cloud + entry, mask=used, other=0)
            partner = entry // K
        weight = tl.load(d_dists + of_cloud + entry, mask=used, other=0.0)
        at = (b * M + partner)[:, None] * D + dim[None, :]
        other = tl.load(others + at, mask=used[:, None] & (dim < D)[None, :], other=0.0)
        total += tl.where(used[:, None], weight[:, None] * 2 * (here - other), 0.0)
    tl.store(d_own + own_at, total, mask=inside)
