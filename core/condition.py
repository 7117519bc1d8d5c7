"""Time and labels as the vector that adaLN reads (Tokens.cond), and the output layer that reads it too.

Of the diffusion transformer (Peebles & Xie 2023, arXiv:2212.09748). B samples, C kinds of labels, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.tokens import Tokens

FEATURES = 256  # of a time, before it is embedded


def time_features(t_B: Tensor) -> Tensor:
    """[B, 256] cosines, then sines, of t at frequencies from 1 down to almost 1 / 10,000."""
    half = FEATURES // 2
    number = torch.arange(half, device=t_B.device, dtype=torch.float32)
    frequency = torch.exp(-math.log(10000.0) * number / half)
    phase = t_B[:, None].float() * frequency
    return torch.cat([phase.cos(), phase.sin()], dim=1).to(t_B.dtype)


class Condition(nn.Module):
    """A time and labels -> [B, D], the sum of their embeddings. `labels`: how many there are of each kind, beside 0.

    Label 0 is "not told", what classifier-free guidance leads away from.
    """

    def __init__(self, dim: int, labels: Sequence[int] = ()) -> None:
        super().__init__()
        first, last = nn.Linear(FEATURES, dim), nn.Linear(dim, dim)
        self.time = nn.Sequential(first, nn.SiLU(), last)
        tables = [nn.Embedding(count + 1, dim) for count in labels]
        self.labels = nn.ModuleList(tables)
        for linear in (first, last):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for table in tables:
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, t_B: Tensor, labels_BC: Tensor | None = None) -> Tensor:
        """Times [B] and labels [B, C] -> [B, D]; all labels are "not told" without `labels_BC`."""
        if labels_BC is None:
            labels_BC = t_B.new_zeros(len(t_B), len(self.labels), dtype=torch.long)
        embedded: Tensor = self.time(time_features(t_B))
        for number, table in enumerate(self.labels):
            embedded = embedded + table(labels_BC[:, number].long())
        return embedded


class ModulatedHead(nn.Module):
    """Linear layer behind a norm that is shifted and scaled by the condition; starts as 0 everywhere."""

    def __init__(self, dim: int, outputs: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 2 * dim)
        self.linear = nn.Linear(dim, outputs)
        for layer in (self.modulation, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens with `cond` [B, D] -> [B, N, outputs] (packed: [T, outputs])."""
        assert tokens.cond is not None
        modulation = self.modulation(F.silu(tokens.cond))
        shift, scale = tokens.per_token(modulation).chunk(2, dim=-1)
        output: Tensor = self.linear(self.norm(tokens.x) * (1 + scale) + shift)
        return output
