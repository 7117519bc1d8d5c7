"""Tokens -> answer: a readout, a norm, dropout and a linear layer.

B images, D features, K classes or targets.
"""

from __future__ import annotations

from torch import Tensor, nn

from isoform.core.config.schema import READOUTS, BackboneConfig
from isoform.core.norms import make_norm
from isoform.core.readout import AttentionPool, read
from isoform.core.tokens import Tokens
from isoform.vision.vit.config import VitHeadConfig


class VitHead(nn.Module):
    """Pooled features to K outputs; with a distillation token, the mean of two linear layers' answers (DeiT)."""

    def __init__(
        self,
        config: VitHeadConfig,
        backbone: BackboneConfig,
        *,
        distilled: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        width = backbone.dim * READOUTS[config.pool]
        self.pool = (
            AttentionPool(backbone, config.pool_heads, config.pool_mlp)
            if config.pool == "attention"
            else None
        )
        self.norm = make_norm(
            backbone.norm if config.norm else "none", width, backbone.eps, backbone.norm_bias
        )
        self.dropout = nn.Dropout(config.dropout)
        self.linear: nn.Linear | None = None
        self.linear_distill: nn.Linear | None = None
        if config.outputs:
            self.linear = nn.Linear(width, config.outputs)
        if config.outputs and distilled:
            self.linear_distill = nn.Linear(backbone.dim, config.outputs)
        for linear in (self.linear, self.linear_distill):
            if (
                linear is not None
            ):  # nearly the same answer for everything, but not so small that the trunk learns late
                nn.init.trunc_normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)

    @property
    def reads(self) -> int | None:
        """How many leading tokens the answer depends on; None: all."""
        if self.config.pool != "class":
            return None
        return 1 if self.linear_distill is None else 2

    def features(self, tokens: Tokens) -> Tensor:
        """[B, D] pooled and normed features."""
        if self.pool is not None:
            pooled = tokens if self.config.pool_prefix else tokens.body()
            return self.norm(self.pool(pooled))
        return self.norm(read(tokens, self.config.pool, self.config.pool_prefix))

    def forward(self, tokens: Tokens) -> Tensor:
        """[B, K] logits or targets; [B, D] features where K is 0."""
        features = self.features(tokens)
        if self.linear is None:
            return features
        if self.linear_distill is not None:
            own = self.linear(self.dropout(features))
            distilled = self.linear_distill(self.dropout(tokens.x[:, 1]))
            return (own + distilled) / 2
        return self.linear(self.dropout(features))
