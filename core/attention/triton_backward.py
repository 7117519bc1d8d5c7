"""Flash attention, backward: scores are computed again from q, k and the stored logsumexp, a tile at a time.

    query_kernel   a tile of queries, all their keys: dq, delta (which the others read), the gradient of a dense bias
                   that nobody shares (each of its elements belongs to one program), and of tables, bases and slopes
    key_kernel     a tile of keys, all queries of all H / G heads that share them: dk, dv
    values_kernel  a tile of a dense bias that samples, heads or queries share: the program visits all who share it.
                   That computes the scores once more, and needs no [B, H, N, M] buffer, which flash attention is to
                   avoid

With p the probabilities, w = p after dropout and dp the gradient of p, from do v' by the same dropout:
ds = p (dp - delta), delta = rowsum(do o), dq = scale ds k, dk = scale ds' q, dv = w' do, dbias = ds. Names and units as
in triton_forward.py.
"""

import triton
import triton.language as tl

from isoform.core.attention.triton_bias import add_gradient
from isoform.core.attention.triton_score import (
    dropped_out,
    head_of,
    keys_of,
    load_rows,
    probability,
    queries_of,
    score,
    span,
    store_rows,
)


@triton.jit
def query_kernel(
    q,
    k,
    v,
    out,
    rest,
    do,
    lse,
    delta,
    dq,
    parts,
    grads,
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
    """One program: TILE_N queries of one head. Writes dq and delta [B, H, N], adds to `grads`."""
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
    do_tile = load_rows(head_of(do, b, h, first_q), do.n, n, n_q, dim, D)
    out_tile = load_rows(head_of(out, b, h, first_q), out.n, n, n_q, dim, D).to(tl.float32)
    if rest is not None:
        out_tile += load_rows(head_of(rest, b, h, first_q), rest.n, n, n_q, dim, D).to(tl.float32)
    delta_n = tl.sum(do_tile.to(tl.float32) * out_tile, 1)
    tl.store(delta.at + b * delta.b + h * delta.h + first_q + n, delta_n, mask=n < n_q)
    row = lse.at + b * lse.b + h * lse.h + first_q + n
    top = tl.load(row, mask=n < n_q, other=float("inf"))
    log_total = tl.load(row + lse.n, mask=n < n_q, other=0.0)
    sums = tl.zeros([TILE_N, DIM], tl.float32)
    begin, end = keys_of(first, TILE_N, TILE_M, n_q, n_kv, seen)
    for start in range(begin, end, TILE_M):
        m = start + tl.arange(0, TILE_M)
        k_tile = load_rows(k_head, k.n, m, n_kv, dim, D)
        v_tile = load_rows(v_head, v.n, m, n_kv, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        scores = score(dots, b, h, n[:, None], m[None, :], n_q, n_kv, parts, seen, scale, PARTS)
        weights = probability(scores, top[:, None], log_total[:, None], PARTS)
        dweights = tl.dot(do_tile, tl.trans(v_tile), input_precision="ieee")
        dweights = dropped_out(dweights, drop, b * H + h, n[:, None], m[None, :])
        dscores = weights * (dweights - delta_n[:, None])
        for i in tl.static_range(PARTS):
            add_gradient(
                parts[i], grads[i], dscores, b, h, n[:, None], m[None, :], n_q, n_kv, pid // H
            )
        sums = tl.dot(dscores.to(k_tile.dtype), k_tile, sums, input_precision="ieee")
    store_rows(head_of(dq, b, h, first_q), dq.n, n, n_q, dim, D, sums * scale)


@triton.jit
def key_kernel(
    q,
    k,
    v,
    do,
    lse,
    delta,
    dk,
    dv,
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
    EXACT: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_M: tl.constexpr,
):
    """One program: TILE_M keys of one key head, every query of every head that reads them. Writes dk and dv.

    Tiles are transposed (keys down, queries across), so that both products use them as they are. `EXACT`: dk is of
    scores' gradients to twice the digits of the tokens' type.
    """
    pid = tl.program_id(0)
    g = (pid % G).to(tl.int64)
    b = (pid // G // tiles).to(tl.int64)
    first = pid // G % tiles * TILE_M
    first_q, n_q = span(seen.offsets_q, b, N)
    first_kv, n_kv = span(seen.offsets_kv, b, M)
    m = first + tl.arange(0, TILE_M)
    dim = tl.arange(0, DIM)

    k_tile = load_rows(head_of(k, b, g, first_kv), k.n, m, n_kv, dim, D)
    v_tile = load_rows(head_of(v, b, g, first_kv), v.n, m, n_kv, dim, D)
    dk_sums = tl.zeros([TILE_M, DIM], tl.float32)
    dv_sums = tl.zeros([TILE_M, DIM], tl.float32)
    begin, end = queries_of(first, TILE_N, TILE_M, n_q, n_kv, seen)
    for h in range(g * (H // G), (g + 1) * (H // G)):
        q_head = head_of(q, b, h, first_q)
        do_head = head_of(do, b, h, first_q)
        lse_head = lse.at + b * lse.b + h * lse.h + first_q
        delta_head = delta.at + b * delta.b + h * delta.h + first_q
        for start in range(begin, end, TILE_N):
            n = start + tl.arange(0, TILE_N)
            q_tile = load_rows(q_head, q.n, n, n_q, dim, D)
            do_tile = load_rows(do_head, do.n, n, n_q, dim, D)
            top = tl.load(lse_head + n, mask=n < n_q, other=float("inf"))
            log_total = tl.load(lse_head + lse.n + n, mask=n < n_q, other=0.0)
            delta_n = tl.load(delta_head + n, mask=n < n_q, other=0.0)
            dots = tl.dot(k_tile, tl.trans(q_tile), input_precision="ieee")
            scores = score(dots, b, h, n[None, :], m[:, None], n_q, n_kv, parts, seen, scale, PARTS)
            weights = probability(scores, top[None, :], log_total[None, :], PARTS)
            kept = dropped_out(weights, drop, b * H + h, n[None, :], m[:, None])
            dv_sums = tl.dot(kept.to(do_tile.dtype), do_tile, dv_sums, input_precision="ieee")
            dweights = tl.dot(v_tile, tl.trans(do_tile), input_precision="ieee")
            dweights = dropped_out(dweights, drop, b * H + h, n[None, :], m[:, None])
            dscores = weights * (dweights - delta_n[None, :])
            rounded = dscores.to(q_tile.dtype)
            dk_sums = tl.dot(rounded, q_tile, dk_sums, input_precision="ieee")
            if EXACT:
                rest = (dscores - rounded.to(tl.float32)).to(q_tile.dtype)
                dk_sums = tl.dot(rest, q_tile, dk_sums, input_precision="ieee")
    store_rows(head_of(dk, b, g, first_kv), dk.n, m, n_kv, dim, D, dk_sums * scale)
    store_rows(head_of(dv, b, g, first_kv), dv.n, m, n_kv, dim, D, dv_sums)


@triton.jit
def values_kernel(
    q,
    k,
    v,
    do,
    lse,
    delta,
    sums,
    parts,
    seen,
    drop,
    H,
    G,
    N,
    M,
    own_B,
    own_H,
    own_N,
    own_M,
    share_H,
    share_N,
    shares,
    shares_each,
    scale,
    ONE_ROW: tl.constexpr,
    PARTS: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_M: tl.constexpr,
):
    """One program: a tile of a dense bias's own elements, and `shares_each` of the `shares` places where it was added.

    The bias is [own_B, own_H, own_N (1: ONE_ROW), own_M]. A share is one (sample, head, tile of queries) among those
    that read the same elements; share_H heads and share_N tiles of queries take part, samples being the slowest. Writes
    float32 partial sums [parts, own_B, own_H, own_N, own_M], one part for each run of `shares_each`.
    """
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(own_M, TILE_M)
    tiles_n = tl.cdiv(own_N, TILE_N)
    m = pid % tiles_m * TILE_M + tl.arange(0, TILE_M)
    tile_n = pid // tiles_m % tiles_n
    owner = pid // tiles_m // tiles_n
    own_h = owner % own_H
    own_b = owner // own_H % own_B
    part = (owner // own_H // own_B).to(tl.int64)
    dim = tl.arange(0, DIM)

    total = tl.zeros([TILE_N, TILE_M], tl.float32)
    for share in range(part * shares_each, tl.minimum((part + 1) * shares_each, shares)):
        n = ((tile_n + share % share_N) * TILE_N).to(tl.int32) + tl.arange(0, TILE_N)
        h = (own_h + share // share_N % share_H).to(tl.int64)
        b = (own_b + share // share_N // share_H).to(tl.int64)
        g = h // (H // G)
        first_q, n_q = span(seen.offsets_q, b, N)
        first_kv, n_kv = span(seen.offsets_kv, b, M)
        q_tile = load_rows(head_of(q, b, h, first_q), q.n, n, n_q, dim, D)
        k_tile = load_rows(head_of(k, b, g, first_kv), k.n, m, n_kv, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        scores = score(dots, b, h, n[:, None], m[None, :], n_q, n_kv, parts, seen, scale, PARTS)
        row = lse.at + b * lse.b + h * lse.h + first_q + n
        top = tl.load(row, mask=n < n_q, other=float("inf"))
        log_total = tl.load(row + lse.n, mask=n < n_q, other=0.0)
        delta_n = tl.load(
            delta.at + b * delta.b + h * delta.h + first_q + n, mask=n < n_q, other=0.0
        )
        do_tile = load_rows(head_of(do, b, h, first_q), do.n, n, n_q, dim, D)
        v_tile = load_rows(head_of(v, b, g, first_kv), v.n, m, n_kv, dim, D)
        dweights = tl.dot(do_tile, tl.trans(v_tile), input_precision="ieee")
        dweights = dropped_out(dweights, drop, b * H + h, n[:, None], m[None, :])
        weights = probability(scores, top[:, None], log_total[:, None], PARTS)
        total += weights * (dweights - delta_n[:, None])

    at = sums + ((part * own_B + own_b) * own_H + own_h) * own_N * own_M
    if ONE_ROW:
        tl.store(at + m, tl.sum(total, 0), mask=m < own_M)
    else:
        own_n = tile_n * TILE_N + tl.arange(0, TILE_N)
        inside = (own_n[:, None] < own_N) & (m[None, :] < own_M)
        tl.store(at + own_n[:, None] * own_M + m[None, :], total, mask=inside)
