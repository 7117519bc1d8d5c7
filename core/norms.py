"""Norm fillers, by name."""

from __future__ import annotations

from torch import nn

NORMS = ("layer", "layer_plain", "rms", "none")


def make_norm(kind: str, dim: int, eps: float, bias: bool = True) -> nn.Module:
    """LayerNorm ("layer"; "layer_plain" has no weights, Peebles & Xie 2023), RMSNorm ("rms") or nothing ("none").

    Normalises the last axis, of size `dim`. Raises ValueError for another name.
    """
    match kind:
        case "layer":
            return nn.LayerNorm(dim, eps=eps, bias=bias)
        case "layer_plain":
            return nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        case "rms":
            return nn.RMSNorm(dim, eps=eps)
        case "none":
            return nn.Identity()
    raise ValueError(f"no norm is called {kind!r}; there are {', '.join(NORMS)}")
