"""Tokens -> predictions: a pooled vector a molecule, then the layers of one of two code bases.

B molecules, N atoms (padded), D features, K outputs.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from isoform.core.backbone import initialise
from isoform.core.config.schema import GATED, BackboneConfig
from isoform.core.ffn import ACTIVATIONS
from isoform.core.norms import make_norm
from isoform.core.ops.linear import Linear
from isoform.core.readout import read
from isoform.core.tokens import Tokens
from isoform.molecules.config import HeadConfig


def pooled(tokens: Tokens, pool: str) -> Tensor:
    """[B, D]: the graph token ("graph"), or the "mean" or "sum" of the atoms."""
    if pool == "sum":
        x_BND = tokens.x[:, tokens.prefix :]
        return (
            x_BND if tokens.valid is None else x_BND * tokens.valid[:, tokens.prefix :, None]
        ).sum(1)
    return read(tokens, "class" if pool == "graph" else pool)


class GraphormerHead(nn.Module):
    """A layer with the trunk's activation and a norm, then a matrix without biases and one scalar for all outputs.

    `descriptors`: as many numbers a molecule come in beside the pooled vector, as if the first layer read both (Yang et
    al. 2019, arXiv:1904.01561). Raises ValueError for descriptors without that layer.
    """

    def __init__(
        self, config: HeadConfig, backbone: BackboneConfig, outputs: int, descriptors: int = 0
    ) -> None:
        super().__init__()
        dim = backbone.dim
        self.transform = Linear(dim, dim) if config.hidden else None
        self.activation = ACTIVATIONS.get(
            GATED.get(backbone.channel, backbone.channel), ACTIVATIONS["gelu"]
        )
        self.norm = make_norm("layer" if config.hidden else "none", dim, backbone.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.out = Linear(
            dim,
            outputs,
            bias=False,
        )
        self.bias = nn.Parameter(torch.zeros(1))
        if self.transform is not None:
            initialise(self.transform)
        if descriptors:
            if self.transform is None:
                raise ValueError(
                    "head.descriptors = true needs a layer that reads them: head.hidden = true"
                )
            self.descriptors = Linear(descriptors, dim, bias=False)
            initialise(self.descriptors)
        nn.init.trunc_normal_(self.out.weight, std=0.02)

    def hidden(self, x: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """[..., D] and [..., F] -> [..., D], what the last matrix reads."""
        if self.transform is None:
            return x
        x = self.transform(x)
        if descriptors is not None:
            x = x + self.descriptors(self.dropout(descriptors))
        return self.norm(self.activation(x))

    def forward(self, x_BD: Tensor, descriptors_BF: Tensor | None = None) -> Tensor:
        """[B, D] and [B, F] -> [B, K]."""
        return self.out(self.dropout(self.hidden(x_BD, descriptors_BF))) + self.bias


class ReadoutHead(nn.Module):
    """Layers of half and of a quarter of the width with ReLU, then the last (Dwivedi et al. 2020, arXiv:2003.00982)."""

    def __init__(self, config: HeadConfig, backbone: BackboneConfig, outputs: int) -> None:
        super().__init__()
        widths = [
            backbone.dim,
            *([backbone.dim // 2, backbone.dim // 4] if config.hidden else []),
            outputs,
        ]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        if backbone.init == "xavier":
            self.apply(initialise)

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] -> [B, K]."""
        x = self.dropout(x_BD)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
