"""Tokens: the one type into and out of the backbone.

B samples, N tokens a sample (padded), T tokens in all (packed), D features, C coordinates, P condition features.

Two layouts hold the same information:

    padded   x_BND, valid_BN says which tokens are real
    packed   x_TD with `offsets` (B+1 integers): sample b owns rows offsets[b] to offsets[b+1]

`pack()` and `unpad()` turn one into the other and back, exactly. `gather`, `select`, `split` and `cat` carry every
field, so a tokeniser may reorder, mask out and join tokens without knowing which fields are set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from isoform.core.ops.ragged import samples_of

# The fields with one entry a token, moved along by every reordering.
PER_TOKEN = ("x", "valid", "coords", "pos", "order")


@dataclass
class Pair:
    """Lazy pair features: what is known of every two of a sample's M original tokens, and who those tokens are now.

    features   by name [B, M, M, ...] compact values: ids in uint8 or int16, distances
    index      [B, N] ([T] in the packed layout) which row of the original M each present token is, -1 for a token
               without pair features (class token, virtual node, time mark)
    codebooks  by the name of a feature whose values are only numbers [K, ...]: what each number stands for, in all
               samples alike

    Reordering or masking tokens therefore moves integers, never the N x N features; attention reads them through the
    index when it builds a score bias.
    """

    features: dict[str, Tensor]
    index: Tensor
    codebooks: dict[str, Tensor] = field(default_factory=dict)

    def view(self, name: str, absent: float = 0) -> Tensor:
        """Feature `name` between the present tokens, [B, N, N, ...]; `absent` where either token has none.

        Only for the padded layout; raises ValueError otherwise, KeyError for an unknown name.
        """
        if self.index.dim() != 2:
            raise ValueError("pair features are viewed in the padded layout: call unpad() first")
        table = self.features[name]
        index_BN = self.index.clamp(min=0)
        batch = torch.arange(table.shape[0], device=table.device)[:, None, None]
        values = table[batch, index_BN[:, :, None], index_BN[:, None, :]]
        known = self.known()
        return torch.where(known.reshape(known.shape + (1,) * (values.dim() - 3)), values, absent)

    def known(self) -> Tensor:
        """[B, N, N] bool: whether both tokens have pair features (padded layout)."""
        return (self.index >= 0)[:, :, None] & (self.index >= 0)[:, None, :]

    def select(self, rows: Tensor, index: Tensor) -> Pair:
        """Samples `rows` alone, with their tokens' new index; original tokens behind all that it names are cut off."""
        m = int(index.max()) + 1 if index.numel() else 0
        features = {name: value[rows, :m, :m] for name, value in self.features.items()}
        return Pair(features, index, self.codebooks)


@dataclass
class Tokens:
    """A batch of token sets; see the module's text for the two layouts.

    x        [B, N, D] or [T, D] features
    valid    [B, N] bool, True = real; None: all are real (always None when packed)
    coords   [B, N, C] or [T, C] where a token is (pixels, Angstrom, unit sphere: the domain says)
    pos      [B, N, D], [1, N, D] or [T, D]: an embedding to add again before blocks, or angles to turn q and k with
    pair     lazy pair features
    cond     [B, P] per sample, [B, N, P] or [T, P] per token: what adaLN is conditioned on
    order    [B, N] or [T] integer: the place of each token in a sequence, for mixers that need an order
    prefix   number of special tokens (class, register, virtual node) in front of each sample; static
    suffix   number of special tokens (time marks) behind each sample; static
    grid     (H, W) or (H, W, D) when the tokens between prefix and suffix are a raster in row-major order; static
    offsets  [B + 1] integer: present exactly when the layout is packed
    """

    x: Tensor
    valid: Tensor | None = None
    coords: Tensor | None = None
    pos: Tensor | None = None
    pair: Pair | None = None
    cond: Tensor | None = None
    order: Tensor | None = None
    prefix: int = 0
    suffix: int = 0
    grid: tuple[int, ...] | None = None
    offsets: Tensor | None = None

    @property
    def packed(self) -> bool:
        """True in the packed layout."""
        return self.offsets is not None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.x.shape[0] if self.offsets is None else self.offsets.shape[0] - 1

    @property
    def sample_T(self) -> Tensor:
        """[T] the sample that each packed token belongs to."""
        if self.offsets is None:
            raise ValueError("sample_T belongs to the packed layout")
        return samples_of(self.offsets)

    def mask(self) -> Tensor:
        """[B, N] bool, `valid` or all True (padded layout)."""
        if self.valid is not None:
            return self.valid
        return torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)

    def per_token(self, values: Tensor) -> Tensor:
        """Values as `cond` may have them, [B, P] of samples or one a token, broadcastable to the tokens' features."""
        if self.packed and values.shape[0] != self.x.shape[0]:
            return values.index_select(0, self.sample_T)
        if not self.packed and values.dim() == 2:
            return values[:, None]
        return values

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other features."""
        return replace(self, x=x)

    def body(self) -> Tokens:
        """The tokens between prefix and suffix, a raster if `grid` is set (padded layout)."""
        body = self._take(slice(self.prefix, self.x.shape[1] - self.suffix))
        return replace(body, grid=self.grid)

    def leading(self, n: int) -> Tokens:
        """The first n tokens of each sample (padded layout), no raster any more."""
        if self.packed or n > self.x.shape[1]:
            raise ValueError(
                f"leading({n}) needs the padded layout and as many tokens, got {tuple(self.x.shape)}"
            )
        suffix = max(0, n - (self.x.shape[1] - self.suffix))
        return replace(self._take(slice(n)), prefix=min(n, self.prefix), suffix=suffix)

    def select(self, rows: Tensor, length: int | None = None) -> Tokens:
        """Samples `rows` [R] in that order, with every field; with `length`, so many leading tokens of each alone.

        Only for the padded layout, and not inside an exported or compiled graph: the size of pair features depends on
        their index. Raises ValueError for packed tokens and for more tokens than there are.
        """
        if self.packed:
            raise ValueError("select works on the padded layout: call unpad() first")
        tokens = self if length is None or length == self.x.shape[1] else self.leading(length)

        def chosen(value: Tensor | None) -> Tensor | None:
            if value is None or (
                value.shape[0] == 1 and self.batch != 1
            ):  # pos shared by all samples
                return value
            return value[rows]

        fields: dict[str, Any] = {
            name: chosen(getattr(tokens, name)) for name in (*PER_TOKEN, "cond")
        }
        pair = None if tokens.pair is None else tokens.pair.select(rows, tokens.pair.index[rows])
        return replace(tokens, pair=pair, **fields)

    def gather(self, index_BK: Tensor) -> Tokens:
        """Tokens index_BK of each sample, in that order, with every field (padded layout).

        Prefix and suffix become 0 and grid None, since an arbitrary choice keeps none of them; set them again with
        `replace` if the choice did.
        """
        if self.packed:
            raise ValueError("gather works on the padded layout: call unpad() first")
        return self._take(index_BK)

    def split(self, sizes: Sequence[int]) -> list[Tokens]:
        """Consecutive parts of the given sizes along N; `cat` of them is the original, but for prefix, suffix, grid."""
        if self.packed or sum(sizes) != self.x.shape[1]:
            raise ValueError(
                f"split needs the padded layout and sizes that sum to N={self.x.shape[-2]}, got {list(sizes)}"
            )
        ends = list(accumulate(sizes))
        return [self._take(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]

    def _take(self, where: Tensor | slice) -> Tokens:
        """Tokens [B, K] or a slice of each sample; neither prefix, suffix nor grid."""

        def take(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            if isinstance(where, slice):
                return value[:, where]
            if value.shape[0] != where.shape[0]:  # pos shared by all samples, [1, N, D]
                value = value.expand(where.shape[0], *value.shape[1:])
            if value.dim() == 2:
                return value.gather(1, where)
            features = value.shape[2:]
            return value.gather(
                1,
                where.reshape(*where.shape, *(1,) * len(features)).expand(*where.shape, *features),
            )

        return self._map(take, prefix=0, suffix=0, grid=None)

    def _map(self, change: Callable[[Tensor | None], Tensor | None], **others: Any) -> Tokens:
        """Every field that has an entry a token, changed."""
        fields: dict[str, Any] = {name: change(getattr(self, name)) for name in PER_TOKEN}
        cond = change(self.cond) if self._conditions_tokens else self.cond
        pair = (
            None
            if self.pair is None
            else replace(self.pair, index=_required(change(self.pair.index)))
        )
        return replace(self, pair=pair, cond=cond, **fields, **others)

    @property
    def _conditions_tokens(self) -> bool:
        """Whether `cond` has an entry a token (instead of a sample)."""
        if self.cond is None:
            return False
        return self.cond.shape[0] == self.x.shape[0] if self.packed else self.cond.dim() == 3

    @staticmethod
    def cat(parts: Sequence[Tokens]) -> Tokens:
        """Parts one behind the other along N, with every field (padded layout).

        A part without `valid` counts as all real and without `pair` as tokens of index -1. Every other field must be
        set in all parts or in none, and all pair features must be the same tensors: raises ValueError with the
        field's name. `prefix` is the first part's, `suffix` the last's; `grid` is kept only by a part that is alone.
        """
        if len(parts) == 1:
            return parts[0]
        if any(p.packed for p in parts):
            raise ValueError("cat works on the padded layout: call unpad() first")
        n_batch = max(p.x.shape[0] for p in parts)
        fields: dict[str, Any] = {}
        for name in PER_TOKEN:
            values = [getattr(p, name) for p in parts]
            if name == "valid" and any(v is not None for v in values):
                values = [p.mask() for p in parts]
            fields[name] = _cat_field(name, values, n_batch)
        cond = _cat_cond([p.cond for p in parts], n_batch)
        return Tokens(
            **fields,
            pair=_cat_pair(parts),
            cond=cond,
            prefix=parts[0].prefix,
            suffix=parts[-1].suffix,
        )

    def pack(self) -> Tokens:
        """The packed layout: padding is gone. `unpad()` is the exact inverse, with zeros where there was padding."""
        if self.packed:
            return self
        mask_BN = self.mask()
        if not bool((mask_BN[:, 1:] <= mask_BN[:, :-1]).all()):
            raise ValueError(
                "pack needs padding behind the real tokens of each sample; gather them first"
            )
        lengths = mask_BN.sum(1)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])

        def flat(value: Tensor | None) -> Tensor | None:
            return (
                None if value is None else value.expand(*mask_BN.shape, *value.shape[2:])[mask_BN]
            )

        return replace(self._map(flat), valid=None, offsets=offsets)

    def unpad(self) -> Tokens:
        """The padded layout of packed tokens, N = the longest sample; padding holds zeros (False, index -1)."""
        if self.offsets is None:
            return self
        lengths = self.offsets.diff()
        n = int(lengths.max()) if len(lengths) else 0
        valid = torch.arange(n, device=lengths.device) < lengths[:, None]

        def padded(value: Tensor | None, fill: float = 0) -> Tensor | None:
            if value is None:
                return None
            out = value.new_full((*valid.shape, *value.shape[1:]), fill)
            out[valid] = value
            return out

        pair = self.pair
        if pair is not None:
            pair = replace(pair, index=_required(padded(pair.index, -1)))
        return replace(replace(self, pair=None)._map(padded), valid=valid, pair=pair, offsets=None)


def _required(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _cat_field(name: str, values: Sequence[Tensor | None], n_batch: int) -> Tensor | None:
    if all(v is None for v in values):
        return None
    if any(v is None for v in values):
        raise ValueError(f"cat: `{name}` is set in some parts and missing in others")
    return torch.cat([_required(v).expand(n_batch, *_required(v).shape[1:]) for v in values], dim=1)


def _cat_cond(conds: Sequence[Tensor | None], n_batch: int) -> Tensor | None:
    kinds = {None if c is None else c.dim() for c in conds}
    if len(kinds) > 1:
        raise ValueError("cat: `cond` is per sample in some parts, per token or missing in others")
    if kinds == {3}:
        return _cat_field("cond", conds, n_batch)
    if kinds == {2} and not all(torch.equal(_required(c), _required(conds[0])) for c in conds):
        raise ValueError("cat: the parts have different per-sample `cond`")
    return conds[0]


def _cat_pair(parts: Sequence[Tokens]) -> Pair | None:
    pairs = [p.pair for p in parts if p.pair is not None]
    if not pairs:
        return None
    first = pairs[0]
    if not all(
        _same(p.features, first.features) and _same(p.codebooks, first.codebooks) for p in pairs
    ):
        raise ValueError(
            "cat: the parts' `pair` features are not the same tensors, so nothing is known between the parts"
        )
    index = [
        p.pair.index if p.pair is not None else first.index.new_full(p.x.shape[:2], -1)
        for p in parts
    ]
    return replace(first, index=torch.cat(index, dim=1))


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name] is b[name] for name in a)


torch.export.register_dataclass(Pair, serialized_type_name="isoform.Pair")
torch.export.register_dataclass(Tokens, serialized_type_name="isoform.Tokens")
