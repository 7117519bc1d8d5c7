"""Wrap: what stands around a branch (a mixer or a channel mixer): norm, conditioning, scale, stochastic depth.

B samples, N tokens, D features, P condition features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers.contract import Context
from isoform.core.norms import make_norm, normed
from isoform.core.ops.dropout import dropout, dropped_onto
from isoform.core.ops.recompute import Deferred
from isoform.core.tokens import Tokens


def keep_path(x: Tensor, tokens: Tokens, rate: float) -> Tensor:
    """Stochastic depth: a sample's branch is dropped as a whole, the others scaled up (Huang et al. 2016)."""
    keep = 1 - rate
    kept_B = torch.empty(tokens.batch, dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
    return x * (kept_B[tokens.sample_T, None] if tokens.packed else kept_B[:, None, None])


def placed(config: BackboneConfig, step: str) -> tuple[bool, bool, bool]:
    """Where `order` puts norms around the branch `step`: on its input, on its output, on the stream after the sum."""
    bare = step == "channel" and config.order == "cct"
    on_stream = config.order == "post" or (config.order == "cct" and step == "mixer")
    return config.order in ("pre", "cct") and not bare, config.order == "res_post", on_stream


def stream_of(x: Tensor, y: Tensor) -> Tensor:
    """Those tokens of the stream that a branch answered for."""
    return x if y.shape == x.shape else x[:, : y.shape[1]]


class Wrap(nn.Module):
    """scale * gate * norm_out(inner(modulate(norm(x)))): the value that a block adds to its stream.

    Which of the norms exist, `order` says; adaLN-Zero (Peebles & Xie 2023) computes shift, scale and gate from
    Tokens.cond.
    """

    def __init__(
        self, inner: nn.Module, config: BackboneConfig, *, pre: bool, post: bool, layer_scale: bool, drop_path: float,
        takes_context: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm = make_norm(config.norm, config.dim, config.eps, config.norm_bias) if pre else nn.Identity()
        self.inner = inner
        self.norm_out = make_norm(config.norm, config.dim, config.eps, config.norm_bias) if post else nn.Identity()
        self.modulation = None
        if config.condition == "adaln_zero":
            self.modulation = nn.Linear(config.cond_dim or config.dim, 3 * config.dim)
        first = config.layer_scale if layer_scale else None
        self.scale = None if first is None else nn.Parameter(torch.full((config.dim,), first))
        self.dropout = config.dropout
        self.drop_path = drop_path
        self.takes_context = takes_context

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        y, gate = self.value(x, context)
        return self.leave(y, context.tokens, gate)

    def onto(self, x: Tensor, context: Context) -> Tensor:
        """The stream with `forward`'s value added to it; in one go where dropout comes last."""
        if not (self.training and self.dropout) or self.scale is not None or self.drop_path:
            return stream_of(x, y := self(x, context)) + y
        y, gate = self.value(x, context)
        if gate is not None:
            return stream_of(x, y) + self.leave(y, context.tokens, gate)
        return dropped_onto(stream_of(x, y), normed(self.norm_out, y, context.tokens.valid), self.dropout)

    def value(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """What the branch makes of the stream, and the gate of its conditioning."""
        modulation, gate = [], None
        if self.modulation is not None:
            *modulation, gate = self.modulate(context.tokens)
        h: Tensor | Deferred
        if context.light and getattr(self.inner, "takes_deferred", False):
            h = Deferred(self.enter, (x, *modulation), tuple(self.norm.parameters()))
        else:
            h = self.enter(x, *modulation, valid=context.tokens.valid)
        return (self.inner(h, context) if self.takes_context else self.inner(h)), gate

    def leave(self, y: Tensor, tokens: Tokens, gate: Tensor | None = None) -> Tensor:
        """What the stream gets of the branch's value: normed, dropped, scaled, gated."""
        y = normed(self.norm_out, y, tokens.valid)
        if self.training and self.dropout:
            y = dropout(y, self.dropout)
        if self.scale is not None:
            y = y * self.scale
        if gate is not None:
            y = y * gate
        if self.training and self.drop_path:
            y = keep_path(y, tokens, self.drop_path)
        return y

    def enter(
        self, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None, *, valid: Tensor | None = None
    ) -> Tensor:
        """What the branch reads of the stream: its norm, modulated."""
        h = normed(self.norm, x, valid)
        return h if shift is None or scale is None else h * (1 + scale) + shift

    def modulate(self, tokens: Tokens) -> list[Tensor]:
        """shift, scale and gate, each broadcastable to the features; from cond [B, P], [B, N, P] or [T, P]."""
        if tokens.cond is None:
            raise ValueError('backbone.condition = "adaln_zero" reads Tokens.cond, which these tokens don\'t have')
        assert self.modulation is not None
        values = self.modulation(F.silu(tokens.cond))
        if tokens.packed and values.shape[0] != tokens.x.shape[0]:
            values = values[tokens.sample_T]
        elif not tokens.packed and values.dim() == 2:
            values = values[:, None]
        return list(values.chunk(3, dim=-1))


class Together(nn.Module):
    """Modules that read the same input; their outputs are summed."""

    def __init__(self, parts: dict[str, nn.Module], with_context: dict[str, bool]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.with_context = with_context
        self.takes_deferred = all(getattr(part, "takes_deferred", False) for part in parts.values())

    def forward(self, x: Tensor | Deferred, context: Context) -> Tensor:
        """Sum over the parts."""
        outputs = [part(x, context) if self.with_context[name] else part(x) for name, part in self.parts.items()]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total


Branch = Callable[[Tensor, Context], Tensor]
