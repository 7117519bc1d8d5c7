"""Attention: one operation above implementations that can be exchanged.

B samples, H query heads, G key/value heads, N queries, M keys, T and S packed queries and keys, D features a head.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from isoform.core.attention.bias import Bias, Dense, Distance, Gaussians, PathTable, Sum, Table, materialise
from isoform.core.attention.reference import attention_reference, probabilities
from isoform.core.attention.sdpa import attention_sdpa
from isoform.core.attention.visible import Visible, visible

Impl = Literal["auto", "reference", "sdpa", "triton"]
Window = int | tuple[int | None, int | None]


def attention(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGMD: Tensor,
    *,
    bias: Bias | Tensor | None = None,
    valid_q: Tensor | None = None,
    valid_kv: Tensor | None = None,
    offsets_q: Tensor | None = None,
    offsets_kv: Tensor | None = None,
    causal: bool = False,
    window: Window | None = None,
    dropout: float = 0.0,
    seed: int | None = None,
    scale: float | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """softmax(scale q k^T + bias) v over the keys that each query sees, [B, H, N, D]."""
    if isinstance(bias, Tensor):
        bias = Dense(bias)
    scale = 1 / math.sqrt(q_BHND.shape[-1]) if scale is None else scale
    seen = visible(q_BHND.shape[2], k_BGMD.shape[2], valid_q, valid_kv, causal, window)
    if impl == "auto":
        impl = "sdpa"
    match impl:
        case "reference":
            out = attention_reference(
                q_BHND, k_BGMD, v_BGMD, bias=bias, visible=seen, scale=scale, dropout=dropout, seed=seed
            )
        case "sdpa":
            out = attention_sdpa(q_BHND, k_BGMD, v_BGMD, bias=bias, visible=seen, scale=scale, dropout=dropout, seed=seed)
        case _:
            raise ValueError(f"unknown attention implementation {impl!r}: auto, reference, sdpa or triton")
    return out if valid_q is None else out.masked_fill(~valid_q[:, None, :, None], 0.0)
