"""Several trained models as one: what the runs of `--seeds` answer together, and how far they are apart.

M members, n items of a batch, K outputs of an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def average(answers: Tensor, outputs: Outputs) -> Tensor:
    """[M, ...] -> [...]; see Ensemble."""
    if outputs == "numbers":
        return answers.mean(0)
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
