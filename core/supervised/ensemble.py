"""Several trained models as one: what the runs of `--seeds` or `--folds` answer together, and how far they are apart.

M members, n items of a batch, K outputs of an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoform.core.domain import Outputs


class Ensemble(nn.Module):
    """Called as each of its members is; answers in their place with what stands for their average.

    Numbers are averaged; of logits, the logits of the members' mean probabilities. `answers` [M, n, ...] keeps what
    each member said to the last call.
    """

    def __init__(self, members: Sequence[nn.Module], outputs: Outputs) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.outputs = outputs
        self.answers = torch.empty(0)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """float32, of a member's shape."""
        self.answers = torch.stack([member(*inputs, **named).float() for member in self.members])
        return average(self.answers, self.outputs)

    def features(self, *inputs: Any, **named: Any) -> Tensor:
        """[..., M * D] the members' features side by side: no axis of one means what it means in another."""
        each: list[Any] = list(self.members)
        return torch.cat([member.features(*inputs, **named).float() for member in each], -1)


class Adapted(nn.Module):
    """A model that is called, and answers, on other scales than it was trained on."""

    def __init__(
        self,
        model: nn.Module,
        before: Callable[[Any], Any],
        after: Callable[[Tensor], Tensor] = lambda output: output,
    ) -> None:
        """`before` makes the model's own input of what it is called with, `after` the answer of its own output."""
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, batch: Any) -> Tensor:
        """float32."""
        return self.after(self.model(self.before(batch)).float())

    def features(self, batch: Any) -> Tensor:
        """The model's own."""
        model: Any = self.model
        features: Tensor = model.features(self.before(batch))
        return features

    def __getattr__(self, name: str) -> Any:
        """What else is asked of the model itself, such as its `tokeniser`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)


def answer_in(
    mean: Sequence[float], std: Sequence[float], own_mean: Sequence[float], own_std: Sequence[float]
) -> Callable[[Tensor], Tensor]:
    """Scaled numbers [..., K] of one mean and deviation from those of a model's own."""
    factor = torch.tensor([b / a for a, b in zip(std, own_std, strict=True)], dtype=torch.float64)
    offset = [(b - a) / s for a, b, s in zip(mean, own_mean, std, strict=True)]
    shift = torch.tensor(offset, dtype=torch.float64)
    return lambda own: (own.double() * factor.to(own.device) + shift.to(own.device)).float()


def mean_arrays(each: Sequence[Mapping[str, np.ndarray] | None]) -> dict[str, np.ndarray]:
    """The means of calibrations' arrays, which bound the errors of the average of models; {} where they don't match."""
    first = each[0] or {}
    shapes = {name: array.shape for name, array in first.items()}
    for other in each:
        if {name: array.shape for name, array in (other or {}).items()} != shapes:
            return {}
    found = {name: np.mean([(one or {})[name] for one in each], 0) for name in first}
    return {name: value.astype(first[name].dtype) for name, value in found.items()}


def average(answers: Tensor, outputs: Outputs) -> Tensor:
    """[M, ...] -> [...]; see Ensemble."""
    if outputs == "numbers":
        return answers.mean(0)
    if isinstance(outputs, tuple):
        blocks = answers.split(outputs, -1)
        return torch.cat([average(block, "classes") for block in blocks], -1)
    share = math.log(len(answers))
    if outputs == "classes":
        return functional.log_softmax(answers, -1).logsumexp(0) - share
    yes, no = (functional.logsigmoid(sign * answers).logsumexp(0) for sign in (1, -1))
    return yes - no


def spread_of(model: nn.Module, guess: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """[n, ...] the standard deviation (of a sample) over the members of what `guess` makes of their last answers.

    None where the model is one alone.
    """
    if not isinstance(model, Ensemble):
        return None
    answers = model.answers.detach().float().cpu().numpy()
    return np.stack([guess(one) for one in answers]).std(0, ddof=1)
