"""Terms of the score bias, computed a tile at a time from their compact inputs, and the gradients of what they read.

Legend: H heads, N queries, M keys, V table rows, P hops, F features of a hop, C coordinates, K basis functions. The
kinds of a part and its fields are in triton_arguments.py; `n` and `m` are a column and a row, or a row and a column.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def term(part, b, h, n, m, n_q, n_kv):
    """What one part adds to the scores of queries `n` and keys `m`: float32, 0 outside the sample."""
    inside = (n < n_q) & (m < n_kv)
    if part.dense is not None:
        at = part.dense + b * part.b + h * part.h
        tile = tl.load(at + n * part.n + m * part.m, mask=inside, other=0.0).to(tl.float32)
    elif part.length is not None:
        at = pair(part, b, n, m)
        tile = tl.zeros_like(n + m).to(tl.float32)
        for place in range(part.lookups):
            tile += tl.load(
                part.table + h * part.h + cell(part, at, place, inside), mask=inside, other=0.0
            )
        tile = tile / hops_between(part, at, inside)
    elif part.table is not None:
        tile = tl.load(
            part.table + h * part.h + row_of(part, b, n, m, n_q, n_kv), mask=inside, other=0.0
        )
    elif part.slope is not None:
        tile = distance(part, b, n, m, n_q, n_kv) * tl.load(part.slope + h * part.h)
    else:
        far = distance(part, b, n, m, n_q, n_kv)
        tile = tl.zeros_like(far)
        for k in range(part.basis):
            _, bump = gaussian(part, far, k)
            tile += tl.load(part.weights + h * part.h + k) * bump
    return tile


@triton.jit
def pair(part, b, n, m):
    """The place of a pair among all pairs."""
    return b * part.b + n * part.n + m * part.m


@triton.jit
def cell(part, at, place, inside):
    """The column of `table` [H, P * V] that lookup `place` (of P * F) of a pair reads."""
    ids = tl.load(part.ids + at * part.lookups + place, mask=inside, other=0)
    return place // part.features * part.rows + ids.to(tl.int32)


@triton.jit
def hops_between(part, at, inside):
    """The edges on a pair's path, clamped to 1 .. P."""
    length = tl.load(part.length + at, mask=inside, other=1).to(tl.int32)
    return tl.minimum(tl.maximum(length, 1), part.hops).to(tl.float32)


@triton.jit
def row_of(part, b, n, m, n_q, n_kv):
    """The column of `table` [H, V] that a pair reads: its id, or the difference of two places on a grid."""
    if part.ids is not None:
        inside = (n < n_q) & (m < n_kv)
        return tl.load(part.ids + pair(part, b, n, m), mask=inside, other=0).to(tl.int32)
    else:
        q = tl.load(part.codes_q + n, mask=n < n_q, other=0)
        kv = tl.load(part.codes_kv + m, mask=m < n_kv, other=0)
        # Negative codes are of tokens outside the grid: the table's last three rows.
        apart = tl.where(kv < 0, part.rows - 2, q - kv)
        return tl.where(q < 0, tl.where(kv < 0, part.rows - 1, part.rows - 3), apart)


@triton.jit
def distance(part, b, n, m, n_q, n_kv):
    """Euclidean distances of queries and keys."""
    square = tl.zeros_like(n + m).to(tl.float32)
    for c in range(part.axes):
        q = tl.load(
            part.coords_q + b * part.coords_q_b + n * part.axes + c, mask=n < n_q, other=0.0
        )
        kv = tl.load(
            part.coords_kv + b * part.coords_kv_b + m * part.axes + c, mask=m < n_kv, other=0.0
        )
        square += (q - kv) * (q - kv)
    return tl.sqrt(square)


@triton.jit
def gaussian(part, far, k):
    """Basis function k at distances `far`: its argument in standard deviations, and its value."""
    z = (far - tl.load(part.means + k)) / tl.load(part.stds + k)
    return z, tl.exp2(z * z * (-0.5 * LOG2E))


@triton.jit
def add_gradient(part, grad, dscores, b, h, n, m, n_q, n_kv, spread):
    """Add a tile's share to the gradient of one part. `spread` numbers the program among those of its head."""
    inside = (n < n_q) & (m < n_kv)
    if grad.at is None:
        pass
    elif part.dense is not None:
        at = grad.at + b * grad.b + h * grad.h + n * grad.n + m
        tl.store(at, dscores.to(grad.at.dtype.element_ty), mask=inside)
    else:
        sums = grad.at + (spread % grad.copies).to(tl.int64) * grad.copy + h * grad.h
        # Most of what is masked or padded is exactly 0.
        inside = inside & (dscores != 0.0)
        if part.length is not None:
            at = pair(part, b, n, m)
            dscores = dscores / hops_between(part, at, inside)
            for place in range(part.lookups):
                add(sums + cell(part, at, place, inside), dscores, inside, grad.unit)
        elif part.table is not None:
            add(sums + row_of(part, b, n, m, n_q, n_kv), dscores, inside, grad.unit)
        elif part.slope is not None:
            total = tl.sum(tl.where(inside, dscores * distance(part, b, n, m, n_q, n_kv), 0.0))
            add(sums, total, None, grad.unit)
        else:
            # Sums of ds * bump * (1, z, z^2): what the gradients of weights, means and deviations are made of.
            far = distance(part, b, n, m, n_q, n_kv)
            for k in range(part.basis):
                z, bump = gaussian(part, far, k)
                share = tl.where(inside, dscores * bump, 0.0)
                for moment in tl.static_range(3):
                    total = tl.sum(share)
                    add(sums + moment * part.basis + k, total, None, grad.unit)
                    share = share * z


@triton.jit
def add(at, value, mask, unit):
    """Add to a cell that other programs add to: in floating point, or in whole units whose order doesn't matter."""
    if unit is None:
        tl.atomic_add(at, value, mask=mask, sem="relaxed")
    else:
        tl.atomic_add(at, (value * tl.load(unit)).to(tl.int64), mask=mask, sem="relaxed")
