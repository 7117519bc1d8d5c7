"""Series -> tokens: a variate's look-back as it is.

B windows, L rows of look-back, V variates.
"""

from __future__ import annotations

from torch import Tensor, nn

from isoform.core.ops.dropout import Dropout
from isoform.core.tokens import Tokens


class LookbackTokeniser(nn.Module):
    """[B, V, L] normalised look-backs are Tokens of L features already; covariates have no place among them."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, x_BVL: Tensor, *others: Tensor | None) -> Tokens:
        """Tokens [B, V, L]. Raises ValueError where covariates, time marks or static values are given."""
        if any(other is not None for other in others):
            raise ValueError("SAMformer forecasts from the targets alone, and was given covariates")
        return Tokens(self.dropout(x_BVL))
