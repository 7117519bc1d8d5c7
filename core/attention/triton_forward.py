"""Flash attention, forward: scores a tile at a time, softmax on line, the logsumexp of every row kept for the backward.

Names and units as in triton_score.py. `lse` [B, H, 2, N] is the logsumexp in two parts: a row's largest score (+inf:
the row has no keys) and log2 of the sum of its weights relative to that. Beside the lowest float their sum would lose
the second part, and the gradients their norm.

`rest` is what rounding to 16 bits took from `out` (None in float32). The backward pass needs both: delta, the row sum
of do * out, is subtracted from numbers that it nearly equals, with one error for all keys of a query.

Programs that differ in their head alone are neighbours: what they read of a bias is then in the cache that all of the
GPU shares.

Method: Dao, "FlashAttention-2", 2023 (arXiv:2307.08691).
"""

import triton
import triton.language as tl

from isoform.core.attention.triton_score import (
    dropped_out,
    head_of,
    keys_of,
    load_rows,
    power,
    score,
    span,
    store_rows,
)


@triton.jit
def forward_kernel(
    q,
    k,
    v,
    out,
    rest,
    lse,
    parts,
    seen,
    drop,
    H,
    G,
    N,
    M,
    tiles,
    scale,
    PARTS: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_M: tl.constexpr,
):
    """One program: TILE_N queries of one head, all their keys. Writes out, rest and lse."""
    pid = tl.program_id(0)
    h = (pid % H).to(tl.int64)
    b = (pid // H // tiles).to(tl.int64)
    g = h // (H // G)
    first = pid // H % tiles * TILE_N
    first_q, n_q = span(seen.offsets_q, b, N)
    first_kv, n_kv = span(seen.offsets_kv, b, M)
    n = first + tl.arange(0, TILE_N)
    dim = tl.arange(0, DIM)
    k_head = head_of(k, b, g, first_kv)
    v_head = head_of(v, b, g, first_kv)

    q_tile = load_rows(head_of(q, b, h, first_q), q.n, n, n_q, dim, D)
    top = tl.full([TILE_N], float("-inf"), tl.float32)
    total = tl.zeros([TILE_N], tl.float32)
    sums = tl.zeros([TILE_N, DIM], tl.float32)
    begin, end = keys_of(first, TILE_N, TILE_M, n_q, n_kv, seen)
    for start in range(begin, end, TILE_M):
        m = start + tl.arange(0, TILE_M)
        k_tile = load_rows(k_head, k.n, m, n_kv, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        scores = score(dots, b, h, n[:, None], m[None, :], n_q, n_kv, parts, seen, scale, PARTS)
        new_top = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen no key yet has top = -inf: subtract 0 instead, or -inf - -inf would be NaN.
        pivot = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = power(scores - pivot[:, None], PARTS)
        shrink = power(top - pivot, PARTS)
        total = total * shrink + tl.sum(weights, 1)
        weights = dropped_out(weights, drop, b * H + h, n[:, None], m[None, :])
        v_tile = load_rows(v_head, v.n, m, n_kv, dim, D)
        sums = tl.dot(
            weights.to(v_tile.dtype), v_tile, sums * shrink[:, None], input_precision="ieee"
        )
        top = new_top

    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    sums = sums / total[:, None]
    store_rows(head_of(out, b, h, first_q), out.n, n, n_q, dim, D, sums)
    if rest is not None:
        sums -= sums.to(out.at.dtype.element_ty).to(tl.float32)
        store_rows(head_of(rest, b, h, first_q), rest.n, n, n_q, dim, D, sums)
    row = lse.at + b * lse.b + h * lse.h + first_q + n
    tl.store(row, tl.where(empty, float("inf"), top), mask=n < n_q)
    tl.store(row + lse.n, tl.log2(total), mask=n < n_q)
