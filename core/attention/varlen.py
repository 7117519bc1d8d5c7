"""Attention over packed tokens: each sample's tokens attend among themselves.

B samples, H query heads, G key/value heads, N and M a sample's queries and keys, D features a head, E features of a
value; T queries and S keys in all, C samples of one group.

On a CPU, compiled C takes samples where they stand. Where it can't serve, samples of one size are computed together, so
that work follows the pairs there are: nothing is padded, and no mask is needed. Elsewhere, and where a bias is laid out
for the longest sample, samples are padded to that one (`dispatch.LAYOUTS`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from isoform.core.attention.dispatch import Request, layout_of
from isoform.core.attention.native import attention_native_packed
from isoform.core.ops.ragged import ends_of, fact_of

Attend = Callable[..., Tensor]
Size = tuple[int, int]  # queries and keys of a sample


def attention_varlen(
    attend: Attend,
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGE: Tensor,
    offsets_q: Tensor | None,
    offsets_kv: Tensor | None,
    *,
    request: Request,
    **settings: Any,
) -> Tensor:
    """[T, H, E] `attend` (the padded operation) on samples side by side; see `isoform.core.attention.attention`."""
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
    rows_q = _Rows("offsets_q", offsets_q, q_THD)
    rows_kv = rows_q
    if offsets_kv is not None and offsets_kv is not offsets_q:
        rows_kv = _Rows("offsets_kv", offsets_kv, k_SGD)
    own = rows_kv is not rows_q
    if not own and k_SGD.shape[0] != q_THD.shape[0]:
        raise ValueError(
            f"{k_SGD.shape[0]} packed keys beside {q_THD.shape[0]} queries need their own offsets_kv"
        )
    if len(rows_kv.lengths) != len(rows_q.lengths):
        raise ValueError(
            f"offsets_q is of {len(rows_q.lengths)} samples and offsets_kv of {len(rows_kv.lengths)}"
        )
    if q_THD.shape[0] == 0 or k_SGD.shape[0] == 0:
        nothing = q_THD[..., :1]
        return nothing.masked_fill(torch.ones_like(nothing, dtype=torch.bool), 0.0).repeat(
            1, 1, v_SGE.shape[2]
        )
    request = request._replace(keys=max(rows_kv.lengths))
    layout = layout_of(request, settings.get("impl", "auto")).name
    if layout == "native":
        _check(q_THD, k_SGD, v_SGE)
        scale = settings["scale"]
        return attention_native_packed(
            q_THD,
            k_SGD,
            v_SGE,
            rows_q.offsets.long(),
            rows_kv.offsets.long(),
            1 / math.sqrt(q_THD.shape[2]) if scale is None else scale,
        )
    run = _by_size if layout == "by size" else _padded
    return run(attend, q_THD, k_SGD, v_SGE, rows_q, rows_kv, settings)


def _check(q_THD: Tensor, k_SGD: Tensor, v_SGD: Tensor) -> None:
    """What the padded operation says of its own inputs. Raises ValueError."""
    if not q_THD.dtype == k_SGD.dtype == v_SGD.dtype:
        raise ValueError(
            f"q, k and v must be of one type, got {q_THD.dtype}, {k_SGD.dtype} and {v_SGD.dtype}"
        )
    if k_SGD.shape[2] != q_THD.shape[2]:
        raise ValueError(
            f"q {list(q_THD.shape)} and k {list(k_SGD.shape)} differ in their number of features"
        )
    if k_SGD.shape[1] == 0 or q_THD.shape[1] % k_SGD.shape[1]:
        raise ValueError(
            f"the {k_SGD.shape[1]} key heads must divide the {q_THD.shape[1]} query heads"
        )


class _Rows:
    """Which packed rows each sample owns. Raises ValueError, by the offsets' name, for what no such batch has."""

    def __init__(self, name: str, offsets: Tensor, packed: Tensor) -> None:
        ends = ends_of(offsets)
        self.lengths = [b - a for a, b in pairwise(ends)]
        if (
            offsets.dim() != 1
            or not self.lengths
            or ends[0] != 0
            or ends[-1] != packed.shape[0]
            or min(self.lengths) < 0
        ):
            raise ValueError(
                f"{name} must rise from 0 to the {packed.shape[0]} packed tokens, got {ends}"
            )
        self.offsets = offsets.to(packed.device)


def groups_by_size(lengths_q: list[int], lengths_kv: list[int]) -> dict[Size, list[int]]:
    """The samples of every size, from the smallest to the largest; a group's samples in their own order."""
    groups: dict[Size, list[int]] = defaultdict(list)
    for sample, size in enumerate(zip(lengths_q, lengths_kv, strict=True)):
        groups[size].append(sample)
    return dict(sorted(groups.items()))


def _by_size(
    attend: Attend,
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGE: Tensor,
    rows_q: _Rows,
    rows_kv: _Rows,
    settings: dict[str, Any],
) -> Tensor:
    if rows_kv is rows_q:
        groups, order_q = fact_of(rows_q.offsets, _sorted_by_size)
        order_kv = order_q
    else:
        groups = groups_by_size(rows_q.lengths, rows_kv.lengths)
        order_q, order_kv = (_Order(rows.offsets, groups) for rows in (rows_q, rows_kv))
    parts = zip(
        groups.items(),
        order_q.sorted(q_THD).split([n * len(group) for (n, _), group in groups.items()]),
        order_kv.sorted(k_SGD).split([m * len(group) for (_, m), group in groups.items()]),
        order_kv.sorted(v_SGE).split([m * len(group) for (_, m), group in groups.items()]),
        _seeds(settings, len(groups)),
        strict=True,
    )
    out = []
    for ((n, m), group), q_XHD, k_YGD, v_YGE, seed in parts:
        q_CHND = q_XHD.view(len(group), n, *q_XHD.shape[1:]).transpose(1, 2)
        k_CGMD = k_YGD.view(len(group), m, *k_YGD.shape[1:]).transpose(1, 2)
        v_CGME = v_YGE.view(len(group), m, *v_YGE.shape[1:]).transpose(1, 2)
        y_CHNE = attend(q_CHND, k_CGMD, v_CGME, **settings | seed)
        out.append(y_CHNE.transpose(1, 2).flatten(0, 1))
    return order_q.restored(torch.cat(out))


def _seeds(settings: dict[str, Any], n_groups: int) -> list[dict[str, int]]:
    """The seed of every group's dropout, where the call has one: without their own, groups would drop alike."""
    if settings.get("seed") is None:
        return [{}] * n_groups
    generator = torch.Generator().manual_seed(settings["seed"])
    return [{"seed": s} for s in torch.randint(2**62, (n_groups,), generator=generator).tolist()]


def _sorted_by_size(offsets: Tensor) -> tuple[dict[Size, list[int]], _Order]:
    """The groups of samples that attend among themselves, and the order that puts each group's rows together."""
    lengths = [b - a for a, b in pairwise(ends_of(offsets))]
    groups = groups_by_size(lengths, lengths)
    return groups, _Order(offsets, groups)


class _Order:
    """Rows in the order of groups of samples, there and back; nothing is copied where they stand in it already."""

    def __init__(self, offsets: Tensor, groups: dict[Size, list[int]]) -> None:
        samples = torch.tensor([sample for group in groups.values() for sample in group])
        starts, lengths = offsets[samples], offsets.diff()[samples]
        ends = lengths.cumsum(0)
        places = torch.arange(int(ends[-1]))
        self.source = places + (starts - ends + lengths).repeat_interleave(lengths)
        self.same = torch.equal(self.source, places)
        self.target = torch.empty_like(self.source)
        self.target[self.source] = places

    def sorted(self, x_TFD: Tensor) -> Tensor:
        """The rows of each sample behind those of the samples sorted before it."""
        return x_TFD if self.same else _Permuted.apply(x_TFD, self.source, self.target)

    def restored(self, x_TFD: Tensor) -> Tensor:
        """The inverse of `sorted`."""
        return x_TFD if self.same else _Permuted.apply(x_TFD, self.target, self.source)


class _Permuted(torch.autograd.Function):
    """Rows `source` of x, a permutation whose inverse is `target`: its gradient is the inverse, not a sum by index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(source, target)
        # Rows of one axis are copied as they are; of two, number by number.
        return x.flatten(1).index_select(0, source).view(x.shape)

    @staticmethod
    def backward(ctx: Any, d_x: Tensor) -> tuple[Tensor, None, None]:
        source, target = ctx.saved_tensors
        return _Permuted.apply(d_x, target, source), None, None


def _padded(
    attend: Attend,
    q_THD: Tensor,
    k_SGD: Tensor,
    v_SGE: Tensor,
    rows_q: _Rows,
    rows_kv: _Rows,
    settings: dict[str, Any],
) -> Tensor:
    layout_q, layout_kv = (fact_of(rows.offsets, _Layout) for rows in (rows_q, rows_kv))
    q, k, v = layout_q.pad(q_THD), layout_kv.pad(k_SGD), layout_kv.pad(v_SGE)
    out = attend(q, k, v, valid_q=layout_q.valid, valid_kv=layout_kv.valid, **settings)
    return layout_q.unpad(out)


class _Layout:
    """Where packed tokens stand once they are padded; `valid` is None if all samples are of one length."""

    def __init__(self, offsets: Tensor) -> None:
        lengths = [b - a for a, b in pairwise(ends_of(offsets))]
        self.n_batch, self.n_longest = len(lengths), max(lengths)
        self.valid: Tensor | None = None
        if min(lengths) < self.n_longest:
            place = torch.arange(self.n_longest, device=offsets.device)
            self.valid = place < offsets.diff()[:, None]
            # Padding repeats a token: its values are finite, and nothing reads them.
            self.source = (offsets[:-1, None] + place).clamp(max=sum(lengths) - 1)
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
