"""What the Triton kernels are handed: tensors grouped with their strides, as named tuples that a kernel reads by field.

Legend: B samples, H heads, N queries, M keys, V table rows, P hops, F features of a hop, C coordinates, K basis
functions. Strides are in elements; an axis of size 1 has stride 0, so that all share it. What is None is compiled away:
one source serves every combination. Importing this module needs no Triton.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Matrix(NamedTuple):
    """A tensor [B, H, N, D] whose last axis is contiguous; `at` is its first element."""

    at: Any
    b: int
    h: int
    n: int


class Seen(NamedTuple):
    """Which keys a query sees, and where the samples of a packed batch begin.

    Key m is seen by query n where `valid` [B, M] says so and left <= place(m) - place(n) <= right. Places are counted
    from the ends of a sample's rows, or read from `place_q` [B, N] and `place_kv` [B, M]. Packed, sample b owns the
    rows offsets[b] to offsets[b + 1].
    """

    valid: Any = None
    valid_b: int = 0
    left: int | None = None
    right: int | None = None
    place_q: Any = None
    place_kv: Any = None
    offsets_q: Any = None
    offsets_kv: Any = None


class Drop(NamedTuple):
    """Dropout: of 65536 levels, `dropped` mean 0; what is kept is multiplied by `factor`. `seed` is one int64."""

    seed: Any
    dropped: int
    factor: float


class Part(NamedTuple):
    """One term of the score bias; its kind is told by what isn't None.

    dense     `dense` [B, H, N, M]
    table     `ids` [B, N, M] into `table` [H, V]
    path      `ids` [B, N, M, P * F] into `table` [H, P * V], and `length` [B, N, M]
    grid      `codes_q` [N], `codes_kv` [M] into `table` [H, V]: see `isoform.core.attention.bias.RelativeGrid`
    distance  `coords_q` [B, N, C], `coords_kv` [B, M, C], `means` [K], `stds` [K], `weights` [H, K]
    slope     the same coordinates, and `slope` [H]

    b, n, m are the strides of dense, ids or length; h is that of dense, table, weights or slope.
    """

    dense: Any = None
    ids: Any = None
    table: Any = None
    length: Any = None
    codes_q: Any = None
    codes_kv: Any = None
    coords_q: Any = None
    coords_kv: Any = None
    means: Any = None
    stds: Any = None
    weights: Any = None
    slope: Any = None
    b: int = 0
    h: int = 0
    n: int = 0
    m: int = 0
    lookups: int | None = None  # P * F
    features: int | None = None  # F
    hops: int | None = None  # P
    rows: int | None = None  # V
    basis: int | None = None  # K
    axes: int | None = None  # C
    coords_q_b: int = 0
    coords_kv_b: int = 0


class Grad(NamedTuple):
    """Where a part's gradient goes: nowhere where `at` is None.

    Of a dense bias: elements of their own shape. Otherwise sums [copies, H, cells]: programs spread over the copies, so
    that few meet in one cell; `copy` and `h` are strides. With `unit`, a power of two, sums are integers of 1 / unit:
    they don't depend on the order of the additions.
    """

    at: Any = None
    b: int = 0
    h: int = 0
    n: int = 0
    copy: int = 0
    copies: int = 1
    unit: Any = None


def stride(tensor: Tensor, axis: int) -> int:
    """Elements from one entry of an axis to the next; 0 where all share the one entry that there is."""
    return 0 if tensor.shape[axis] == 1 else tensor.stride(axis)


def rows(tensor: Tensor) -> Tensor:
    """The tensor with its last axis contiguous, copied only if it is not."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def matrix(tensor: Tensor) -> Matrix:
    """A tensor [B, H, N, D] as kernels take it."""
    tensor = rows(tensor)
    return Matrix(tensor, *(stride(tensor, axis) for axis in range(3)))


# The tensors of a part of each kind, and which of them receive gradients.
LEAVES = {"dense": 1, "table": 2, "path": 3, "distance": 5, "slope": 3, "grid": 3}
LEARNT = {
    "dense": (0,),
    "table": (1,),
    "path": (2,),
    "distance": (2, 3, 4),
    "slope": (2,),
    "grid": (2,),
}


def kinds_of(mode: str) -> list[str]:
    """The kinds of the parts that a mode adds: "table+path" -> ["table", "path"]; "none" has no part."""
    return [] if mode == "none" else mode.split("+")


def grouped(mode: str, leaves: list[Tensor]) -> list[tuple[str, list[Tensor]]]:
    """Each part's kind and its tensors."""
    groups, first = [], 0
    for kind in kinds_of(mode):
        groups.append((kind, leaves[first : first + LEAVES[kind]]))
        first += LEAVES[kind]
    return groups


def part_of(kind: str, leaves: list[Tensor]) -> Part:
    """One part from its tensors, in the order of `Part`'s list."""
    match kind, leaves:
        case "dense", [values]:
            values = rows(values)
            b, h, n, m = (stride(values, axis) for axis in range(4))
            return Part(dense=values, b=b, h=h, n=n, m=m)
        case "table", [ids, table]:
            b, n, m = (stride(ids, axis) for axis in range(3))
            return Part(ids=ids, table=table, h=stride(table, 0), b=b, n=n, m=m)
        case "path", [ids, length, table]:
            ids = ids.contiguous()
            length = length.expand(ids.shape[:3]).contiguous()
            b, n, m = (stride(length, axis) for axis in range(3))
            hops, features = ids.shape[3:]
            return Part(
                ids=ids,
                length=length,
                table=table,
                lookups=hops * features,
                features=features,
                hops=hops,
                rows=table.shape[1] // max(hops, 1),
                h=stride(table, 0),
                b=b,
                n=n,
                m=m,
            )
        case "grid", [codes_q, codes_kv, table]:
            return Part(
                codes_q=codes_q,
                codes_kv=codes_kv,
                table=table,
                rows=table.shape[1],
                h=stride(table, 0),
            )
        case _, [coords_q, coords_kv, *basis]:
            coords_q, coords_kv = coords_q.contiguous(), coords_kv.contiguous()
            common = Part(
                coords_q=coords_q,
                coords_kv=coords_kv,
                coords_q_b=stride(coords_q, 0),
                coords_kv_b=stride(coords_kv, 0),
                axes=coords_q.shape[2],
            )
            if kind == "slope":
                return common._replace(slope=basis[0], h=stride(basis[0], 0))
            means, stds, weights = basis
            return common._replace(
                means=means,
                stds=stds,
                weights=weights,
                h=stride(weights, 0),
                basis=means.shape[0],
            )
    raise ValueError(f"a bias of kind {kind!r} and {len(leaves)} tensors is unknown")
