"""Tokens: the one type into and out of the backbone.

B samples, N tokens a sample (padded), T tokens in all (packed), D features, C coordinates, P condition features.

Two layouts hold the same information:

    padded   x_BND, valid_BN says which tokens are real
    packed   x_TD with `offsets` (B+1 integers): sample b owns rows offsets[b] to offsets[b+1]

`pack()` and `unpad()` turn one into the other and back, exactly. `gather`, `split` and `cat` carry every field, so a
tokeniser may reorder, mask out and join tokens without knowing which fields are set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The fields with one entry a token, moved along by every reordering.
PER_TOKEN = ("x", "valid", "coords", "pos", "order")


@dataclass
class Pair:
    """Lazy pair features: what is known of every two of a sample's M original tokens, and who those tokens are now.

    `features` maps a name to a tensor [B, M, M, ...] of compact values (ids in uint8 or int16, distances), or to a list
    [K, ...] that such values number. `index_BN` (or `index_T` in the packed layout) says which row of the original M
    each present token is, -1 for a token without pair features (class token, virtual node, time mark). Reordering or
    masking tokens therefore moves integers, never the N x N features; attention reads them through the index when it
    builds a score bias.
    """

    features: dict[str, Tensor]
    index: Tensor

    def view(self, name: str, absent: float = 0) -> Tensor:
        """Feature `name` between the present tokens, [B, N, N, ...]; `absent` where either token has none.

        Only for the padded layout; raises ValueError otherwise, KeyError for an unknown name.
        """
        if self.index.dim() != 2:
            raise ValueError("pair features are viewed in the padded layout: call unpad() first")
        table = self.features[name]
        index_BN = self.index.clamp(min=0)
        batch = torch.arange(table.shape[0], device=table.device)[:, None, None]
        found = table[batch, index_BN[:, :, None], index_BN[:, None, :]]
        known = self.known()
        return torch.where(known.reshape(known.shape + (1,) * (found.dim() - 3)), found, absent)

    def known(self) -> Tensor:
        """[B, N, N] bool: whether both tokens have pair features (padded layout)."""
        return (self.index >= 0)[:, :, None] & (self.index >= 0)[:, None, :]


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
        lengths = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(lengths.shape[0], device=lengths.device), lengths)

    def mask(self) -> Tensor:
        """[B, N] bool, `valid` or all True (padded layout)."""
        if self.valid is not None:
            return self.valid
        return torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other features."""
        return Tokens(x, self.valid, self.coords, self.pos, self.pair, self.cond, self.order,
                      self.prefix, self.suffix, self.grid, self.offsets)  # fmt: skip

    def body(self) -> Tokens:
        """The tokens between prefix and suffix, a raster if `grid` is set (padded layout)."""
        n = self.x.shape[1]
        return self._take(slice(self.prefix, n - self.suffix), prefix=0, suffix=0, grid=self.grid)

    def leading(self, n: int) -> Tokens:
        """The first n tokens of each sample (padded layout), no raster any more."""
        if self.packed or n > self.x.shape[1]:
            raise ValueError(f"leading({n}) needs the padded layout and as many tokens, got {tuple(self.x.shape)}")
        suffix = max(0, n - (self.x.shape[1] - self.suffix))
        return self._take(slice(n), prefix=min(n, self.prefix), suffix=suffix, grid=None)

    def gather(self, index_BK: Tensor) -> Tokens:
        """Tokens index_BK of each sample, in that order, with every field (padded layout).

        Prefix and suffix become 0 and grid None, since an arbitrary choice keeps none of them; set them again with
        `replace` if the choice did.
        """
        if self.packed:
            raise ValueError("gather works on the padded layout: call unpad() first")
        return self._take(index_BK, prefix=0, suffix=0, grid=None)

    def split(self, sizes: Sequence[int]) -> list[Tokens]:
        """Consecutive parts of the given sizes along N; `cat` of them is the original, but for prefix, suffix, grid."""
        if self.packed or sum(sizes) != self.x.shape[1]:
            raise ValueError(
                f"split needs the padded layout and sizes that sum to N={self.x.shape[-2]}, got {list(sizes)}"
            )
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return [self._take(slice(e - s, e), prefix=0, suffix=0, grid=None) for s, e in zip(sizes, ends, strict=True)]

    def _take(self, where: Tensor | slice, *, prefix: int, suffix: int, grid: tuple[int, ...] | None) -> Tokens:
        def take(value: Tensor | None, per_batch: bool = True) -> Tensor | None:
            if value is None:
                return None
            if isinstance(where, slice):
                return value[:, where]
            if value.shape[0] != where.shape[0]:  # pos shared by all samples, [1, N, D]
                value = value.expand(where.shape[0], *value.shape[1:])
            if value.dim() == 2:
                return value.gather(1, where)
            shape = (*where.shape, *value.shape[2:])
            return value.gather(1, where.reshape(*where.shape, *(1,) * (value.dim() - 2)).expand(shape))

        pair = self.pair and Pair(self.pair.features, _some(take(self.pair.index)))
        cond = take(self.cond) if self.cond is not None and self.cond.dim() == 3 else self.cond
        return Tokens(_some(take(self.x)), take(self.valid), take(self.coords), take(self.pos), pair, cond,
                      take(self.order), prefix, suffix, grid)  # fmt: skip

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
        joined: dict[str, Tensor | None] = {}
        for name in PER_TOKEN:
            values = [getattr(p, name) for p in parts]
            if name == "valid" and any(v is not None for v in values):
                values = [p.mask() for p in parts]
            joined[name] = _cat_field(name, values, n_batch)
        cond = _cat_cond([p.cond for p in parts], n_batch)
        return Tokens(_some(joined["x"]), joined["valid"], joined["coords"], joined["pos"], _cat_pair(parts), cond,
                      joined["order"], parts[0].prefix, parts[-1].suffix)  # fmt: skip

    def pack(self) -> Tokens:
        """The packed layout: padding is gone. `unpad()` is the exact inverse, with zeros where there was padding."""
        if self.packed:
            return self
        mask_BN = self.mask()
        if not bool((mask_BN[:, 1:] <= mask_BN[:, :-1]).all()):
            raise ValueError("pack needs padding behind the real tokens of each sample; gather them first")
        lengths = mask_BN.sum(1)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])

        def flat(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.expand(*mask_BN.shape, *value.shape[2:])[mask_BN]

        pair = self.pair and Pair(self.pair.features, _some(flat(self.pair.index)))
        cond = flat(self.cond) if self.cond is not None and self.cond.dim() == 3 else self.cond
        return Tokens(_some(flat(self.x)), None, flat(self.coords), flat(self.pos), pair, cond, flat(self.order),
                      self.prefix, self.suffix, self.grid, offsets)  # fmt: skip

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

        pair = self.pair and Pair(self.pair.features, _some(padded(self.pair.index, -1)))
        cond = padded(self.cond) if self.cond is not None and self.cond.shape[0] == self.x.shape[0] else self.cond
        return Tokens(_some(padded(self.x)), valid, padded(self.coords), padded(self.pos), pair, cond,
                      padded(self.order), self.prefix, self.suffix, self.grid)  # fmt: skip


def _some(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _cat_field(name: str, values: Sequence[Tensor | None], n_batch: int) -> Tensor | None:
    if all(v is None for v in values):
        return None
    if any(v is None for v in values):
        raise ValueError(f"cat: `{name}` is set in some parts and missing in others")
    return torch.cat([_some(v).expand(n_batch, *_some(v).shape[1:]) for v in values], dim=1)


def _cat_cond(conds: Sequence[Tensor | None], n_batch: int) -> Tensor | None:
    kinds = {None if c is None else c.dim() for c in conds}
    if len(kinds) > 1:
        raise ValueError("cat: `cond` is per sample in some parts, per token or missing in others")
    if kinds == {3}:
        return _cat_field("cond", conds, n_batch)
    if kinds == {2} and not all(torch.equal(_some(c), _some(conds[0])) for c in conds):
        raise ValueError("cat: the parts have different per-sample `cond`")
    return conds[0]


def _cat_pair(parts: Sequence[Tokens]) -> Pair | None:
    pairs = [p.pair for p in parts if p.pair is not None]
    if not pairs:
        return None
    first = pairs[0].features
    if any(p.features.keys() != first.keys() or any(p.features[k] is not first[k] for k in first) for p in pairs):
        raise ValueError(
            "cat: the parts' `pair` features are not the same tensors, so nothing is known between the parts"
        )
    index = [p.pair.index if p.pair is not None else pairs[0].index.new_full(p.x.shape[:2], -1) for p in parts]
    return Pair(first, torch.cat(index, dim=1))


torch.export.register_dataclass(Pair, serialized_type_name="isoform.Pair")
torch.export.register_dataclass(Tokens, serialized_type_name="isoform.Tokens")
