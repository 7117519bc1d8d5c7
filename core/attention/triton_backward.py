"""Flash attention, backward: scores are computed again from q, k and the stored logsumexp, a tile at a time.

Three kernels, none with atomics, so that gradients are the same bits in every run:

    query_kernel   a tile of queries, all their keys: dq, delta (which the others read) and the gradient of a bias
                   that nobody shares: each of its elements belongs to one program
    key_kernel     a tile of keys, all queries of all H / G heads that share them: dk, dv
    bias_kernel    a tile of a bias that samples, heads or queries share: the program visits all who share it. That
                   computes the scores once more, and needs no [B, H, N, M] buffer, which flash attention is to avoid

With p the probabilities and dp = do v': ds = p (dp - delta), delta = rowsum(do o), dq = scale ds k, dk = scale ds' q,
dv = p' do, dbias = ds. Names and units as in triton_forward.py.
"""

import triton
import triton.language as tl

from isoform.core.attention.triton_forward import load_rows, probability, score, store_rows


@triton.jit
def query_kernel(
    q, k, v, bias, valid, out, do, lse, delta, dq, dbias,
    q_b, q_h, q_n, k_b, k_g, k_m, v_b, v_g, v_m, bias_b, bias_h, bias_n, valid_b, out_b, out_h, out_n,
    do_b, do_h, do_n, dq_b, dq_h, dq_n,
    H, G, N, M, scale,
    D: tl.constexpr, DIM: tl.constexpr, TILE_N: tl.constexpr, TILE_M: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """One program: TILE_N queries of one head. Writes dq, delta [B, H, N] and, where asked for, dbias [B, H, N, M]."""
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
    if dbias is not None:
        dbias += head.to(tl.int64) * N * M
    row = head.to(tl.int64) * N + n

    q_tile = load_rows(q + b * q_b + h * q_h, q_n, n, N, dim, D)
    do_tile = load_rows(do + b * do_b + h * do_h, do_n, n, N, dim, D)
    out_tile = load_rows(out + b * out_b + h * out_h, out_n, n, N, dim, D)
    delta_n = tl.sum(do_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta + row, delta_n, mask=n < N)
    lse += head.to(tl.int64) * 2 * N + n
    top = tl.load(lse, mask=n < N, other=float("inf"))
    log_total = tl.load(lse + N, mask=n < N, other=0.0)
    sums = tl.zeros([TILE_N, DIM], tl.float32)
    end = M
    # The gradient of a dense bias is written for unseen keys too: those tiles hold zeros.
    if CAUSAL and dbias is None:
        end = tl.minimum(M, (tl.program_id(0) % tiles + 1) * TILE_N + M - N)
    for start in range(0, end, TILE_M):
        m = start + tl.arange(0, TILE_M)
        k_tile = load_rows(k, k_m, m, M, dim, D)
        v_tile = load_rows(v, v_m, m, M, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        scores = score(dots, n[:, None], m[None, :], bias, bias_n, valid, N, M, scale, CAUSAL)
        weights = probability(scores, top[:, None], log_total[:, None], bias)
        dweights = tl.dot(do_tile, tl.trans(v_tile), input_precision="ieee")
        dscores = weights * (dweights - delta_n[:, None])
        if dbias is not None:
            inside = (n[:, None] < N) & (m[None, :] < M)
            tl.store(
                dbias + n[:, None] * M + m[None, :], dscores.to(dbias.dtype.element_ty), mask=inside
            )
        sums = tl.dot(dscores.to(k_tile.dtype), k_tile, sums, input_precision="ieee")
    store_rows(dq + b * dq_b + h * dq_h, dq_n, n, N, dim, D, sums * scale)


@triton.jit
def key_kernel(
    q, k, v, bias, valid, do, lse, delta, dk, dv,
    q_b, q_h, q_n, k_b, k_g, k_m, v_b, v_g, v_m, bias_b, bias_h, bias_n, valid_b,
    do_b, do_h, do_n, dk_b, dk_g, dk_m, dv_b, dv_g, dv_m,
    H, G, N, M, scale,
    D: tl.constexpr, DIM: tl.constexpr, TILE_N: tl.constexpr, TILE_M: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """One program: TILE_M keys of one key head, every query of every head that reads them. Writes dk and dv.

    Tiles are transposed (keys down, queries across), so that both products use them as they are.
    """
    tiles = tl.cdiv(M, TILE_M)
    b = (tl.program_id(0) // tiles // G).to(tl.int64)
    g = tl.program_id(0) // tiles % G
    start = (tl.program_id(0) % tiles) * TILE_M
    m = start + tl.arange(0, TILE_M)
    dim = tl.arange(0, DIM)
    if valid is not None:
        valid += b * valid_b

    k_tile = load_rows(k + b * k_b + g * k_g, k_m, m, M, dim, D)
    v_tile = load_rows(v + b * v_b + g * v_g, v_m, m, M, dim, D)
    dk_sums = tl.zeros([TILE_M, DIM], tl.float32)
    dv_sums = tl.zeros([TILE_M, DIM], tl.float32)
    first = 0
    if CAUSAL:
        first = tl.maximum(0, start - (M - N)) // TILE_N * TILE_N
    for h in range(g * (H // G), (g + 1) * (H // G)):
        q_head = q + b * q_b + h * q_h
        do_head = do + b * do_b + h * do_h
        bias_head = bias
        if bias is not None:
            bias_head = bias + b * bias_b + h * bias_h
        for at in range(first, N, TILE_N):
            n = at + tl.arange(0, TILE_N)
            row = (b * H + h) * N
            q_tile = load_rows(q_head, q_n, n, N, dim, D)
            do_tile = load_rows(do_head, do_n, n, N, dim, D)
            top = tl.load(lse + 2 * row + n, mask=n < N, other=float("inf"))
            log_total = tl.load(lse + 2 * row + N + n, mask=n < N, other=0.0)
            delta_n = tl.load(delta + row + n, mask=n < N, other=0.0)
            dots = tl.dot(k_tile, tl.trans(q_tile), input_precision="ieee")
            scores = score(
                dots, n[None, :], m[:, None], bias_head, bias_n, valid, N, M, scale, CAUSAL
            )
            weights = probability(scores, top[None, :], log_total[None, :], bias)
            dv_sums = tl.dot(weights.to(do_tile.dtype), do_tile, dv_sums, input_precision="ieee")
            dweights = tl.dot(v_tile, tl.trans(do_tile), input_precision="ieee")
            dscores = weights * (dweights - delta_n[None, :])
            dk_sums = tl.dot(dscores.to(q_tile.dtype), q_tile, dk_sums, input_precision="ieee")
    store_rows(dk + b * dk_b + g * dk_g, dk_m, m, M, dim, D, dk_sums * scale)
    store_rows(dv + b * dv_b + g * dv_g, dv_m, m, M, dim, D, dv_sums)


@triton.jit
def bias_kernel(
    q, k, v, bias, valid, do, lse, delta, dbias,
    q_b, q_h, q_n, k_b, k_g, k_m, v_b, v_g, v_m, bias_b, bias_h, bias_n, valid_b, do_b, do_h, do_n,
    H, G, N, M, scale, bias_B, bias_H, share_H, share_N, shares, shares_each,
    D: tl.constexpr, DIM: tl.constexpr, TILE_N: tl.constexpr, TILE_M: tl.constexpr, CAUSAL: tl.constexpr,
    ONE_ROW: tl.constexpr,
):  # fmt: skip
    """One program: a tile of the bias's own elements, and `shares_each` of the `shares` places where it was added.

    The bias is [bias_B, bias_H, N or 1 (ONE_ROW), M]. A share is one (sample, head, tile of queries) among those that
    read the same elements; share_H heads and share_N tiles of queries take part, samples being the slowest. Writes
    float32 partial sums [parts, bias_B, bias_H, N or 1, M], one part for each run of `shares_each`.
    """
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(M, TILE_M)
    rows = N
    if ONE_ROW:
        rows = 1
    tiles_n = tl.cdiv(rows, TILE_N)
    m = pid % tiles_m * TILE_M + tl.arange(0, TILE_M)
    tile_n = pid // tiles_m % tiles_n
    owner = pid // tiles_m // tiles_n
    own_h = (owner % bias_H).to(tl.int64)
    own_b = owner // bias_H % bias_B
    part = owner // bias_H // bias_B
    dim = tl.arange(0, DIM)

    sums = tl.zeros([TILE_N, TILE_M], tl.float32)
    for share in range(part * shares_each, tl.minimum((part + 1) * shares_each, shares)):
        n = (tile_n + share % share_N) * TILE_N + tl.arange(0, TILE_N)
        h = own_h + share // share_N % share_H
        b = (own_b + share // share_N // share_H).to(tl.int64)
        g = h // (H // G)
        row = (b * H + h) * N
        valid_row = valid
        if valid is not None:
            valid_row = valid + b * valid_b
        q_tile = load_rows(q + b * q_b + h * q_h, q_n, n, N, dim, D)
        k_tile = load_rows(k + b * k_b + g * k_g, k_m, m, M, dim, D)
        dots = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        bias_head = bias + b * bias_b + h * bias_h
        scores = score(
            dots, n[:, None], m[None, :], bias_head, bias_n, valid_row, N, M, scale, CAUSAL
        )
        top = tl.load(lse + 2 * row + n, mask=n < N, other=float("inf"))
        log_total = tl.load(lse + 2 * row + N + n, mask=n < N, other=0.0)
        delta_n = tl.load(delta + row + n, mask=n < N, other=0.0)
        do_tile = load_rows(do + b * do_b + h * do_h, do_n, n, N, dim, D)
        v_tile = load_rows(v + b * v_b + g * v_g, v_m, m, M, dim, D)
        dweights = tl.dot(do_tile, tl.trans(v_tile), input_precision="ieee")
        weights = probability(scores, top[:, None], log_total[:, None], bias)
        sums += weights * (dweights - delta_n[:, None])

    dbias += ((part * bias_B + own_b) * bias_H + own_h) * rows * M
    if ONE_ROW:
        tl.store(dbias + m, tl.sum(sums, 0), mask=m < M)
    else:
        own_n = tile_n * TILE_N + tl.arange(0, TILE_N)
        inside = (own_n[:, None] < N) & (m[None, :] < M)
        tl.store(dbias + own_n[:, None] * M + m[None, :], sums, mask=inside)
