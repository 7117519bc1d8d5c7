"""The linear layer of every slot."""

from __future__ import annotations

from torch import Tensor, nn

from isoform.core.ops.matmul import linear
from isoform.core.ops.recompute import Deferred


class Linear(nn.Linear):
    """nn.Linear by the fastest product there is, which can also take an input that isn't kept (`Deferred`)."""

    def forward(self, x: Tensor | Deferred) -> Tensor:
        """[..., K] -> [..., N]."""
        if isinstance(x, Deferred):
            return x.linear(
                self.weight,
                self.bias,
            )
        return linear(x, self.weight, self.bias)
