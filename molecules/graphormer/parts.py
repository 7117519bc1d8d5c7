"""A batch in parts of like size, so that small molecules don't pay for the largest one: on a CPU, padding is work.

B molecules, N tokens each with the padded ones, D features. Results don't change: padding never changes a molecule's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isoform.core.attention.bias import Dense
from isoform.core.tokens import Pair, Tokens

# What a part costs, measured with the slim model on one core: so many tokens' worth of work to start with, and of each
# token as much as of its pairs with so many others.
START, PAIRS = 350, 32
MOST = 4
FEWEST = 16  # molecules in a part


def plan(sizes_B: Tensor) -> list[Tensor]:
    """Rows of every part, from the largest molecules to the smallest; a single part where cutting wouldn't pay."""
    order = sizes_B.argsort(descending=True, stable=True)
    sizes = sizes_B[order].tolist()
    plans = {}
    for count in range(1, min(MOST, len(sizes) // FEWEST) + 1):
        step = -(-len(sizes) // count)
        cost = sum(
            START + len(sizes[at : at + step]) * sizes[at] * (1 + sizes[at] / PAIRS)
            for at in range(0, len(sizes), step)
        )
        plans[cost] = step
    if not plans:
        return [order]
    return list(order.split(plans[min(plans)]))


def in_parts(tokens: Tokens, bias: Dense | None, run: Callable[[Tokens, Dense | None], Tensor]) -> Tensor:
    """`run` on all tokens, or on the parts of a batch one by one: [B, D], a row a molecule.

    A part is cut to its largest molecule. Tokens are in the padded layout, `bias` [B, 1, N, N].
    """
    valid = tokens.valid
    if valid is None or valid.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return run(tokens, bias)
    parts = plan(valid.sum(1))
    if len(parts) <= 1:
        return run(tokens, bias)
    results = [run(*_cut(tokens, bias, rows)) for rows in parts]
    return torch.cat(results).index_select(0, torch.cat(parts).argsort())


def _cut(tokens: Tokens, bias: Dense | None, rows: Tensor) -> tuple[Tokens, Dense | None]:
    assert tokens.valid is not None and tokens.pair is not None
    valid = tokens.valid[rows]
    # The last place that any molecule of the part uses.
    n = int(valid.any(0).nonzero().max()) + 1
    m = n - tokens.prefix
    features = {
        name: value if name == "edge_ids" else value[rows, :m, :m] for name, value in tokens.pair.features.items()
    }
    pair = Pair(features, tokens.pair.index[rows, :n])
    cut = Tokens(tokens.x[rows, :n], valid[:, :n], pair=pair, prefix=tokens.prefix)
    return cut, None if bias is None else Dense(bias.b[rows, :, :n, :n])
