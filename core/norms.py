"""Norm fillers, by name.

B samples, N tokens, T tokens in all, D features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig


class BatchNorm(nn.Module):
    """Each feature by its mean and variance over all real tokens of a batch (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In evaluation, and in a training batch of a single token, by their running averages (momentum 0.1, the variance
    unbiased).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """[B, N, D] or [T, D] -> the same shape; padding (valid_BN False) doesn't count, and gives 0 in training."""
        if not self.training:
            return self._by(x.flatten(0, -2), training=False).view(x.shape)
        rows = x.flatten(0, -2) if valid_BN is None else x[valid_BN]
        result = self._by(rows, training=rows.shape[0] > 1)
        if valid_BN is None:
            return result.view(x.shape)
        return result.new_zeros(x.shape).index_put((valid_BN,), result)

    def _by(self, rows_TD: Tensor, training: bool) -> Tensor:
        return F.batch_norm(
            rows_TD,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training,
            momentum=0.1,
            eps=self.eps,
        )


# Of the names in config.schema.NORMS: a module from the number of features, epsilon and whether it has a bias.
NORMS: dict[str, Callable[[int, float, bool], nn.Module]] = {
    "layer": lambda dim, eps, bias: nn.LayerNorm(dim, eps=eps, bias=bias),
    "layer_plain": lambda dim, eps, bias: nn.LayerNorm(
        dim, eps=eps, elementwise_affine=False
    ),  # Peebles & Xie 2023
    "rms": lambda dim, eps, bias: nn.RMSNorm(dim, eps=eps),
    "batch": BatchNorm,
    "none": lambda dim, eps, bias: nn.Identity(),
}


def make_norm(kind: str, dim: int, eps: float, bias: bool = True) -> nn.Module:
    """The norm of that name over the last axis, of size `dim`. Raises ValueError for another name."""
    if kind not in NORMS:
        raise ValueError(f"no norm is called {kind!r}; there are {', '.join(NORMS)}")
    return NORMS[kind](dim, eps, bias)


def norm_of(config: BackboneConfig, dim: int | None = None, when: bool = True) -> nn.Module:
    """The table's norm over `dim` features, a token's unless told; nothing unless `when`."""
    return make_norm(
        config.norm if when else "none", dim or config.dim, config.eps, config.norm_bias
    )


def apply_norm(norm: nn.Module, x: Tensor, valid_BN: Tensor | None) -> Tensor:
    """`norm` of x [B, N, D] or [T, D], told which tokens are real where that matters."""
    result: Tensor = norm(x, valid_BN) if isinstance(norm, BatchNorm) else norm(x)
    return result
