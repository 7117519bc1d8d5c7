"""Attention through isoform's Triton kernels, as a PyTorch operator with fake and gradient rules.

Legend: B samples, H query heads, G key heads (G divides H), N queries, M keys, D features of a head; T and S are the
queries and keys of a whole packed batch.

`isoform::attention_forward` and `isoform::attention_backward` are what autograd, torch.compile and export see;
`attention_triton` and `attention_triton_packed` are what to call. Importing this module needs no Triton, running the
operators does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from isoform.core.attention.bias import (
    Bias,
    Dense,
    Distance,
    Gaussians,
    PathTable,
    RelativeGrid,
    Table,
    flat,
    kinds,
)
from isoform.core.attention.mask import Visible
from isoform.core.attention.triton_arguments import LEARNT, Grad, grouped
from isoform.core.attention.triton_launch import (
    Call,
    Gradients,
    cut_of,
    dense_grad,
    forward_launch,
    is_shared,
    kernel_of,
    key_launch,
    like_heads,
    like_rest,
    query_launch,
    start,
    sums_grad,
    values_launch,
)
from isoform.core.attention.tuning import MAX_DIM
from isoform.core.ops.dropout import LEVELS
from isoform.core.ops.ragged import ends_of

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_CALL = (
    "Tensor q, Tensor k, Tensor v, Tensor[] leaves, str mode, Tensor? valid, Tensor? place_q, Tensor? place_kv, "
    "Tensor? offsets_q, Tensor? offsets_kv, Tensor? seed, int? left, int? right, SymInt longest_q, SymInt longest_kv, "
    "int dropped, float scale"
)


def attention_triton(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGMD: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """softmax(scale q k' + bias) v, [B, H, N, D], by flash attention; differentiable once in q, k, v and the bias.

    The bias is computed in the kernels from what its value holds, and its tables, bases and slopes receive gradients:
    in the same bits every time under `torch.use_deterministic_algorithms(True)`. Scores, softmax and sums are float32,
    and so are products of float32 inputs (no TF32). A query without keys gives 0. Dropout is a function of the seed
    (None: drawn from torch's generator of the device), the head and the places of query and key.

    Raises ValueError for shapes, types or devices that the kernels do not serve, ImportError without Triton.
    Method: Dao, "FlashAttention-2", 2023 (arXiv:2307.08691).
    """
    mode, leaves = leaves_of(bias)
    call = Call(
        q_BHND,
        k_BGMD,
        v_BGMD,
        leaves,
        mode,
        visible.valid_kv_BM,
        place_q=_as_int(visible.place_q_BN),
        place_kv=_as_int(visible.place_kv_BM),
        offsets_q=None,
        offsets_kv=None,
        seed=_seed(dropout, seed, q_BHND.device),
        left=visible.left,
        right=visible.right,
        longest_q=q_BHND.shape[2],
        longest_kv=k_BGMD.shape[2],
        dropped=_dropped(dropout),
        scale=scale,
    )
    _check(call)
    out, _, _ = attention_forward(*call)
    return out


def attention_triton_packed(
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGD: Tensor,
    offsets_q: Tensor | None,
    offsets_kv: Tensor | None,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float | None,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """[T, H, D], `attention_triton` among each sample's own rows, offsets[b] to offsets[b + 1], without any padding.

    A bias is laid out [B, H, longest N, longest M]. Dropout drops what it would in the padded layout. Offsets are read
    by the CPU as well, to be checked and for the size of the launch.
    """
    device = q_THD.device
    if q_THD.dim() != 3 or k_SGD.dim() != 3 or v_SGD.dim() != 3 or offsets_q is None:
        raise ValueError(
            "packed attention takes q [T, H, D], k and v [S, G, D] and offsets_q, got "
            f"q {_shape(q_THD)}, k {_shape(k_SGD)}, v {_shape(v_SGD)}"
        )
    if offsets_kv is None:
        offsets_kv = offsets_q
    longest = [
        _longest("offsets_q", offsets_q, q_THD.shape[0]),
        _longest("offsets_kv", offsets_kv, k_SGD.shape[0]),
    ]
    if offsets_q.shape != offsets_kv.shape:
        raise ValueError(
            f"offsets_q is of {len(offsets_q) - 1} samples and offsets_kv of {len(offsets_kv) - 1}"
        )
    if torch.is_autocast_enabled(device.type):
        low = torch.get_autocast_dtype(device.type)
        q_THD, k_SGD, v_SGD = (x.to(low) for x in (q_THD, k_SGD, v_SGD))
    mode, leaves = leaves_of(bias)
    q, k, v = (x.transpose(0, 1)[None] for x in (q_THD, k_SGD, v_SGD))
    call = Call(
        q,
        k,
        v,
        leaves,
        mode,
        valid=None,
        place_q=None,
        place_kv=None,
        offsets_q=offsets_q.to(device).int().contiguous(),
        offsets_kv=offsets_kv.to(device).int().contiguous(),
        seed=_seed(dropout, seed, device),
        left=visible.left,
        right=visible.right,
        longest_q=longest[0],
        longest_kv=longest[1],
        dropped=_dropped(dropout),
        scale=q_THD.shape[2] ** -0.5 if scale is None else scale,
    )
    _check(call)
    out, _, _ = attention_forward(*call)
    return out[0].transpose(0, 1)


def _as_int(place: Tensor | None) -> Tensor | None:
    return None if place is None else place.int().contiguous()


def _longest(name: str, offsets: Tensor, n_rows: int) -> int:
    ends = ends_of(offsets)
    lengths = [b - a for a, b in pairwise(ends)]
    if not lengths or ends[0] != 0 or ends[-1] != n_rows or min(lengths) < 0:
        raise ValueError(f"{name} must rise from 0 to the {n_rows} packed tokens, got {ends}")
    return max(lengths)


def leaves_of(bias: Bias | None) -> tuple[str, list[Tensor]]:
    """The mode of a bias, and its parts' tensors as the kernels read them: float32, heads slowest, last axis dense."""
    return kinds(bias), [leaf for part in flat(bias) for leaf in _leaves(part)]


def _leaves(part: Bias) -> list[Tensor]:
    match part:
        case Dense():
            values = part.b.view(part.shape)
            return [values if values.dtype in DTYPES else values.float()]
        case Table():
            return [part.ids_BNM, _by_head(part.table_VH)]
        case PathTable():
            n_hops, n_features = part.ids_BNMPF.shape[3:]
            with torch.autocast(part.table_VH.device.type, enabled=False):
                tables_PVH = torch.matmul(part.table_VH.float(), part.mixing_PHH[:n_hops].float())
            length = part.length_BNM.int()
            return [part.ids_BNMPF, length, _by_head(tables_PVH.flatten(0, 1) / n_features)]
        case RelativeGrid():
            return [part.codes_q_N.int(), part.codes_kv_M.int(), _by_head(part.table_VH)]
        case Distance():
            coords = [x.detach().float() for x in (part.coords_q_BNC, part.coords_kv_BMC)]
            basis = part.basis
            if not isinstance(basis, Gaussians):
                return [*coords, basis.slope_H.float()]
            mean, std = basis.means_K.float(), basis.stds_K.float()
            return [*coords, mean.contiguous(), std.contiguous(), _by_head(basis.weights_KH)]
    raise ValueError(f"the Triton kernels know no bias of type {type(part).__name__}")


def _by_head(table_VH: Tensor) -> Tensor:
    return table_VH.float().t().contiguous()


def _seed(dropout: float, seed: int | None, device: torch.device) -> Tensor | None:
    if dropout == 0:
        return None
    if seed is None:
        return torch.randint(2**62, (1,), device=device)
    return torch.full((1,), seed, dtype=torch.int64, device=device)


def _dropped(dropout: float) -> int:
    return min(round(dropout * LEVELS), LEVELS - 1)


def _check(call: Call) -> None:
    q, k, v = call.q, call.k, call.v
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape:
        raise ValueError(
            f"attention takes q [B,H,N,D] and k, v [B,G,M,D], got {_shape(q)}, {_shape(k)}, {_shape(v)}"
        )
    (n_batch, n_heads, _, n_dims), n_groups = q.shape, k.shape[1]
    if k.shape[0] != n_batch or k.shape[3] != n_dims or n_groups == 0 or n_heads % n_groups:
        raise ValueError(
            f"k {_shape(k)} does not fit q {_shape(q)}: samples and features agree, G divides H"
        )
    if q.dtype not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
        raise ValueError(
            f"q, k, v must be all float32, float16 or bfloat16, got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if not 1 <= n_dims <= MAX_DIM:
        raise ValueError(f"the Triton kernels serve heads of 1 to {MAX_DIM} features, got {n_dims}")
    tensors = [k, v, *call.leaves, call.valid, call.offsets_q, call.offsets_kv]
    if any(t.device != q.device for t in tensors if t is not None):
        raise ValueError("q, k, v, the bias's tensors and valid_kv must be on one device")
    for kind, leaves in grouped(call.mode, call.leaves):
        _check_part(call, kind, leaves)
    valid, n_keys = call.valid, k.shape[2]
    if valid is not None and (
        valid.dtype != torch.bool or tuple(valid.shape) not in ((n_batch, n_keys), (1, n_keys))
    ):
        raise ValueError(
            f"valid_kv must be bool [B,M] = {[n_batch, n_keys]}, got {valid.dtype} {_shape(valid)}"
        )


def _check_part(call: Call, kind: str, leaves: list[Tensor]) -> None:
    full = (call.samples, call.q.shape[1], call.longest_q, call.longest_kv)
    n_batch, _, n_queries, n_keys = full
    if kind == "dense":
        given = tuple(leaves[0].shape)
    elif kind in ("table", "path"):
        given = (leaves[0].shape[0], leaves[-1].shape[0], *leaves[0].shape[1:3])
    elif kind == "grid":
        given = (1, leaves[-1].shape[0], leaves[0].shape[0], leaves[1].shape[0])
    else:
        coords_q, coords_kv = leaves[:2]
        given = (coords_q.shape[0], leaves[-1].shape[0], coords_q.shape[1], coords_kv.shape[1])
        if coords_kv.shape[0] not in (1, n_batch) or given[2:] != full[2:]:
            raise ValueError(
                f"coordinates {_shape(coords_q)} and {_shape(coords_kv)} do not fit [B,N,M] = "
                f"{[n_batch, n_queries, n_keys]}"
            )
    if any(own not in (1, size) for own, size in zip(given, full, strict=True)):
        raise ValueError(
            f"a {kind} bias {list(given)} does not broadcast to [B,H,N,M] = {list(full)}"
        )
    elements = n_queries * n_keys * (math.prod(leaves[0].shape[3:]) if kind == "path" else 1)
    if elements >= 2**31:
        raise ValueError(
            f"the kernels address at most 2^31 elements of a bias a head, got {n_queries} x {n_keys}"
        )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


@torch.library.custom_op(
    "isoform::attention_forward", mutates_args=(), schema=f"({_CALL}) -> (Tensor, Tensor, Tensor)"
)
def attention_forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Out [B, H, N, D]; for the backward logsumexp [B, H, 2, N] and what out's type lost of it (float32: empty).

    `attention_triton` has checked the inputs.
    """
    call = Call(*arguments)
    _ready(call.q)
    q = call.q
    out = like_heads(q)
    lse = torch.empty((*q.shape[:2], 2, q.shape[2]), dtype=torch.float32, device=q.device)
    rest = like_rest(q)
    start(forward_launch(call, cut_of("forward", call), out, lse, rest), q)
    return out, lse, rest


@attention_forward.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    q = Call(*arguments).q
    lse = q.new_empty((*q.shape[:2], 2, q.shape[2]), dtype=torch.float32)
    return like_heads(q), lse, like_rest(q)


@torch.library.custom_op(
    "isoform::attention_backward",
    mutates_args=(),
    schema=f"(Tensor do, Tensor out, Tensor lse, Tensor rest, bool[] wants, bool deterministic, {_CALL}) -> Tensor[]",
)
def attention_backward(
    do: Tensor,
    out: Tensor,
    lse: Tensor,
    rest: Tensor,
    wants: Sequence[bool],
    deterministic: bool,
    *arguments: Any,
) -> list[Tensor]:
    """The gradients dq, dk, dv and one of every leaf, empty where it isn't wanted.

    `deterministic`: sums that many programs add to are sums of integers.
    """
    call = Call(*arguments)
    _ready(call.q)
    q, k, device = call.q, call.k, call.q.device
    cut = cut_of("query", call)
    dq, dk, dv = like_heads(q), like_heads(k), like_heads(k)
    delta = torch.empty(tuple(q.shape[:3]), dtype=torch.float32, device=device)
    past = Gradients(do, out, lse, rest, delta)
    grads, found = [], []
    for wanted, (kind, leaves) in zip(
        _wanted(call, wants), grouped(call.mode, call.leaves), strict=True
    ):
        grad, sums = Grad(), None
        if wanted and kind != "dense":
            unit = _unit(call, do, kind, leaves) if deterministic else None
            grad, sums = sums_grad(call, cut, kind, leaves, unit)
        elif wanted and not is_shared(call, leaves[0]):
            grad, sums = dense_grad(call, leaves[0])
        grads.append(grad)
        found.append(sums)
    start(query_launch(call, cut, past, dq, tuple(grads)), q)
    start(key_launch(call, cut_of("key", call), past, dk, dv), q)
    gradients = [dq, dk, dv]
    for (kind, leaves), wanted, grad, sums in zip(
        grouped(call.mode, call.leaves), _wanted(call, wants), grads, found, strict=True
    ):
        dleaves = [leaf.new_empty(0) for leaf in leaves]
        if wanted and kind == "dense":
            dleaves[0] = _values_gradient(call, past, leaves[0]) if sums is None else sums
        elif wanted and sums is not None:
            _put(dleaves, kind, leaves, _total(sums, grad.unit))
        gradients += dleaves
    return gradients


@attention_backward.register_fake
def _(
    do: Tensor,
    out: Tensor,
    lse: Tensor,
    rest: Tensor,
    wants: Sequence[bool],
    deterministic: bool,
    *arguments: Any,
) -> list[Tensor]:
    call = Call(*arguments)
    gradients = [like_heads(call.q), like_heads(call.k), like_heads(call.k)]
    for wanted, (kind, leaves) in zip(
        _wanted(call, wants), grouped(call.mode, call.leaves), strict=True
    ):
        for place, leaf in enumerate(leaves):
            learnt = wanted and place in LEARNT[kind]
            gradients.append(leaf.new_empty(leaf.shape if learnt else 0))
    return gradients


def _wanted(call: Call, wants: Sequence[bool]) -> list[bool]:
    """Of each part, whether one of its leaves wants a gradient."""
    wanted, first = [], 0
    for _, leaves in grouped(call.mode, call.leaves):
        wanted.append(any(wants[first : first + len(leaves)]))
        first += len(leaves)
    return wanted


def _values_gradient(call: Call, past: Gradients, values: Tensor) -> Tensor:
    """Gradient of a dense bias that is shared: `values_kernel`'s partial sums, added in a fixed order."""
    # Sharing along the keys is the one kind that the kernel doesn't know.
    wide = values.expand(-1, -1, -1, call.longest_kv)
    launch, sums = values_launch(call, cut_of("values", call), past, wide)
    start(launch, values)
    return sums.sum(0).sum_to_size(values.shape).to(values.dtype)


def _total(sums: Tensor, unit: Tensor | None) -> Tensor:
    """[H, cells] float32 from sums [copies, H, cells], in units where there is one."""
    return sums.sum(0) if unit is None else (sums.sum(0).double() / unit).float()


def _put(dleaves: list[Tensor], kind: str, leaves: list[Tensor], total: Tensor) -> None:
    """The gradients of a part's leaves from the sums that its scores' gradients make."""
    if kind != "distance":
        dleaves[LEARNT[kind][0]] = total.view(leaves[LEARNT[kind][0]].shape)
        return
    stds, weights = leaves[3:]
    plain, first, second = total.view(weights.shape[0], 3, -1).unbind(1)
    dleaves[2] = (weights * first).sum(0) / stds
    dleaves[3] = (weights * second).sum(0) / stds
    dleaves[4] = plain.contiguous()


def _unit(call: Call, do: Tensor, kind: str, leaves: list[Tensor]) -> Tensor:
    """How many units make 1 in integer sums of a part's gradient: a power of two such that none can overflow.

    The probabilities of a row sum to 1, so by Cauchy and Schwarz a row's |ds| sum to at most 2 |do| |v| (over the share
    that dropout keeps); a cell takes from at most all rows of all samples and, where it is shared, heads.
    """
    if do.numel() == 0 or call.v.numel() == 0:
        return torch.ones(1, device=do.device)
    longest = [torch.linalg.vector_norm(x.float(), dim=-1).amax() for x in (do, call.v)]
    n_rows = call.q.shape[0] * call.q.shape[2] * call.q.shape[1]
    most = 2 * n_rows * longest[0] * longest[1] * LEVELS / (LEVELS - call.dropped)
    if kind == "path":
        most = most * leaves[0].shape[4]
    if kind == "slope":
        reach = [torch.linalg.vector_norm(x, dim=-1).amax() for x in leaves[:2]]
        most = most * (reach[0] + reach[1])
    exponent = (62 - most.log2()).floor().clamp(-120, 120)
    return torch.exp2(exponent).reshape(1)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call = Call(*inputs)
    optional = (
        call.valid,
        call.place_q,
        call.place_kv,
        call.offsets_q,
        call.offsets_kv,
        call.seed,
    )
    ctx.save_for_backward(*output, call.q, call.k, call.v, *optional, *call.leaves)
    ctx.settings = call.mode, *call[11:]
    ctx.mark_non_differentiable(*output[1:])


def _gradients(ctx: Any, do: Tensor, *_: Tensor | None) -> tuple[Any, ...]:
    out, lse, rest, q, k, v, *others = ctx.saved_tensors
    optional, leaves = others[:6], others[6:]
    mode, *settings = ctx.settings
    wants = list(ctx.needs_input_grad[3])
    deterministic = torch.are_deterministic_algorithms_enabled()
    call = (q, k, v, leaves, mode, *optional, *settings)
    dq, dk, dv, *dleaves = attention_backward(do, out, lse, rest, wants, deterministic, *call)
    given = [d if want else None for d, want in zip(dleaves, wants, strict=True)]
    return dq, dk, dv, given, *[None] * 13


attention_forward.register_autograd(_gradients, setup_context=_setup)


def _ready(q: Tensor) -> None:
    """Raises ImportError without Triton, ValueError where its kernels can't run."""
    if find_spec("triton") is None:
        raise ImportError("impl='triton' needs the package triton; choose impl='sdpa' or 'auto'")
    import triton

    if not q.is_cuda and isinstance(kernel_of("forward"), triton.runtime.JITFunction):
        raise ValueError(
            f"Triton kernels run on a GPU, got tensors on {q.device} (TRITON_INTERPRET=1 interprets them)"
        )
