"""Attention over packed tokens: each sample's tokens attend among themselves.

B samples, H query heads, G key/value heads, N and M the longest sample's queries and keys, D features a head; T
queries and S keys in all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def attention_varlen(
    attend: Callable[..., Tensor],
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGE: Tensor,
    offsets_q: Tensor | None,
    offsets_kv: Tensor | None,
    **settings: Any,
) -> Tensor:
    """[T, H, E] `attend` (the padded operation) on the samples side by side, its padding taken out again."""
    if (
        q_THD.dim() != 3
        or k_SGD.dim() != 3
        or v_SGE.dim() != 3
        or k_SGD.shape[:2] != v_SGE.shape[:2]
    ):
        raise ValueError(
            "packed attention takes q [T, H, D], k [S, G, D] and v [S, G, E], got "
            f"q {list(q_THD.shape)}, k {list(k_SGD.shape)}, v {list(v_SGE.shape)}"
        )
    if offsets_q is None:
        raise ValueError("packed attention needs offsets_q where offsets_kv is given")
    rows_q = _Layout("offsets_q", offsets_q, q_THD)
    rows_kv = (
        rows_q
        if offsets_kv is None or offsets_kv is offsets_q
        else _Layout("offsets_kv", offsets_kv, k_SGD)
    )
    if rows_kv is rows_q and k_SGD.shape[0] != q_THD.shape[0]:
        raise ValueError(
            f"{k_SGD.shape[0]} packed keys beside {q_THD.shape[0]} queries need their own offsets_kv"
        )
    if rows_kv.n_batch != rows_q.n_batch:
        raise ValueError(
            f"offsets_q is of {rows_q.n_batch} samples and offsets_kv of {rows_kv.n_batch}"
        )
    if q_THD.shape[0] == 0 or k_SGD.shape[0] == 0:
        nothing = q_THD[..., :1]
        return nothing.masked_fill(torch.ones_like(nothing, dtype=torch.bool), 0.0).repeat(
            1, 1, v_SGE.shape[2]
        )
    q, k, v = rows_q.pad(q_THD), rows_kv.pad(k_SGD), rows_kv.pad(v_SGE)
    return rows_q.unpad(attend(q, k, v, valid_q=rows_q.valid, valid_kv=rows_kv.valid, **settings))


class _Layout:
    """Where packed tokens stand once they are padded; `valid` is None if all samples are of one length."""

    def __init__(self, name: str, offsets: Tensor, packed: Tensor) -> None:
        ends = offsets.tolist()
        lengths = [b - a for a, b in pairwise(ends)]
        if (
            offsets.dim() != 1
            or not lengths
            or ends[0] != 0
            or ends[-1] != packed.shape[0]
            or min(lengths) < 0
        ):
            raise ValueError(
                f"{name} must rise from 0 to the {packed.shape[0]} packed tokens, got {ends}"
            )
        self.n_batch, self.n_longest = len(lengths), max(lengths)
        self.valid: Tensor | None = None
        if min(lengths) < self.n_longest:
            place = torch.arange(self.n_longest, device=packed.device)
            starts = offsets.to(packed.device)[:-1, None]
            self.valid = place < offsets.diff().to(packed.device)[:, None]
            # Padding repeats a token: its values are finite, and nothing reads them.
            self.source = (starts + place).clamp(max=packed.shape[0] - 1)
            self.target = self.valid.flatten().nonzero()[:, 0]

    def pad(self, x_THD: Tensor) -> Tensor:
        """[B, H, longest, D]."""
        if self.valid is None:
            return x_THD.unflatten(0, (self.n_batch, self.n_longest)).transpose(1, 2)
        return (
            x_THD.index_select(0, self.source.flatten())
            .unflatten(0, self.source.shape)
            .transpose(1, 2)
        )

    def unpad(self, x_BHND: Tensor) -> Tensor:
        """[T, H, D]."""
        x = x_BHND.transpose(1, 2).flatten(0, 1)
        return x if self.valid is None else x.index_select(0, self.target)
