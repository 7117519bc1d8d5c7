"""What all attention kernels share: rows of a matrix, which keys a query sees, scores, probabilities, dropout.

Legend: B samples, H query heads, G key heads (G divides H), N queries, M keys, D features of a head, DIM = D rounded up
to a power of two. Arguments that group tensors with their strides are in triton_arguments.py.

Scores are float32. Without a bias they are multiplied by log2 e, in the same multiplication as by `scale`, so that exp2
is all that is left to do; with a bias they are natural, since bias * log2 e overflows for masks written as the lowest
float.
"""

import triton
import triton.language as tl

from isoform.core.attention.triton_bias import term

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def head_of(matrix, b, h, first):
    """The address of row `first` of one head of one sample."""
    return matrix.at + b * matrix.b + h * matrix.h + first * matrix.n


@triton.jit
def load_rows(base, stride, row, n_rows, dim, D: tl.constexpr):
    """Rows `row` of a matrix [n_rows, D] as a tile [len(row), len(dim)], zero outside the matrix."""
    inside = (row[:, None] < n_rows) & (dim[None, :] < D)
    return tl.load(base + row[:, None] * stride + dim[None, :], mask=inside, other=0.0)


@triton.jit
def store_rows(base, stride, row, n_rows, dim, D: tl.constexpr, tile):
    """Write a tile to rows `row` of a matrix [n_rows, D], in the matrix's type; what lies outside is dropped."""
    inside = (row[:, None] < n_rows) & (dim[None, :] < D)
    tl.store(
        base + row[:, None] * stride + dim[None, :], tile.to(base.dtype.element_ty), mask=inside
    )


@triton.jit
def span(offsets, b, length):
    """First row and number of rows of sample b: a part of a packed batch, or the whole of a padded one."""
    first = tl.zeros([], tl.int64)
    if offsets is not None:
        first = tl.load(offsets + b).to(tl.int64)
        length = (tl.load(offsets + b + 1) - first).to(tl.int32)
    return first, length


@triton.jit
def keys_of(first, TILE_N: tl.constexpr, TILE_M: tl.constexpr, n_q, n_kv, seen):
    """Begin and end of the keys that the queries first .. first + TILE_N may see; begin is a multiple of TILE_M."""
    begin = 0
    end = n_kv
    if seen.place_q is None:
        if seen.right is not None:
            end = tl.minimum(n_kv, first + TILE_N + (n_kv - n_q) + seen.right)
        if seen.left is not None:
            begin = tl.maximum(0, first + (n_kv - n_q) + seen.left) // TILE_M * TILE_M
    if seen.offsets_q is not None:
        end = tl.where(first < n_q, end, 0)
    return begin, end


@triton.jit
def queries_of(first, TILE_N: tl.constexpr, TILE_M: tl.constexpr, n_q, n_kv, seen):
    """Begin and end of the queries that may see the keys first .. first + TILE_M; begin is a multiple of TILE_N."""
    begin = 0
    end = n_q
    if seen.place_q is None:
        if seen.right is not None:
            begin = tl.maximum(0, first - (n_kv - n_q) - seen.right) // TILE_N * TILE_N
        if seen.left is not None:
            end = tl.minimum(n_q, first + TILE_M - (n_kv - n_q) - seen.left)
    if seen.offsets_kv is not None:
        end = tl.where(first < n_kv, end, 0)
    return begin, end


@triton.jit
def score(dots, b, h, n, m, n_q, n_kv, parts, seen, scale, PARTS: tl.constexpr):
    """Scores of queries `n` and keys `m` from their dot products; -inf where the query may not see the key.

    `n` and `m` come as a column and a row, or as a row and a column: the tile may be transposed.
    """
    visible = m < n_kv
    if PARTS == 0:
        scores = dots * (scale * LOG2E)
    else:
        scores = dots * scale
        for i in tl.static_range(PARTS):
            scores += term(parts[i], b, h, n, m, n_q, n_kv)
    if seen.valid is not None:
        visible = visible & (tl.load(seen.valid + b * seen.valid_b + m, mask=visible, other=0) != 0)
    if seen.left is not None or seen.right is not None:
        if seen.place_q is None:
            ahead = (m - n_kv) - (n - n_q)
        else:
            place_q = tl.load(seen.place_q + b * n_q + n, mask=n < n_q, other=0)
            place_kv = tl.load(seen.place_kv + b * n_kv + m, mask=m < n_kv, other=0)
            ahead = place_kv - place_q
        if seen.left is not None:
            visible = visible & (ahead >= seen.left)
        if seen.right is not None:
            visible = visible & (ahead <= seen.right)
    return tl.where(visible, scores, float("-inf"))


@triton.jit
def power(exponent, PARTS: tl.constexpr):
    """e to the exponent, where that is in the unit of the scores."""
    if PARTS > 0:
        exponent = exponent * LOG2E
    return tl.exp2(exponent)


@triton.jit
def probability(scores, top, log_total, PARTS: tl.constexpr):
    """Probabilities from scores and the two parts of their rows' logsumexp."""
    exponent = scores - top
    if PARTS > 0:
        exponent = exponent * LOG2E
    return tl.exp2(exponent - log_total)


@triton.jit
def dropped_out(tile, drop, head, n, m):
    """The tile with dropped elements 0 and kept ones scaled; as it is where `drop` is None.

    Which are dropped is a function of the seed, the head (of all samples) and the places in the sample: Philox 4x32-10
    with the counter (n, m, head, 0) (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
    """
    if drop is not None:
        zero = tl.zeros_like(tile).to(tl.int32)
        number, _, _, _ = tl.philox(
            tl.load(drop.seed), zero + n, zero + m, zero + head.to(tl.int32), zero
        )
        tile = tl.where((number >> 16).to(tl.int32) >= drop.dropped, tile * drop.factor, 0.0)
    return tile
