"""The mark of parameters that weight decay leaves alone though they are no vectors: learned tokens and positions."""

from __future__ import annotations

from torch import Tensor, nn

_MARK = "decays"


def without_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Marks a parameter where it is made, and returns it. A deep copy of it has no mark: mark before optimising."""
    setattr(parameter, _MARK, False)
    return parameter


def decays(name: str, parameter: Tensor) -> bool:
    """False for vectors (norms, scales), for whatever is called a bias, and for what is marked."""
    marked = not getattr(parameter, _MARK, True)
    return parameter.ndim > 1 and not name.endswith("bias") and not marked
