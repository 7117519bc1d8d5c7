"""The mark of parameters that weight decay leaves alone though they are no vectors: learned tokens and positions."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

_MARK = "decays"
ParameterT = TypeVar("ParameterT", bound=Tensor)


def without_decay(parameter: ParameterT) -> ParameterT:
    """Marks a parameter where it is made, and returns it. A deep copy of it has no mark: mark before optimising."""
    setattr(parameter, _MARK, False)
    return parameter


def decays(name: str, parameter: Tensor) -> bool:
    """False for vectors (norms, scales), for whatever is called a bias, and for what is marked."""
    marked = not getattr(parameter, _MARK, True)
    return parameter.ndim > 1 and not name.endswith("bias") and not marked
