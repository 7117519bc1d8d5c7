"""Softmax attention as a mixer: multi-head or grouped-query, of the tokens to themselves or to a memory.

B samples, N tokens, M memory tokens, D features, H query heads, G key/value heads, E features a head, F features a head
of the values (usually E).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from isoform.core.attention import attention
from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers.contract import Context, Traits
from isoform.core.norms import make_norm, norm_of
from isoform.core.ops.decay import without_decay
from isoform.core.ops.linear import Linear
from isoform.core.ops.matmul import linear
from isoform.core.ops.recompute import Deferred, recompute_in_backward
from isoform.core.positions import rotate


class SoftmaxAttention(nn.Module):
    """Scaled dot-product attention between its projections (Vaswani et al. 2017, section 3.2).

    `qkv` holds the rows of all queries, then all keys, then all values, each head after head; as `cross` there are
    `q` and `kv` instead and keys and values come from the stream "memory".
    """

    traits = Traits(
        causal=True, equivariant=True, pair_bias=True, ragged=True, reads_memory=True, narrows=True
    )
    takes_deferred = True  # reads its input through linear layers alone

    def __init__(self, config: BackboneConfig, *, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        if self.heads % self.kv_heads:
            raise ValueError(
                f"backbone.kv_heads = {self.kv_heads} must divide backbone.heads = {self.heads}"
            )
        if config.head_dim is None and config.dim % self.heads:
            raise ValueError(
                f"backbone.heads = {self.heads} must divide backbone.dim = {config.dim}, or set head_dim"
            )
        self.head_dim = config.head_dim or config.dim // self.heads
        self.value_dim = config.value_dim or self.head_dim
        self.causal, self.impl, self.cross = config.causal and not cross, config.attention, cross
        self.attention_dropout = config.attention_dropout
        self.shapes = (
            (self.heads, self.head_dim),
            (self.kv_heads, self.head_dim),
            (self.kv_heads, self.value_dim),
        )
        self.widths = [heads * size for heads, size in self.shapes]  # of queries, keys and values
        mixed = self.heads * self.value_dim
        if not config.proj and mixed != config.dim:
            raise ValueError(
                f"backbone.proj = false leaves {self.heads} heads of {self.value_dim} values beside a stream of "
                f"{config.dim} features: set backbone.value_dim to {config.dim / self.heads:g}"
            )
        bias = config.qkv_bias
        if cross:
            self.q = Linear(config.dim, self.widths[0], bias)
            self.kv = Linear(config.dim, sum(self.widths[1:]), bias)
        else:
            self.qkv = Linear(config.dim, sum(self.widths), bias)
        self.q_norm = make_norm(config.qk_norm, self.head_dim, config.eps, config.norm_bias)
        self.k_norm = make_norm(config.qk_norm, self.head_dim, config.eps, config.norm_bias)
        self.norm = norm_of(config, mixed, when=config.mixer_norm)
        self.gate = Linear(config.dim, mixed, bias) if config.gated else None
        self.proj = Linear(mixed, config.dim, config.proj_bias) if config.proj else nn.Identity()
        self.rotary = (
            config.position if config.position.startswith("rotary") and not cross else None
        )
        if (
            self.rotary == "rotary_learned"
        ):  # Heo et al. 2024: a frequency for each axis, head and pair
            frequencies = nn.Parameter(torch.randn(2, self.heads, self.head_dim // 2))
            self.frequencies = without_decay(frequencies)

    def project_qkv(self, x: Tensor | Deferred, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, heads, tokens, E or F] (packed: [T, heads, ...]), normed, rotated, not scaled.

        Queries of the first tokens alone where the context asks for no more.
        """
        parts = self._qkv_parts(x, context)
        q, k, v = (
            part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)
        )
        if not context.tokens.packed:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            cos, sin = self.rope_cos_sin(context)
            half = self.rotary == "rotary_half"
            q = rotate(q, cos, sin, half)
            k = rotate(k, cos, sin, half)
        if context.first is not None:
            q = q[:, :, : context.first]
        return q, k, v

    def _qkv_parts(self, x: Tensor | Deferred, context: Context) -> Sequence[Tensor]:
        """Queries, keys and values before they are cut into heads; where not all queries are wanted, no other is made.

        Unless the rest is less than an eighth, which costs more to cut out than it saves.
        """
        if self.cross:
            return [self.q(x), *self.kv(context.memory.x).split(self.widths[1:], dim=-1)]
        first = context.first
        fused = self.rotary is not None or type(self.qkv) is not Linear
        if isinstance(x, Deferred) or first is None or fused or 8 * first > 7 * x.shape[1]:
            return self.qkv(x).split(self.widths, dim=-1)
        sizes = [self.widths[0], sum(self.widths[1:])]
        weights = self.qkv.weight.split(sizes)
        biases = (None, None) if self.qkv.bias is None else self.qkv.bias.split(sizes)
        q = linear(x[:, :first].contiguous(), weights[0], biases[0])
        kv = linear(x, weights[1], biases[1])
        return [q, *kv.split(self.widths[1:], dim=-1)]

    def rope_cos_sin(self, context: Context) -> tuple[Tensor, Tensor]:
        """cos and sin of each token's angles, broadcastable to the queries' and keys' halves."""
        if self.rotary != "rotary_learned":
            assert context.rotation is not None
            return context.rotation
        pos = context.tokens.pos
        assert pos is not None
        angle = pos[..., :1, None] * self.frequencies[0] + pos[..., 1:2, None] * self.frequencies[1]
        if not context.tokens.packed:
            angle = angle.transpose(1, 2)
        return angle.cos(), angle.sin()

    def forward(self, x: Tensor | Deferred, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        tokens, first = context.tokens, context.first
        keys = context.memory if self.cross else tokens
        q, k, v = self.project_qkv(x, context)
        bias = None if self.cross else context.bias
        if bias is not None and first is not None:
            bias = bias.slice(slice(first))
        light = context.recompute == "light" and torch.is_grad_enabled()
        saved: AbstractContextManager[None] = nullcontext()
        if light and not torch.compiler.is_compiling():
            saved = recompute_in_backward((q, k, v), lambda: self.project_qkv(x, context))
        with saved:
            y = attention(
                q,
                k,
                v,
                bias=bias,
                valid_kv=keys.valid,
                offsets_q=tokens.offsets,
                offsets_kv=keys.offsets,
                causal=self.causal,
                dropout=self.attention_dropout if self.training else 0.0,
                impl=self.impl,
            )
        y = (y if tokens.packed else y.transpose(1, 2)).flatten(-2)
        y = self.norm(y)
        if self.gate is not None:
            gate = self.gate(x)
            y = y * (gate if first is None else gate[:, :first]).sigmoid()
        return self.proj(y)
