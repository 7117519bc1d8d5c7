"""Attention through isoform's Triton kernels, as a PyTorch operator with fake and gradient rules.

Legend: B samples, H query heads, G key heads (G divides H), N queries, M keys, D features of a head.

`isoform::attention_forward` and `isoform::attention_backward` are what autograd, torch.compile and export see;
`attention_triton` is what to call. Importing this module needs no Triton, running the operators does.
"""

import importlib
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from isoform.core.attention.tuning import MAX_DIM, Tiles, padded_dim, target_of, tiles

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The axis that a kernel's stride argument counts along: `q_h` is the stride of q along its axis 1.
AXES = {"b": 0, "h": 1, "g": 1, "n": 2, "m": 2}
# Programs that the kernel of a shared bias aims at: enough to fill a large GPU a few times. A constant, not the number
# of multiprocessors at hand: it decides how partial sums are cut, and gradients shall not depend on the GPU's size.
BIAS_PROGRAMS = 512


def attention_triton(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGMD: Tensor,
    bias: Tensor | None,
    valid_kv_BM: Tensor | None,
    causal: bool,
    scale: float | None,
) -> Tensor:
    """softmax(scale q k' + bias) v, [B, H, N, D], by flash attention; differentiable once in q, k, v and bias.

    `bias` is added as it is and broadcasts to [B, H, N, M]; its gradient has its own shape. `valid_kv_BM` is bool, True
    = a real key. `causal` is aligned at the bottom right: query n sees the keys m <= n + M - N. `scale` None is
    1 / sqrt(D). Scores, softmax and sums are float32, and so are products of float32 inputs (no TF32). A query without
    keys gives 0.

    Raises ValueError for shapes, types or devices that the kernels do not serve, ImportError without Triton.
    Method: Dao, "FlashAttention-2", 2023 (arXiv:2307.08691).
    """
    _check(q_BHND, k_BGMD, v_BGMD, bias, valid_kv_BM)
    if bias is not None:
        bias = bias.reshape((1,) * (4 - bias.dim()) + bias.shape)
        bias = bias.expand(
            -1, -1, -1, k_BGMD.shape[2]
        )  # sharing along the keys is the one kind the kernels don't know
    scale = 1 / math.sqrt(q_BHND.shape[3]) if scale is None else scale
    out, _ = attention_forward(q_BHND, k_BGMD, v_BGMD, bias, valid_kv_BM, causal, scale)
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, valid: Tensor | None) -> None:
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape:
        raise ValueError(
            f"attention takes q [B,H,N,D] and k, v [B,G,M,D], got {_shape(q)}, {_shape(k)}, {_shape(v)}"
        )
    (n_batch, n_heads, n_queries, n_dims), (_, n_groups, n_keys, _) = q.shape, k.shape
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
    if any(t.device != q.device for t in (k, v, bias, valid) if t is not None):
        raise ValueError("q, k, v, bias and valid_kv must be on one device")
    if bias is not None:
        full = (n_batch, n_heads, n_queries, n_keys)
        if bias.dim() > 4 or any(
            s not in (1, f) for s, f in zip(bias.shape[::-1], full[::-1], strict=False)
        ):
            raise ValueError(f"bias {_shape(bias)} does not broadcast to [B,H,N,M] = {list(full)}")
        if n_queries * n_keys >= 2**31:
            raise ValueError(
                f"the kernels address at most 2^31 bias elements a head, got {n_queries} x {n_keys}"
            )
        if bias.dtype not in DTYPES:
            raise ValueError(f"bias must be float32, float16 or bfloat16, got {bias.dtype}")
    if valid is not None and (
        valid.dtype != torch.bool or tuple(valid.shape) not in ((n_batch, n_keys), (1, n_keys))
    ):
        raise ValueError(
            f"valid_kv must be bool [B,M] = {[n_batch, n_keys]}, got {valid.dtype} {_shape(valid)}"
        )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


@torch.library.custom_op("isoform::attention_forward", mutates_args=())
def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    valid: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Out [B, H, N, D], and logsumexp [B, H, 2, N] for the backward; `attention_triton` has checked the inputs."""
    kernels = _kernels("triton_forward", q)
    given = _given(q, k, v, bias, valid, causal, scale)
    out = _like_heads(q)
    lse = torch.empty((*q.shape[:2], 2, q.shape[2]), dtype=torch.float32, device=q.device)
    cut = _tiles("forward", given)
    programs = q.shape[0] * q.shape[1] * _parts(q.shape[2], cut.n)
    _launch(kernels.forward_kernel, programs, cut, given | {"out": out, "lse": lse})
    return out, lse


@attention_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    valid: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return _like_heads(q), q.new_empty((*q.shape[:2], 2, q.shape[2]), dtype=torch.float32)


@torch.library.custom_op("isoform::attention_backward", mutates_args=())
def attention_backward(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    valid: Tensor | None,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
    wants_dbias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients dq, dk, dv, dbias; dbias is empty unless it is wanted."""
    kernels = _kernels("triton_backward", q)
    (n_batch, n_heads, n_queries, _), n_groups, n_keys = q.shape, k.shape[1], k.shape[2]
    dq, dk, dv = _like_heads(q), _like_heads(k), _like_heads(v)
    dbias, shared = q.new_empty(0), False
    if bias is not None and wants_dbias:
        shared = bias.shape != (n_batch, n_heads, n_queries, n_keys)
        dbias = dbias if shared else torch.empty(bias.shape, dtype=bias.dtype, device=bias.device)
    given = _given(q, k, v, bias, valid, causal, scale)
    delta = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    given |= {"do": _rows(do), "out": _rows(out), "lse": lse, "delta": delta}

    cut = _tiles("query", given)
    programs = n_batch * n_heads * _parts(n_queries, cut.n)
    _launch(
        kernels.query_kernel,
        programs,
        cut,
        given | {"dq": dq, "dbias": dbias if dbias.numel() else None},
    )
    cut = _tiles("key", given)
    programs = n_batch * n_groups * _parts(n_keys, cut.m)
    _launch(kernels.key_kernel, programs, cut, given | {"dk": dk, "dv": dv})
    if shared:
        dbias = _shared_dbias(kernels, given)
    return dq, dk, dv, dbias


@attention_backward.register_fake
def _(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    valid: Tensor | None,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
    wants_dbias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = q.new_empty(0) if bias is None or not wants_dbias else bias.new_empty(bias.shape)
    return _like_heads(q), _like_heads(k), _like_heads(v), dbias


def _shared_dbias(kernels: ModuleType, given: dict[str, Any]) -> Tensor:
    """Gradient of a bias that samples, heads or queries share: `bias_kernel`'s partial sums, added in a fixed order."""
    q, bias = given["q"], given["bias"]
    own_batch, own_heads, own_queries, n_keys = bias.shape
    cut = _tiles("bias", given)
    one_row = own_queries < q.shape[2]
    share_heads = q.shape[1] // max(1, own_heads)
    share_tiles = _parts(q.shape[2], cut.n) if one_row else 1
    shares = q.shape[0] // max(1, own_batch) * share_heads * share_tiles
    programs = own_batch * own_heads * _parts(own_queries, cut.n) * _parts(n_keys, cut.m)
    shares_each = max(1, _parts(shares, max(1, BIAS_PROGRAMS // max(1, programs))))
    parts = _parts(shares, shares_each)
    sums = torch.empty((parts, *bias.shape), dtype=torch.float32, device=q.device)
    sizes = {
        "bias_B": own_batch,
        "bias_H": own_heads,
        "share_H": share_heads,
        "share_N": share_tiles,
    }
    sizes |= {"shares": shares, "shares_each": shares_each, "ONE_ROW": one_row}
    _launch(kernels.bias_kernel, parts * programs, cut, given | sizes | {"dbias": sums})
    return sums.sum(0).to(bias.dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, valid, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, bias, valid, *output)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, do: Tensor, _dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    wants_dbias = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = attention_backward(
        do, *ctx.saved_tensors, ctx.causal, ctx.scale, wants_dbias
    )
    return dq, dk, dv, dbias if wants_dbias else None, None, None, None


attention_forward.register_autograd(_gradients, setup_context=_setup)


def _kernels(name: str, q: Tensor) -> ModuleType:
    try:
        import triton
    except ImportError as error:
        raise ImportError(
            "impl='triton' needs the package triton; choose impl='sdpa' or 'auto'"
        ) from error
    kernels = importlib.import_module(f"isoform.core.attention.{name}")
    if not q.is_cuda and isinstance(kernels.load_rows, triton.runtime.JITFunction):
        raise ValueError(
            f"Triton kernels run on a GPU, got tensors on {q.device} (TRITON_INTERPRET=1 interprets them)"
        )
    return kernels


def _given(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    valid: Tensor | None,
    causal: bool,
    scale: float,
) -> dict[str, Any]:
    """The arguments that every kernel takes, by name."""
    tensors = {
        "q": _rows(q),
        "k": _rows(k),
        "v": _rows(v),
        "bias": _rows(bias),
        "valid": _rows(valid),
    }
    sizes = {"H": q.shape[1], "G": k.shape[1], "N": q.shape[2], "M": k.shape[2], "D": q.shape[3]}
    return tensors | sizes | {"scale": scale, "CAUSAL": causal, "DIM": padded_dim(q.shape[3])}


def _rows(tensor: Any) -> Any:
    """The tensor with its last axis contiguous, copied only if it is not."""
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()


def _tiles(kernel: str, given: dict[str, Any]) -> Tiles:
    q = given["q"]
    return tiles(
        kernel, target_of(q.device), q.shape[3], q.element_size(), given["bias"] is not None
    )


def _launch(kernel: Any, programs: int, cut: Tiles, values: dict[str, Any]) -> None:
    """Run `programs` programs of a kernel with its arguments by name, strides being read off the tensors."""
    values = values | {"TILE_N": cut.n, "TILE_M": cut.m}
    arguments = {}
    for name in kernel.arg_names:
        if name in values:
            arguments[name] = values[name]
        else:
            owner, _, axis = name.rpartition("_")
            arguments[name] = _stride(values[owner], AXES[axis])
    if programs:
        with torch.cuda.device_of(values["q"]):
            kernel[(programs,)](**arguments, num_warps=cut.warps, num_stages=cut.stages)


def _stride(tensor: Tensor | None, axis: int) -> int:
    """Elements from one entry of an axis to the next; 0 where all share the one entry that there is."""
    return 0 if tensor is None or tensor.shape[axis] == 1 else tensor.stride(axis)


def _like_heads(x_BHND: Tensor) -> Tensor:
    """An empty [B, H, N, D] whose memory is [B, N, H, D], so that joining the heads afterwards is free."""
    n_batch, n_heads, n_rows, n_dims = x_BHND.shape
    return torch.empty(
        (n_batch, n_rows, n_heads, n_dims), dtype=x_BHND.dtype, device=x_BHND.device
    ).transpose(1, 2)


def _parts(length: int, size: int) -> int:
    return -(-length // size)
