"""Tokens -> classes of a cloud.

B clouds, D features, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from isoform.core.config.schema import READOUTS, BackboneConfig
from isoform.core.ops.linear import Linear
from isoform.core.readout import read
from isoform.core.tokens import Tokens
from isoform.pointcloud.config import PointHeadConfig


class BatchNorm(nn.BatchNorm1d):
    """Of a batch of one, which has no deviation, by the running statistics: the last of an epoch may be such a one."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, D]."""
        if self.training and len(input) == 1:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                eps=self.eps,
            )
        return super().forward(input)


class PointHead(nn.Module):
    """A pooled vector, then layers with batch norm (on request), ReLU and dropout, then the last."""

    def __init__(self, config: PointHeadConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.pool = config.pool
        width = READOUTS[config.pool] * backbone.dim
        self.hidden = nn.ModuleList()
        self.norms = nn.ModuleList()
        for hidden in config.widths:
            self.hidden.append(Linear(width, hidden))
            self.norms.append(BatchNorm(hidden) if config.norm else nn.Identity())
            width = hidden
        self.dropout = nn.Dropout(config.dropout)
        self.out = Linear(width, config.outputs) if config.outputs else nn.Identity()

    def features(self, tokens: Tokens) -> Tensor:
        """[B, 2 D] (or D): the pooled vector."""
        return read(tokens, self.pool)

    def forward(self, tokens: Tokens) -> Tensor:
        """[B, K]."""
        x = self.features(tokens)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = self.dropout(norm(layer(x)).relu())
        return self.out(x)
