"""Channel mixers: the function applied to each token by itself.

D features in and out, F hidden ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import GATED, BackboneConfig
from isoform.core.mixers.contract import Context
from isoform.core.norms import norm_of
from isoform.core.ops.dropout import Dropout
from isoform.core.ops.linear import Linear
from isoform.core.ops.recompute import Deferred


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation that the first CLIP models were trained with."""
    return x * (1.702 * x).sigmoid()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks & Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class Mlp(nn.Module):
    """fc1, activation, fc2 [..., D] -> [..., D]; gated kinds use half of fc1's outputs as the gate (Shazeer 2020)."""

    takes_deferred = True  # reads its input through a linear layer alone

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        hidden = config.mlp_dim or 4 * config.dim
        self.gated = config.channel in GATED
        self.activation = ACTIVATIONS[GATED.get(config.channel, config.channel)]
        self.fc1 = Linear(config.dim, 2 * hidden if self.gated else hidden, bias=config.mlp_bias)
        self.norm = norm_of(config, hidden, when=config.mlp_norm)
        self.fc2 = Linear(hidden, config.dim, bias=config.mlp_bias)
        self.dropout = Dropout(config.dropout if config.mlp_dropout is None else config.mlp_dropout)

    def forward(self, x: Tensor | Deferred, context: Context | None = None) -> Tensor:
        """[..., D] -> [..., D]; of the context only `recompute` is read, and only where the input is deferred."""
        if not isinstance(x, Deferred):
            return self.fc2(self.hidden(self.fc1(x)))
        parameters = tuple(self.norm.parameters())
        if context is not None and context.recompute == "elementwise":
            return self.fc2(Deferred(self.hidden, (self.fc1(x),), parameters))
        whole = x.then(lambda y: self.hidden(self.fc1(y)), (*self.fc1.parameters(), *parameters))
        return self.fc2(whole)

    def hidden(self, x: Tensor) -> Tensor:
        """What fc2 reads, [..., F], from what fc1 says."""
        if self.gated:
            gate, value = x.chunk(2, dim=-1)
            hidden = self.activation(gate) * value
        else:
            hidden = self.activation(x)
        return self.norm(self.dropout(hidden))


def make_channel_mixer(config: BackboneConfig) -> nn.Module | None:
    """The channel mixer that the table names; None for "none"."""
    return None if config.channel == "none" else Mlp(config)
