"""iTransformer in plain PyTorch, as one would write it from the paper (Liu et al. 2024): a peer for the benchmark.

It shares no code with isoform. B windows, L rows of look-back, H of horizon, V variates, M time marks, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EncoderLayer(nn.Module):
    """Attention between tokens, then an MLP; a LayerNorm after each sum."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.heads, size = heads, dim // heads
        self.query, self.key, self.value = (nn.Linear(dim, heads * size) for _ in range(3))
        self.out = nn.Linear(heads * size, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = {"gelu": F.gelu, "relu": F.relu}[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> the same shape."""
        q, k, v = (
            f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        mixed = (
            F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)
        )
        x = self.norm1(x + self.dropout(self.out(mixed)))
        hidden = self.dropout(self.activation(self.up(x)))
        return self.norm2(x + self.dropout(self.down(hidden)))


class PlainITransformer(nn.Module):
    """Normalise each look-back, embed each variate and mark as a token, encode, project to the horizon, go back."""

    def __init__(
        self, context: int, horizon: int, *, dim: int, depth: int, heads: int, hidden: int, dropout: float = 0.0,
        activation: str = "gelu", use_norm: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.use_norm = use_norm
        self.embed = nn.Linear(context, dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, hidden, dropout, activation) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, horizon)

    def forward(self, x: Tensor, marks: Tensor | None = None) -> Tensor:
        """[B, L, V], [B, L, M] -> [B, H, V]."""
        variates = x.shape[2]
        if self.use_norm:
            mean = x.mean(1, keepdim=True).detach()
            x = x - mean
            std = torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
            x = x / std
        tokens = self.dropout(
            self.embed((x if marks is None else torch.cat([x, marks], 2)).transpose(1, 2))
        )
        for layer in self.layers:
            tokens = layer(tokens)
        y = self.project(self.norm(tokens))[:, :variates].transpose(1, 2)
        return y * std + mean if self.use_norm else y


# Their names beside those above; the official MLP is made of convolutions of width 1.
RENAMED = {
    "enc_embedding.value_embedding": "embed", "encoder.attn_layers": "layers", "attention.query_projection": "query",
    "attention.key_projection": "key", "attention.value_projection": "value", "attention.out_projection": "out",
    "conv1": "up", "conv2": "down", "encoder.norm": "norm", "projector": "project",
}  # fmt: skip


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of thuml/iTransformer for `load_state_dict`."""
    found = {}
    for name, tensor in state.items():
        own = name
        for theirs, ours in RENAMED.items():
            own = own.replace(theirs, ours)
        found[own] = tensor.squeeze(-1) if tensor.dim() == 3 else tensor
    return found
