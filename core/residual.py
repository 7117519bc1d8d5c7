"""The residual branch: what stands around a mixer or an MLP, and how its value joins the stream.

    x + scale * gate * norm_out(inner(modulate(norm(x))))

B samples, N tokens, D features, P condition features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers.contract import Context
from isoform.core.norms import apply_norm, norm_of
from isoform.core.ops.dropout import add_dropout, dropout
from isoform.core.ops.recompute import Deferred
from isoform.core.tokens import Tokens


class NormPositions(NamedTuple):
    """Where norms stand around a branch."""

    input: bool
    output: bool
    stream: bool  # after the sum


def norm_positions(config: BackboneConfig, step: str) -> NormPositions:
    """Where `order` puts norms around the branch `step`."""
    if config.order == "cct":
        return NormPositions(input=step != "channel", output=False, stream=step == "mixer")
    return NormPositions(config.order == "pre", config.order == "res_post", config.order == "post")


def narrow_like(x: Tensor, y: Tensor) -> Tensor:
    """Those tokens of the stream x that a branch answered for with y: all, or the first ones."""
    return x if y.shape == x.shape else x[:, : y.shape[1]]


def drop_path(x: Tensor, tokens: Tokens, rate: float) -> Tensor:
    """Stochastic depth: a sample's branch is dropped as a whole, the others scaled up (Huang et al. 2016)."""
    keep = 1 - rate
    factor_B = x.new_empty(tokens.batch).bernoulli_(keep).div_(keep)
    if tokens.packed:
        return x * factor_B[tokens.sample_T, None]
    return x * factor_B[:, None, None]


class ResidualBranch(nn.Module):
    """One branch of a block; which of the norms exist, `order` says.

    `inner` is called with (x, context). adaLN-Zero (Peebles & Xie 2023) computes shift, scale and gate from
    Tokens.cond.
    """

    def __init__(
        self, inner: nn.Module, config: BackboneConfig, step: str, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        at = norm_positions(config, step)
        self.norm = norm_of(config, when=at.input)
        self.inner = inner
        self.norm_out = norm_of(config, when=at.output)
        self.modulation = None
        if config.condition == "adaln_zero":
            self.modulation = nn.Linear(config.cond_dim or config.dim, 3 * config.dim)
        self.scale = None
        if config.layer_scale is not None and (config.layer_scale_mlp or step != "channel"):
            self.scale = nn.Parameter(torch.full((config.dim,), config.layer_scale))
        self.dropout, self.drop_path = config.dropout, drop_path
        # Two fast paths: an input that isn't kept for the backward pass, and dropout and sum in one operator.
        self.defers = getattr(inner, "takes_deferred", False)
        last = self.scale is None and self.modulation is None and not drop_path
        self.adds_dropout = config.dropout > 0 and last

    def add_to(self, x: Tensor, context: Context) -> Tensor:
        """x + forward(x), of those tokens that the branch answers for."""
        if self.adds_dropout and self.training:
            y, _ = self.compute(x, context)
            y = apply_norm(self.norm_out, y, context.tokens.valid)
            return add_dropout(narrow_like(x, y), y, self.dropout)
        if self.modulation is None or (self.training and self.drop_path):
            y = self(x, context)
            return narrow_like(x, y) + y
        y, gate = self.compute(x, context)
        assert gate is not None
        y = self.post_process(y, context.tokens)
        return torch.addcmul(narrow_like(x, y), y, gate)  # one pass over memory, not two

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        y, gate = self.compute(x, context)
        return self.post_process(y, context.tokens, gate)

    def compute(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """inner(modulate(norm(x))), and the gate of its conditioning."""
        shift_scale: Sequence[Tensor] = ()
        gate = None
        if self.modulation is not None:
            *shift_scale, gate = self.modulate(context.tokens)
        h: Tensor | Deferred
        if context.recompute in ("elementwise", "light") and self.defers:
            h = Deferred(self.pre_norm, (x, *shift_scale), tuple(self.norm.parameters()))
        else:
            h = self.pre_norm(x, *shift_scale, valid=context.tokens.valid)
        return self.inner(h, context), gate

    def pre_norm(
        self,
        x: Tensor,
        shift: Tensor | None = None,
        scale: Tensor | None = None,
        *,
        valid: Tensor | None = None,
    ) -> Tensor:
        """modulate(norm(x)): norm(x) * scale + shift."""
        h = apply_norm(self.norm, x, valid)
        return h if shift is None or scale is None else torch.addcmul(shift, h, scale)

    def post_process(self, y: Tensor, tokens: Tokens, gate: Tensor | None = None) -> Tensor:
        """What the stream gets of the inner value: normed, dropped, scaled, gated."""
        y = apply_norm(self.norm_out, y, tokens.valid)
        if self.training and self.dropout:
            y = dropout(y, self.dropout)
        if self.scale is not None:
            y = y * self.scale
        if gate is not None:
            y = y * gate
        if self.training and self.drop_path:
            y = drop_path(y, tokens, self.drop_path)
        return y

    def modulate(self, tokens: Tokens) -> Sequence[Tensor]:
        """shift, 1 + scale and gate, broadcastable to the features; from cond [B, P], [B, N, P] or [T, P]."""
        if tokens.cond is None:
            raise ValueError(
                'backbone.condition = "adaln_zero" reads Tokens.cond, which these tokens don\'t have'
            )
        assert self.modulation is not None
        shift, scale, gate = self.modulation(F.silu(tokens.cond)).chunk(3, dim=-1)
        return [tokens.per_token(part) for part in (shift, 1 + scale, gate)]


class SumOf(nn.Module):
    """Modules that read the same input; their outputs are summed."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))
        self.takes_deferred = all(getattr(part, "takes_deferred", False) for part in parts.values())

    def forward(self, x: Tensor | Deferred, context: Context) -> Tensor:
        """Sum over the parts."""
        return reduce(add, [part(x, context) for part in self.parts.values()])

    def add_to(self, x: Tensor, context: Context) -> Tensor:
        """x + forward(x), of those tokens that the parts answer for."""
        y = self(x, context)
        return narrow_like(x, y) + y
