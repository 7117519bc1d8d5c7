"""Readouts: tokens to one vector a sample, or to a dense map.

B samples, N tokens, D features, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.attention import attention
from isoform.core.backbone import initialise
from isoform.core.config.schema import BackboneConfig
from isoform.core.ffn import ACTIVATIONS, Mlp
from isoform.core.norms import norm_of
from isoform.core.ops.decay import without_decay
from isoform.core.tokens import Tokens


def _body(tokens: Tokens, with_prefix: bool) -> tuple[Tensor, Tensor | None]:
    start = 0 if with_prefix else tokens.prefix
    part = slice(start, tokens.x.shape[1] - tokens.suffix)
    valid_BN = None if tokens.valid is None else tokens.valid[:, part]
    return tokens.x[:, part], valid_BN


def mean_of(x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
    """[B, D] mean over the real tokens."""
    if valid_BN is None:
        return x_BND.mean(1)
    weight = valid_BN[..., None].to(x_BND.dtype)
    return (x_BND * weight).sum(1) / weight.sum(1).clamp(min=1)


def max_of(x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
    """[B, D] largest value over the real tokens."""
    if valid_BN is not None:
        x_BND = x_BND.masked_fill(~valid_BN[..., None], float("-inf"))
    return x_BND.amax(1)


def _class(tokens: Tokens, with_prefix: bool) -> Tensor:
    return tokens.x[:, 0]


def _mean(tokens: Tokens, with_prefix: bool) -> Tensor:
    return mean_of(*_body(tokens, with_prefix))


def _max(tokens: Tokens, with_prefix: bool) -> Tensor:
    return max_of(*_body(tokens, with_prefix))


def _mean_max(tokens: Tokens, with_prefix: bool) -> Tensor:
    return 0.5 * (_mean(tokens, with_prefix) + _max(tokens, with_prefix))


def _class_max(tokens: Tokens, with_prefix: bool) -> Tensor:
    return torch.cat([_class(tokens, with_prefix), _max(tokens, with_prefix)], dim=1)


def _cat_mean_max(tokens: Tokens, with_prefix: bool) -> Tensor:
    return torch.cat([_mean(tokens, with_prefix), _max(tokens, with_prefix)], dim=1)


def _none(tokens: Tokens, with_prefix: bool) -> Tensor:
    return tokens.x


# Of the names in config.schema.READOUTS, those without weights; "attention" is `AttentionPool`.
READOUTS: dict[str, Callable[[Tokens, bool], Tensor]] = {
    "class": _class,
    "mean": _mean,
    "max": _max,
    "mean_max": _mean_max,
    "class_max": _class_max,
    "cat_mean_max": _cat_mean_max,
    "none": _none,
}


def read(tokens: Tokens, kind: str, with_prefix: bool = False) -> Tensor:
    """[B, D] (class_max, cat_mean_max: [B, 2 D]; none: [B, N, D]) from padded tokens.

    "class" is the first prefix token (class token, virtual node); "mean" and "max" run over the real tokens between
    prefix and suffix, or over the prefix as well; "mean_max" is half the sum of both; "class_max" puts class token
    and maximum side by side (Point-MAE), "cat_mean_max" mean and maximum. Raises ValueError for another name and for
    "class" without a prefix token.
    """
    if kind not in READOUTS:
        raise ValueError(f"no readout is called {kind!r}; there are {', '.join(READOUTS)}")
    if kind in ("class", "class_max") and tokens.prefix == 0:
        raise ValueError(
            f"the {kind!r} readout needs a class token, and these tokens have no prefix"
        )
    return READOUTS[kind](tokens, with_prefix)


def dense_map(tokens: Tokens) -> Tensor:
    """[B, D, *grid] the body tokens on their raster. Raises ValueError where the tokens have no grid."""
    if tokens.grid is None:
        raise ValueError("a dense map needs tokens on a grid")
    x_BND, _ = _body(tokens, with_prefix=False)
    return x_BND.transpose(1, 2).unflatten(2, tokens.grid)


class AttentionPool(nn.Module):
    """One learned query attends to all tokens, then a residual MLP (Zhai et al. 2022, the MAP head)."""

    def __init__(
        self, config: BackboneConfig, heads: int | None = None, mlp_dim: int | None = None
    ) -> None:
        super().__init__()
        self.heads, self.impl = heads or config.heads, config.attention
        if config.dim % self.heads:
            raise ValueError(
                f"attention pooling: {self.heads} heads must divide {config.dim} features"
            )
        channel = config.channel if config.channel in ACTIVATIONS else "gelu"
        plain: dict[str, Any] = {
            "channel": channel,
            "dropout": 0.0,
            "mlp_norm": False,
            "mlp_bias": True,
        }
        plain["mlp_dim"] = mlp_dim or config.mlp_dim
        self.latent = without_decay(nn.Parameter(torch.empty(1, 1, config.dim)))
        nn.init.trunc_normal_(self.latent, std=config.dim**-0.5)
        self.q = nn.Linear(config.dim, config.dim)
        self.kv = nn.Linear(config.dim, 2 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.norm = norm_of(config)
        self.mlp = Mlp(config.model_copy(update=plain))
        self.apply(initialise)

    def forward(self, tokens: Tokens) -> Tensor:
        """Padded tokens -> [B, D]."""
        x_BND = tokens.x
        query = self.q(self.latent).expand(x_BND.shape[0], -1, -1)
        key, value = self.kv(x_BND).chunk(2, dim=-1)
        q, k, v = self._by_head(query), self._by_head(key), self._by_head(value)
        y = attention(q, k, v, valid_kv=tokens.valid, impl=self.impl)
        y = self.proj(y.transpose(1, 2).flatten(-2))
        return (y + self.mlp(self.norm(y)))[:, 0]

    def _by_head(self, x_BND: Tensor) -> Tensor:
        return x_BND.unflatten(-1, (self.heads, -1)).transpose(1, 2)


__all__ = ["READOUTS", "AttentionPool", "dense_map", "max_of", "mean_of", "read"]
