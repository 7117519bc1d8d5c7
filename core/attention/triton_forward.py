"""Flash attention, forward: scores a tile at a time, softmax on line, the logsumexp of every row kept for the backward.

Legend: B samples, H query heads, G key heads (G divides H), N queries, M keys, D features of a head, DIM = D rounded up
to a power of two. A kernel's arguments `q_b, q_h, q_n` are the strides of q along B, H, N; features are contiguous.

Scores are float32. Without a bias they are multiplied by log2 e, in the same multiplication as by `scale`, so that exp2
is all that is left to do; with a bias they are natural, since bias * log2 e overflows for masks written as the lowest
float.

`lse` [B, H, 2, N] is the logsumexp in two parts: a row's largest score (+inf: the row has no keys) and log2 of the sum
of its weights relative to that. Beside the lowest float their sum would lose the second part, and the gradients their
norm.

Method: Dao, "FlashAttention-2", 2023 (arXiv:2307.08691).
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


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
def score(dots, n, m, bias, bias_n, valid, N, M, scale, CAUSAL: tl.constexpr):
    """Scores of queries `n` and keys `m` from their dot products; -inf where the query may not see the key.

    `n` and `m` come as a column and a row, or as a row and a column: the tile may be transposed.
    """
    seen = m < M
    if bias is None:
        scores = dots * (scale * LOG2E)
    else:
        tile = tl.load(bias + n * bias_n + m, mask=(n < N) & (m < M), other=0.0)
        scores = dots * scale + tile.to(tl.float32)
    if valid is not None:
        seen = seen & (tl.load(valid + m, mask=m < M, other=0) != 0)
    if CAUSAL:
        seen = seen & (m <= n + (M - N))
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def power(exponent, bias):
    """e to the exponent, where that is in the unit of the scores."""
    if bias is not None:
        exponent = exponent * LOG2E
    return tl.exp2(exponent)


@triton.jit
def probability(scores, top, log_total, bias):
    """Probabilities from scores and the two parts of their rows' logsumexp."""
    if bias is None:
        return tl.exp2(scores - (top + log_total))
    return tl.exp2((scores - top) * LOG2E - log_total)


@triton.jit
def forward_kernel(
    q, k, v, bias, valid, out, lse,
    q_b, q_h, q_n, k_b, k_g, k_m, v_b, v_g, v_m, bias_b, bias_h, bias_n, valid_b, out_b, out_h, out_n,
    H, G, N, M, scale,
    D: tl.constexpr, DIM: tl.constexpr, TILE_N: tl.constexpr, TILE_M: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """One program: TILE_N queries of one head, all their keys. Writes out and lse."""
    tiles = tl.cdiv(N, TILE_N)
    head = tl.program_id(0) // tiles
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    g = h // (H // G)
    n = (tl.program_id(0) % tiles) * TILE_N + tl.arange(0, TILE_N)
    dim = tl.arange(0, DIM)
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    if bias is not None:
        bias += b * bias_b + h * bias_h
    if valid is not None:
        valid += b * valid_b

    q_tile = load_rows(q + b * q_b + h * q_h, q_n, n, N, dim, D)
    top = tl.full([TILE_N], float("-inf"), tl.float32)
    total = tl.zeros([TILE_N], tl.float32)
    sums = tl.zeros([TILE_N, DIM], tl.float32)
    end = M
    if CAUSAL:
        end = tl.minimum(M, (tl.program_id(0) % tiles + 1) * TILE_N + M - N)
    for start in range(0, end, TILE_M):
        m = start + tl.arange(0, TILE_M)
        k_tile = load_rows(k, k_m, m, M, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        scores = score(dots, n[:, None], m[None, :], bias, bias_n, valid, N, M, scale, CAUSAL)
        new_top = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen no key yet has top = -inf: subtract 0 instead, or -inf - -inf would be NaN.
        pivot = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = power(scores - pivot[:, None], bias)
        shrink = power(top - pivot, bias)
        total = total * shrink + tl.sum(weights, 1)
        v_tile = load_rows(v, v_m, m, M, dim, D)
        sums = tl.dot(
            weights.to(v_tile.dtype), v_tile, sums * shrink[:, None], input_precision="ieee"
        )
        top = new_top

    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    store_rows(out + b * out_b + h * out_h, out_n, n, N, dim, D, sums / total[:, None])
    lse += head.to(tl.int64) * 2 * N + n
    tl.store(lse, tl.where(empty, float("inf"), top), mask=n < N)
    tl.store(lse + N, tl.log2(total), mask=n < N)
