"""Every launch of the Triton kernels as a value: which kernel, how many programs, its tiles and its arguments.

Legend: B samples, H query heads, G key heads, N queries, M keys, D features of a head, V cells of a table. What is
launched on a GPU, interpreted, compiled ahead of time and counted by the traffic model is made here, from tensors on
any device, "meta" included, and tiles.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoform.core.attention.triton_arguments import (
    LEARNT,
    Drop,
    Grad,
    Matrix,
    Seen,
    grouped,
    kinds_of,
    matrix,
    part_of,
    stride,
)
from isoform.core.attention.tuning import Tiles, padded_dim, target_of, tiles
from isoform.core.ops.dropout import LEVELS

# Programs that the kernel of a shared bias aims at: enough to fill a large GPU a few times. A constant, not the number
# of multiprocessors at hand: it decides how partial sums are cut, and gradients shall not depend on the GPU's size.
VALUES_PROGRAMS = 512
# Bytes and number of the copies of a table's gradient that programs spread over.
COPIES_BYTES, MOST_COPIES = 2**24, 64


class Call(NamedTuple):
    """The arguments of `isoform::attention_forward`; packed tensors come as one sample [1, H, T, D]."""

    q: Tensor
    k: Tensor
    v: Tensor
    leaves: list[Tensor]  # of the bias's parts, in order
    mode: str  # the kinds of the parts: "none", "dense", "table+path", ...
    valid: Tensor | None
    place_q: Tensor | None
    place_kv: Tensor | None
    offsets_q: Tensor | None
    offsets_kv: Tensor | None
    seed: Tensor | None
    left: int | None
    right: int | None
    longest_q: int  # rows of the longest sample
    longest_kv: int
    dropped: int
    scale: float

    @property
    def samples(self) -> int:
        """B, whatever the layout."""
        return self.q.shape[0] if self.offsets_q is None else self.offsets_q.shape[0] - 1

    @property
    def limited(self) -> bool:
        """Whether a program may pass over keys, whose gradients then aren't written."""
        return self.left is not None or self.right is not None or self.offsets_q is not None


def cut_of(kernel: str, call: Call) -> Tiles:
    """The tiles for a kernel where the call's tensors are. Raises ValueError where none were compiled and checked."""
    q = call.q
    return tiles(kernel, target_of(q.device), q.shape[3], q.element_size(), call.mode)


class Launch(NamedTuple):
    """`programs` programs of kernel "forward", "query", "key" or "values"."""

    kernel: str
    programs: int
    cut: Tiles
    arguments: dict[str, Any]


def kernel_of(name: str) -> Any:
    """The kernel by its short name."""
    where = "forward" if name == "forward" else "backward"
    return getattr(
        importlib.import_module(f"isoform.core.attention.triton_{where}"), f"{name}_kernel"
    )


def start(launch: Launch, on: Tensor) -> None:
    """Run it where a tensor is."""
    if launch.programs:
        with torch.cuda.device_of(on):
            kernel_of(launch.kernel)[(launch.programs,)](
                **launch.arguments,
                num_warps=launch.cut.warps,
                num_stages=launch.cut.stages,
            )


def like_heads(x_BHND: Tensor) -> Tensor:
    """An empty [B, H, N, D] whose memory is [B, N, H, D], so that joining the heads afterwards is free."""
    n_batch, n_heads, n_rows, n_dims = x_BHND.shape
    return torch.empty(
        (n_batch, n_rows, n_heads, n_dims), dtype=x_BHND.dtype, device=x_BHND.device
    ).transpose(1, 2)


def like_rest(q_BHND: Tensor) -> Tensor:
    """An empty tensor for what rounding takes from the result: none in float32."""
    return q_BHND.new_empty(0) if q_BHND.dtype == torch.float32 else like_heads(q_BHND)


def forward_launch(call: Call, cut: Tiles, out: Tensor, lse: Tensor, rest: Tensor) -> Launch:
    """Writes out [B, H, N, D], lse [B, H, 2, N] and rest [B, H, N, D], or an empty tensor in float32."""
    tiles_n = _parts(call.longest_q, cut.n)
    given = _common(call, cut) | {"out": matrix(out), "lse": matrix(lse), "tiles": tiles_n}
    given |= {"rest": _matrix_or_none(rest)}
    return Launch("forward", call.samples * call.q.shape[1] * tiles_n, cut, given)


class Gradients(NamedTuple):
    """What the backward kernels read and write beside the call's own tensors."""

    do: Tensor
    out: Tensor
    lse: Tensor
    rest: Tensor
    delta: Tensor  # [B, H, N], which the query kernel writes and the others read


def query_launch(
    call: Call, cut: Tiles, past: Gradients, dq: Tensor, grads: tuple[Grad, ...]
) -> Launch:
    """Writes dq and delta, and adds to the gradients of the bias's parts."""
    tiles_n = _parts(call.longest_q, cut.n)
    given = _common(call, cut) | _past(past) | {"out": matrix(past.out), "dq": matrix(dq)}
    given |= {"rest": _matrix_or_none(past.rest), "grads": grads, "tiles": tiles_n}
    return Launch("query", call.samples * call.q.shape[1] * tiles_n, cut, given)


def key_launch(call: Call, cut: Tiles, past: Gradients, dk: Tensor, dv: Tensor) -> Launch:
    """Writes dk and dv."""
    tiles_m = _parts(call.longest_kv, cut.m)
    given = _common(call, cut) | _past(past) | {"dk": matrix(dk), "dv": matrix(dv)}
    # A distance's bias has large gradients that nearly cancel in dk: bfloat16's digits are too few. For heads of more
    # than 64 features a second product doesn't fit into the registers.
    rough = call.q.dtype == torch.bfloat16 and call.q.shape[3] <= 64
    exact = rough and "distance" in kinds_of(call.mode)
    given |= {"tiles": tiles_m, "EXACT": exact}
    return Launch("key", call.samples * call.k.shape[1] * tiles_m, cut, given)


def values_launch(call: Call, cut: Tiles, past: Gradients, values: Tensor) -> tuple[Launch, Tensor]:
    """For a dense bias that is shared: writes partial sums of its gradient, which are returned [parts, *its shape]."""
    own_batch, own_heads, own_queries, n_keys = values.shape
    one_row = own_queries < call.longest_q
    share_heads = call.q.shape[1] // max(1, own_heads)
    share_tiles = _parts(call.longest_q, cut.n) if one_row else 1
    shares = call.samples // max(1, own_batch) * share_heads * share_tiles
    programs = own_batch * own_heads * _parts(own_queries, cut.n) * _parts(n_keys, cut.m)
    shares_each = max(1, _parts(shares, max(1, VALUES_PROGRAMS // max(1, programs))))
    parts = _parts(shares, shares_each)
    sums = torch.empty((parts, *values.shape), dtype=torch.float32, device=values.device)
    given = _common(call, cut) | _past(past) | {"sums": sums, "ONE_ROW": one_row}
    given |= {"own_B": own_batch, "own_H": own_heads, "own_N": own_queries, "own_M": n_keys}
    given |= {"share_H": share_heads, "share_N": share_tiles}
    given |= {"shares": shares, "shares_each": shares_each}
    return Launch("values", parts * programs, cut, given), sums


def is_shared(call: Call, values: Tensor) -> bool:
    """Whether several scores read the same element of a dense bias."""
    full = (call.samples, call.q.shape[1], call.longest_q, call.longest_kv)
    return tuple(values.shape) != full


def dense_grad(call: Call, values: Tensor) -> tuple[Grad, Tensor]:
    """The gradient of a dense bias that isn't shared, to be filled in by the query kernel."""
    new = torch.zeros if call.limited else torch.empty
    found = new(tuple(values.shape), dtype=values.dtype, device=values.device)
    b, h, n = (stride(found, axis) for axis in range(3))
    return Grad(found, b=b, h=h, n=n), found


def sums_grad(
    call: Call, cut: Tiles, kind: str, leaves: list[Tensor], unit: Tensor | None
) -> tuple[Grad, Tensor]:
    """The gradient sums [copies, H, cells] of any other part, in units where there is one.

    `cut` is the query kernel's.
    """
    learnt = leaves[LEARNT[kind][-1]]
    cells = {"distance": 3 * learnt.shape[-1], "slope": 1}.get(kind, learnt.shape[-1])
    dtype = torch.float32 if unit is None else torch.int64
    size = learnt.shape[0] * cells * dtype.itemsize
    spread = call.samples * _parts(call.longest_q, cut.n)
    copies = max(1, min(MOST_COPIES, COPIES_BYTES // max(1, size), spread))
    sums = torch.zeros((copies, learnt.shape[0], cells), dtype=dtype, device=learnt.device)
    heads = 0 if learnt.shape[0] == 1 else cells
    copy = learnt.shape[0] * cells
    return Grad(sums, h=heads, copy=copy, copies=copies, unit=unit), sums


def _common(call: Call, cut: Tiles) -> dict[str, Any]:
    """What every kernel takes."""
    drop = None
    if call.seed is not None:
        drop = Drop(call.seed, call.dropped, LEVELS / (LEVELS - call.dropped))
    seen = Seen(
        valid=call.valid,
        valid_b=0 if call.valid is None else stride(call.valid, 0),
        left=call.left,
        right=call.right,
        place_q=call.place_q,
        place_kv=call.place_kv,
        offsets_q=call.offsets_q,
        offsets_kv=call.offsets_kv,
    )
    (_, heads, n_queries, dim), (_, groups, n_keys, _) = call.q.shape, call.k.shape
    parts = tuple(part_of(*each) for each in grouped(call.mode, call.leaves))
    return {
        "q": matrix(call.q),
        "k": matrix(call.k),
        "v": matrix(call.v),
        "parts": parts,
        "PARTS": len(parts),  # which a kernel can't count before Triton 3.8: it holds None
        "seen": seen,
        "drop": drop,
        "H": heads,
        "G": groups,
        "N": n_queries,
        "M": n_keys,
        "scale": call.scale,
        "D": dim,
        "DIM": padded_dim(dim),
        "TILE_N": cut.n,
        "TILE_M": cut.m,
    }


def _past(past: Gradients) -> dict[str, Any]:
    return {
        "do": matrix(past.do),
        "lse": matrix(past.lse),
        "delta": matrix(past.delta[:, :, :, None])._replace(n=1),
    }


def _matrix_or_none(tensor: Tensor) -> Matrix | None:
    return matrix(tensor) if tensor.numel() else None


def _parts(length: int, size: int) -> int:
    return -(-length // size)
