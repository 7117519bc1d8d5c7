"""Softmax attention as a mixer: multi-head or grouped-query, of the tokens to themselves or to a memory.

B samples, N tokens, M memory tokens, D features, H query heads, G key/value heads, E features a head.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from isoform.core.attention import attention
from isoform.core.linear import Linear
from isoform.core.mixers.contract import Context, Traits
from isoform.core.norms import make_norm
from isoform.core.positions import rotate
from isoform.core.recompute import Deferred, forgetting
from isoform.core.schema import BackboneConfig


class SoftmaxAttention(nn.Module):
    """Scaled dot-product attention between its projections (Vaswani et al. 2017, section 3.2).

    `qkv` holds the rows of all queries, then all keys, then all values, each head after head; as `cross` there are
    `q` and `kv` instead and keys and values come from the stream "memory".
    """

    traits = Traits(causal=True, equivariant=True, pair_bias=True, ragged=True, reads_memory=True, narrows=True)
    takes_deferred = True  # reads its input through linear layers alone

    def __init__(self, config: BackboneConfig, *, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        if self.heads % self.kv_heads:
            raise ValueError(f"backbone.kv_heads = {self.kv_heads} must divide backbone.heads = {self.heads}")
        if config.head_dim is None and config.dim % self.heads:
            raise ValueError(f"backbone.heads = {self.heads} must divide backbone.dim = {config.dim}, or set head_dim")
        self.head_dim = config.head_dim or config.dim // self.heads
        self.causal, self.impl, self.cross = config.causal and not cross, config.attention, cross
        self.attention_dropout = config.attention_dropout
        inner, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if cross:
            self.q = Linear(config.dim, inner, bias=config.qkv_bias)
            self.kv = Linear(config.dim, 2 * kv, bias=config.qkv_bias)
        else:
            self.qkv = Linear(config.dim, inner + 2 * kv, bias=config.qkv_bias)
        self.q_norm = make_norm(config.qk_norm, self.head_dim, config.eps, config.norm_bias)
        self.k_norm = make_norm(config.qk_norm, self.head_dim, config.eps, config.norm_bias)
        self.norm = make_norm(config.norm if config.mixer_norm else "none", inner, config.eps, config.norm_bias)
        self.gate = Linear(config.dim, inner, bias=config.qkv_bias) if config.gated else None
        self.proj = Linear(inner, config.dim, bias=config.proj_bias)
        self.rotary = None if cross or not config.position.startswith("rotary") else config.position
        if self.rotary == "rotary_learned":  # Heo et al. 2024: a frequency for each axis, head and pair
            self.frequencies = nn.Parameter(torch.randn(2, self.heads, self.head_dim // 2))

    def project(self, x: Tensor | Deferred, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, heads, tokens, E] (packed: [T, heads, E]), normed and turned but not scaled.

        Queries of the first tokens alone where the context asks for no more.
        """
        sizes = (self.heads, self.kv_heads, self.kv_heads)
        if self.cross:
            memory = context.memory.x
            parts = [self.q(x), *self.kv(memory).chunk(2, dim=-1)]
            q, k, v = (p.unflatten(-1, (h, self.head_dim)) for p, h in zip(parts, sizes, strict=True))
        else:
            q, k, v = self.qkv(x).unflatten(-1, (sum(sizes), self.head_dim)).split(sizes, dim=-2)
        if not context.tokens.packed:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            cos, sin = self.turn(context)
            half = self.rotary == "rotary_half"
            q, k = rotate(q, cos, sin, half), rotate(k, cos, sin, half)
        return (q if context.first is None else q[:, :, : context.first]), k, v

    def turn(self, context: Context) -> tuple[Tensor, Tensor]:
        """cos and sin of each token's angles, broadcastable to the queries' and keys' halves."""
        if self.rotary != "rotary_learned":
            assert context.rotation is not None
            return context.rotation
        pos = context.tokens.pos
        assert pos is not None
        angle = pos[..., :1, None] * self.frequencies[0] + pos[..., 1:2, None] * self.frequencies[1]
        angle = angle if context.tokens.packed else angle.transpose(1, 2)
        return angle.cos(), angle.sin()

    def forward(self, x: Tensor | Deferred, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        tokens = context.tokens
        keys = context.memory if self.cross else tokens
        q, k, v = self.project(x, context)
        bias = None if self.cross else context.bias
        if context.first is not None:
            bias = bias and bias.cut(slice(context.first))
        light = context.light and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        with forgetting((q, k, v), lambda: self.project(x, context)) if light else nullcontext():
            y = attention(
                q, k, v,
                bias=bias,
                valid_q=None, valid_kv=keys.valid,
                offsets_q=tokens.offsets, offsets_kv=keys.offsets,
                causal=self.causal,
                dropout=self.attention_dropout if self.training else 0.0,
                impl=self.impl,
            )  # fmt: skip
        y = (y if tokens.packed else y.transpose(1, 2)).flatten(-2)
        y = self.norm(y)
        if self.gate is not None:
            gate = self.gate(x)
            y = y * (gate if context.first is None else gate[:, : context.first]).sigmoid()
        return self.proj(y)
