"""Attention over the edges of a graph, which carry features of their own: the neighbour mask is the list of edges.

N tokens in all (padded or packed, their leading axes flattened), U directed edges, D features, H heads, E features a
head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers.contract import Context, Traits
from isoform.core.ops.linear import Linear

LIMIT = 5.0  # what scores are clamped to before their exponential
EPS = 1e-6  # beside the denominator
# What other keys of a mixer must be, since nothing here reads them.
ONLY = {
    "kv_heads": None,
    "value_dim": None,
    "qk_norm": "none",
    "gated": False,
    "mixer_norm": False,
    "proj": True,
}


class NeighbourAttention(nn.Module):
    """The graph transformer's attention (Dwivedi & Bresson 2021, arXiv:2012.09699, equations 10 to 13).

    An edge from j to i has the scores w = (Q x_i * K x_j / sqrt(E)) * (W e), a vector a head; token i gets the mean of
    V x_j weighted by exp(clamp(sum(w), -5, 5)), with 1e-6 beside the denominator, and the edge gets w itself. Both go
    through an output projection. A token that no edge leads to gets 0. `qkv` holds queries, then keys, then values.
    """

    traits = Traits(equivariant=True, ragged=True, edges=True)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        for key, plain in ONLY.items():
            if getattr(config, key) != plain:
                raise ValueError(
                    f'backbone.mixer = "neighbour" knows no backbone.{key}: leave it out'
                )
        if config.head_dim is None and config.dim % config.heads:
            raise ValueError(
                f"backbone.heads = {config.heads} must divide backbone.dim = {config.dim}, or set head_dim"
            )
        dim = config.dim
        self.heads = config.heads
        self.head_dim = config.head_dim or dim // config.heads
        inner = self.heads * self.head_dim
        self.qkv = Linear(dim, 3 * inner, config.qkv_bias)
        self.edge = Linear(dim, inner, config.qkv_bias)
        self.proj = Linear(inner, dim, config.proj_bias)
        self.edge_proj = Linear(inner, dim, config.proj_bias)
        self.attention_dropout = config.attention_dropout

    def forward(self, x: Tensor, edges_UD: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """[B, N, D] (packed: [T, D]) and [U, D] -> the same two shapes."""
        assert context.ends is not None
        source, target = context.ends.long().unbind(1)
        shape = (self.heads, self.head_dim)
        q, k, v = (
            part.unflatten(-1, shape).flatten(0, -3) for part in self.qkv(x).chunk(3, dim=-1)
        )
        edges_UHE = self.edge(edges_UD).unflatten(-1, shape)
        scores = q[target] * k[source] * (edges_UHE * self.head_dim**-0.5)
        working = torch.float64 if scores.dtype == torch.float64 else torch.float32
        weight = scores.to(working).sum(-1, keepdim=True).clamp(-LIMIT, LIMIT).exp()
        total = weight.new_zeros(len(q), self.heads, 1).index_add(0, target, weight)
        if self.training and self.attention_dropout:
            weight = F.dropout(weight, self.attention_dropout)
        values = weight * v[source].to(working)
        mixed = weight.new_zeros(q.shape).index_add(0, target, values)
        mixed = (mixed / (total + EPS)).to(x.dtype).flatten(1)
        y = self.proj(mixed).view(x.shape)
        return y, self.edge_proj(scores.flatten(1))
