"""Attention in compiled C on a CPU: what goes into `native.c` and what comes out, as a function that autograd knows.

B samples, H query heads, G key/value heads, N queries, M keys, D features a head, T and S queries and keys of a packed
batch, V table rows, P parts of the samples.

A part's samples are one thread's, and what several parts add to is summed part by part: results have the same bits for
any number of threads.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

import isoform.core.attention.bias as biases
from isoform.core.attention.bias import Bias, Table
from isoform.core.attention.mask import Visible
from isoform.core.attention.native_build import native
from isoform.core.ops.ragged import longest_of

MOST_PARTS = 64
SMALL = 2**20  # products of numbers below which a second thread costs more than it saves
LARGE_BYTES = 2**22
ID_TYPES = (torch.uint8, torch.int16, torch.int32)
NO_BIAS, DENSE, TABLE = range(3)
OUT_OF_TABLE, NO_MEMORY = 1, 2


def attention_native(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGMD: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
) -> Tensor:
    """[B, H, N, D], float32; see `isoform.core.attention.attention`. Without windows, causality and dropout.

    Raises IndexError for ids that are no rows of their table.
    """
    assert not visible.limited
    kind, ids, values = _compact(bias, k_BGMD.shape[2])
    valid = visible.valid_kv_BM
    valid = None if valid is None else valid.contiguous()
    return _Native.apply(q_BHND, k_BGMD, v_BGMD, values, kind, ids, valid, None, scale)


def attention_native_packed(
    q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor, offsets_q: Tensor, offsets_kv: Tensor, scale: float
) -> Tensor:
    """[T, H, D] of samples one behind the other, float32; offsets are int64 [B + 1] on the CPU."""
    ends = (offsets_q.contiguous(), offsets_kv.contiguous())
    return _Native.apply(q_THD, k_SGD, v_SGD, None, NO_BIAS, None, None, ends, scale)


def _compact(bias: Bias | None, n_kv: int) -> tuple[int, Tensor | None, Tensor | None]:
    """The kind, ids [B or 1, N or 1, M] and table [H or 1, V]; or the dense bias [B, H, N, M], 1 where it is shared.

    Keys' axis is never a shared one.
    """
    if bias is None:
        return NO_BIAS, None, None
    if isinstance(bias, Table):
        ids = bias.ids_BNM if bias.ids_BNM.dtype in ID_TYPES else bias.ids_BNM.int()
        ids = ids.expand(*ids.shape[:2], n_kv).contiguous()
        return TABLE, ids, bias.table_VH.float().T.contiguous()
    dense = bias.to_dense().float()
    return DENSE, None, _adjacent(dense.expand(*dense.shape[:3], n_kv))


class _Rows(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("sample", ctypes.c_int64),
        ("head", ctypes.c_int64),
        ("row", ctypes.c_int64),
    )


def _numbers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_int64) for name in names]


class _Call(ctypes.Structure):
    """As `native.c` has it."""

    _fields_ = (
        *_numbers("n_parts", "n_batch", "n_heads", "n_groups", "n_q", "n_kv", "n_dims"),
        *((name, ctypes.c_void_p) for name in ("ends_q", "ends_kv")),
        ("scale", ctypes.c_float),
        *((name, _Rows) for name in ("q", "k", "v", "out", "stats", "d_out", "dq", "dk", "dv")),
        ("valid", ctypes.c_void_p),
        *_numbers("kind"),
        *((name, _Rows) for name in ("bias", "d_bias")),
        *_numbers("d_part", "add"),
        ("ids", ctypes.c_void_p),
        *_numbers("ids_sample", "ids_row", "ids_bytes", "n_rows"),
    )


class _Native(torch.autograd.Function):
    """q is [B, H, N, D] or, with `ends` (of queries and of keys), [T, H, D]; `values` and `ids` as `_compact` says."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        values: Tensor | None,
        kind: int,
        ids: Tensor | None,
        valid: Tensor | None,
        ends: tuple[Tensor, Tensor] | None,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, values, ids, valid, *(ends or ()))
        ctx.kind, ctx.scale = kind, scale
        # Heads inside rows, so that joining them afterwards needs no copy.
        shape = q.shape if ends else (q.shape[0], q.shape[2], q.shape[1], q.shape[3])
        out = q.new_empty(shape)
        out = out if ends else out.transpose(1, 2)
        ctx.stats = q.new_empty(*q.shape[:-1], 2)
        q, k, v = (_adjacent(x) for x in (q, k, v))
        call = _call(q, k, v, ctx, values, ids, valid, ends)
        call.out = _rows(_in_large_pages(out))
        _compute(call, back=False)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "compiled attention has no second derivatives: ask for impl='reference'"
            )
        q, k, v, values, ids, valid, *ends = ctx.saved_tensors
        q, k, v, d_out = (_adjacent(x) for x in (q, k, v, d_out))
        call = _call(q, k, v, ctx, values, ids, valid, ends)
        d_qkv = [_in_large_pages(_like(x)) for x in (q, k, v)]
        call.d_out = _rows(d_out)
        call.dq, call.dk, call.dv = (_rows(x) for x in d_qkv)
        total = None
        if ctx.needs_input_grad[3]:
            total = _place_for_bias(call, ctx.kind, values, q)
        _compute(call, back=True)
        if total is not None and call.d_part:
            parts = total.unbind(0)
            total = parts[0]
            for part in parts[1:]:
                total += part
        return *d_qkv, total, None, None, None, None, None


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ctx: Any,
    values: Tensor | None,
    ids: Tensor | None,
    valid: Tensor | None,
    ends: Any,
) -> _Call:
    """What forward and backward have in common."""
    call = _Call(scale=ctx.scale, kind=ctx.kind)
    call.n_heads, call.n_groups, call.n_dims = q.shape[1], k.shape[1], q.shape[-1]
    if ends:
        call.ends_q, call.ends_kv = (each.data_ptr() for each in ends)
        call.n_batch = len(ends[0]) - 1
        call.n_q, call.n_kv = (longest_of(each) for each in ends)
    else:
        call.n_batch, call.n_q, call.n_kv = q.shape[0], q.shape[2], k.shape[2]
    call.n_parts = min(call.n_batch, MOST_PARTS)
    call.q, call.k, call.v, call.stats = (_rows(x) for x in (q, k, v, ctx.stats))
    if valid is not None:
        call.valid = valid.data_ptr()
    if values is not None and ids is not None:
        call.bias = _Rows(values.data_ptr(), 0, _step(values, 0), 0)
        call.ids, call.ids_bytes = ids.data_ptr(), ids.element_size()
        call.ids_sample, call.ids_row, call.n_rows = _step(ids, 0), _step(ids, 1), values.shape[1]
    elif values is not None:
        call.bias = _Rows(values.data_ptr(), *(_step(values, axis) for axis in range(3)))
    return call


def _place_for_bias(call: _Call, kind: int, values: Tensor, q: Tensor) -> Tensor:
    """Where the bias's gradient goes: of its shape, or [P, ...] where parts meet in it (then d_part isn't 0)."""
    meet = kind == TABLE or values.shape[0] < q.shape[0]
    call.add = int(meet or values.shape[:3] != q.shape[:3])
    if not meet:
        total = torch.zeros(values.shape) if call.add else torch.empty(values.shape)
    else:
        most = biases.LIMIT_BYTES // (4 * values.numel())
        call.n_parts = max(1, min(call.n_parts, most))
        total = torch.zeros(call.n_parts, *values.shape)
        call.d_part = values.numel()
    own = total[0] if meet else total
    if kind == TABLE:
        call.d_bias = _Rows(total.data_ptr(), 0, _step(own, 0), 0)
    else:
        call.d_bias = _Rows(total.data_ptr(), *(_step(own, axis) for axis in range(3)))
    return total


def _compute(call: _Call, back: bool) -> None:
    library = native().library
    assert library is not None
    n_parts = call.n_parts
    work = call.n_batch * call.n_heads * call.n_q * call.n_kv * call.n_dims
    n_threads = 1 if work < SMALL else min(torch.get_num_threads(), n_parts)

    def run(thread: int) -> int:
        first, last = (each * n_parts // n_threads for each in (thread, thread + 1))
        code: int = library.isoform_attention(ctypes.byref(call), first, last, int(back))
        return code

    if n_threads == 1:
        codes = [run(0)]
    else:  # the interpreter's lock is let go of while C computes
        with ThreadPoolExecutor(n_threads) as pool:
            codes = list(pool.map(run, range(n_threads)))
    if NO_MEMORY in codes:
        raise MemoryError("compiled attention found no memory to work in")
    if OUT_OF_TABLE in codes:
        raise IndexError(f"an id of the bias is no row of its table of {call.n_rows} rows")


def _in_large_pages(x: Tensor) -> Tensor:
    """Fresh room, before anything is written there."""
    library = native().library
    if library is not None and x.nbytes >= LARGE_BYTES:
        library.isoform_large_pages(x.data_ptr(), x.nbytes)
    return x


def _rows(x: Tensor) -> _Rows:
    """Padded [B, H, N, ...] or packed [T, H, ...]."""
    if x.dim() == 4:
        return _Rows(x.data_ptr(), x.stride(0), x.stride(1), x.stride(2))
    return _Rows(x.data_ptr(), 0, x.stride(1), x.stride(0))


def _step(x: Tensor, axis: int) -> int:
    return 0 if x.shape[axis] == 1 else x.stride(axis)


def _adjacent(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """Room for a gradient, laid out as x is, so that what made x out of one tensor needs no copy."""
    if x.dim() == 4 and x.stride(1) < x.stride(2):
        return torch.empty_like(x.transpose(1, 2), memory_format=torch.contiguous_format).transpose(
            1, 2
        )
    return torch.empty_like(x, memory_format=torch.contiguous_format)
