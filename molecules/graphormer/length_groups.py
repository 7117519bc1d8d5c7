"""A batch in groups of like length, so that small molecules don't pay for the largest: on a CPU, padding is work.

B molecules, N tokens each with the padded ones, D features. Results don't change: padding never changes a molecule's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isoform.core.attention.bias import Dense
from isoform.core.tokens import Tokens

# What a group costs, measured with the slim model on one core: so many tokens' worth of work to start with, and of each
# token as much as of its pairs with so many others.
START, PAIRS = 350, 32
MOST = 4
FEWEST = 16  # molecules in a group


def plan_groups(sizes_B: Tensor) -> list[Tensor]:
    """Rows of every group, from the largest molecules to the smallest; a single one where cutting wouldn't pay."""
    order = sizes_B.argsort(descending=True, stable=True)
    sizes = sizes_B[order].tolist()
    steps = {}
    for count in range(1, min(MOST, len(sizes) // FEWEST) + 1):
        step = -(-len(sizes) // count)
        steps[_cost(sizes, step)] = step
    return list(order.split(steps[min(steps)])) if steps else [order]


def _cost(sizes: list[int], step: int) -> float:
    """Of groups of `step` molecules, each padded to its first."""
    total = 0.0
    for start in range(0, len(sizes), step):
        count, longest = len(sizes[start : start + step]), sizes[start]
        total += START + count * longest * (1 + longest / PAIRS)
    return total


def run_by_length(
    tokens: Tokens, bias: Dense | None, run: Callable[[Tokens, Dense | None], Tensor]
) -> Tensor:
    """`run` on all tokens, or on the groups of a batch one by one: [B, D], a row a molecule.

    A group is cut to its largest molecule. Tokens are in the padded layout, `bias` [B, 1, N, N].
    """
    valid = tokens.valid
    if (
        valid is None
        or valid.device.type != "cpu"
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    ):
        return run(tokens, bias)
    groups = plan_groups(valid.sum(1))
    if len(groups) <= 1:
        return run(tokens, bias)
    results = []
    for rows in groups:
        n = (
            int(valid[rows].any(0).nonzero().max()) + 1
        )  # the last place that any molecule of the group uses
        group_bias = None if bias is None else Dense(bias.b[rows, :, :n, :n])
        results.append(run(tokens.select(rows, n), group_bias))
    return torch.cat(results).index_select(0, torch.cat(groups).argsort())
